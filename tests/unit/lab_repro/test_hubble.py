"""Names and labels of pods from flows as `hubble observe -o jsonpb` writes them."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from acns.errors import InputError
from lab.repro.importing import given

FLOW = {
    "flow": {
        "IP": {"source": "10.3.1.5", "destination": "198.51.100.1"},
        "source": {
            "namespace": "shop",
            "pod_name": "web",
            "labels": [
                "k8s:app=web",
                "k8s:io.kubernetes.pod.namespace=shop",
                "k8s:io.cilium.k8s.policy.cluster=x",
            ],
        },
        "destination": {"labels": ["reserved:world"]},
    },
    "node_name": "node1",
}


def test_pods_are_found_by_their_address(tmp_path: Path) -> None:
    path = tmp_path / "hubble.jsonl"
    path.write_text(f'{json.dumps(FLOW)}\nnot JSON\n{{"lost_events": {{}}}}\n[]\n{json.dumps(FLOW)}\n')
    [(address, pod)] = given.hubble_pods(path).items()
    assert (address, pod.name, pod.namespace, pod.labels) == (
        IPv4Address("10.3.1.5"),
        "web",
        "shop",
        {"app": "web"},
    )


def test_a_file_without_any_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="no flow in it names a pod"):
        given.hubble_pods(path)
    with pytest.raises(InputError, match="cannot be read"):
        given.hubble_pods(tmp_path / "none")
