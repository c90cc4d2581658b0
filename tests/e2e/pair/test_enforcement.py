"""Which directions of a pod are enforced: by its policies, or by the node's setting, whatever they say."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.runtime.lab import Lab
from lab.spec.topology import Topology

pytestmark = pytest.mark.root

POLICIES = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: out, namespace: default}
spec:
  endpointSelector: {matchLabels: {out: limited}}
  egress:
  - toCIDR: [203.0.113.53/32]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: in, namespace: default}
spec:
  podSelector: {matchLabels: {in: limited}}
  policyTypes: [Ingress]
  ingress: []
"""
LABELS: dict[str, dict[str, str]] = {
    "free": {},
    "sender": {"out": "limited"},
    "receiver": {"in": "limited"},
    "pair": {"out": "limited", "in": "limited"},
}
MODES = ("default", "always", "never")
OUTSIDE = "198.51.100.10"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A node for each mode, with the same pods on each."""
    pods = [
        {"name": f"{name}-{mode}", "node": mode, "labels": labels}
        for mode in MODES
        for name, labels in LABELS.items()
    ]
    expected = [
        ("free-default", "connects"),
        ("sender-default", "blocked"),
        ("receiver-default", "connects"),
        ("free-always", "blocked"),
        ("sender-always", "blocked"),
        ("free-never", "connects"),
        ("sender-never", "connects"),
    ]
    topology = Topology.model_validate(
        {
            "name": "enforcement",
            "nodes": [{"name": mode, "shim": {"enforcement": mode}} for mode in MODES],
            "pods": pods,
            "internet": {"names": {"api.example.com": {"a": [OUTSIDE]}}},
            "policies": [{"inline": POLICIES}],
            "expect": [f"{pod} {verb} {OUTSIDE}:443" for pod, verb in expected],
        }
    )
    running = Lab.up(topology, name=f"t{os.getpid()}-enforcement")
    try:
        yield running
    finally:
        running.down()


@pytest.mark.parametrize(
    ("mode", "enforced"),
    [
        ("default", {"free": "none", "sender": "egress", "receiver": "ingress", "pair": "both"}),
        ("always", dict.fromkeys(LABELS, "both")),
        ("never", dict.fromkeys(LABELS, "none")),
    ],
)
def test_every_pods_directions_are_told(lab: Lab, mode: str, enforced: dict[str, str]) -> None:
    said = {pod.name.removesuffix(f"-{mode}"): pod.enforced for pod in lab.status().pods if pod.node == mode}
    assert said == enforced


def test_packets_go_by_the_mode(lab: Lab) -> None:
    assert [row for row in lab.check() if not row.ok] == []
