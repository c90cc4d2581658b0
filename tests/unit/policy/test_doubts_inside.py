"""A CIDR that is the cluster's own addresses selects nobody, and is doubted."""

from __future__ import annotations

import pytest

from acns.errors import Problem

from .doubting import found, without_pods
from .policy_world import DNS_IP, N1, WEB, WEB_IP, manifest


def inside(*texts: str) -> list[Problem]:
    return [problem for problem in found(*texts) if problem.code == "cidr-inside-cluster"]


@pytest.mark.parametrize("address", [WEB, WEB_IP, N1], ids=["a pod's", "a ClusterIP", "a node's"])
def test_an_address_of_the_cluster_is_doubted_at_its_rule(address: object) -> None:
    (problem,) = inside(manifest(f"- toCIDR: [{address}/32]"))
    assert problem.line == 10
    assert problem.message == (
        f"a CIDR selects no pod, Service or node of the cluster, so it opens nothing at {address}/32"
    )
    assert problem.hint == "select pods by toEndpoints, Services by toServices, nodes by toEntities"


def test_of_several_those_are_named() -> None:
    (problem,) = inside(manifest(f"- toCIDR: [203.0.113.1/32, {WEB}/32, {DNS_IP}/32]"))
    assert problem.message.endswith(f"opens nothing at {WEB}/32, {DNS_IP}/32")


def test_so_is_one_that_is_denied_let_in_or_in_a_set() -> None:
    text = manifest(f"- toCIDRSet: [{{cidr: {WEB}/32}}]")
    assert inside(text)
    (problem,) = inside(text.replace("egress:", "egressDeny:"))
    assert "so it denies nothing at" in problem.message
    assert problem.hint == "select pods by toEndpoints, nodes by toEntities"
    (problem,) = inside(text.replace("egress:", "ingress:").replace("toCIDR", "fromCIDR"))
    assert problem.hint == "select pods by fromEndpoints, nodes by fromEntities"


def test_one_of_a_networkpolicy_has_the_hint_of_its_language() -> None:
    (problem,) = inside(
        f"""apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p, namespace: default}}
spec:
  podSelector: {{matchLabels: {{app: frontend}}}}
  policyTypes: [Egress]
  egress: [{{to: [{{ipBlock: {{cidr: {WEB}/32}}}}]}}]
"""
    )
    assert problem.hint == "select pods by podSelector and namespaceSelector"


@pytest.mark.parametrize(
    "peer",
    ["toCIDR: [10.0.0.0/8]", f"toCIDR: [{WEB}/31]", "toCIDR: [10.244.0.77/32]"],
    ids=["a network around it", "one address more", "nobody's address"],
)
def test_one_that_may_mean_somebody_outside_is_not(peer: str) -> None:
    assert inside(manifest(f"- {peer}")) == []


def test_nor_is_one_where_no_pod_is_known() -> None:
    assert without_pods(manifest(f"- toCIDR: [{WEB}/32]")) == []
