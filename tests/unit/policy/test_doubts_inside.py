"""A CIDR that is the cluster's own addresses selects nobody, and is doubted."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from acns.errors import Problem
from acns.policy.objects import CIDRGroup, Object, ServicePort

from .doubting import found, without_pods
from .policy_world import DNS_IP, N1, N2, WEB, WEB_IP, manifest, service, slice_of

API_IP = IPv4Address("10.96.0.1")
KUBERNETES = service("kubernetes", API_IP, ServicePort("https", "TCP", 443, 6443))
API = (KUBERNETES, slice_of(KUBERNETES, [N1]))
API_BY_ENTITY = "select the API server by toEntities: [kube-apiserver]"


NETWORK_POLICY = """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p, namespace: default}}
spec:
  podSelector: {{matchLabels: {{app: frontend}}}}
  policyTypes: [Egress]
  egress: [{{to: [{{ipBlock: {{cidr: {address}/32}}}}]}}]
"""


def inside(*texts: str, more: tuple[Object, ...] = ()) -> list[Problem]:
    return [problem for problem in found(*texts, more=more) if problem.code == "cidr-inside-cluster"]


@pytest.mark.parametrize("address", [WEB, WEB_IP, N1], ids=["a pod's", "a ClusterIP", "a node's"])
def test_an_address_of_the_cluster_is_doubted_at_its_rule(address: object) -> None:
    (problem,) = inside(manifest(f"- toCIDR: [{address}/32]"))
    assert problem.line == 10
    assert problem.message == (
        f"a CIDR selects no pod, Service or node of the cluster, so it opens nothing at {address}/32"
    )


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        (WEB, "select pods by toEndpoints"),
        (WEB_IP, "select Services by toServices"),
        (N2, "select nodes by toEntities"),
        (N1, API_BY_ENTITY),
        (API_IP, API_BY_ENTITY),
    ],
    ids=["a pod's", "a ClusterIP", "a node's", "the API server's", "the API server's ClusterIP"],
)
def test_the_hint_says_what_selects_those_who_have_it(address: object, hint: str) -> None:
    (problem,) = inside(manifest(f"- toCIDR: [{address}/32]"), more=API)
    assert problem.hint == hint


def test_of_several_those_are_named() -> None:
    (problem,) = inside(manifest(f"- toCIDR: [203.0.113.1/32, {WEB}/32, {DNS_IP}/32]"))
    assert problem.message.endswith(f"opens nothing at {WEB}/32, {DNS_IP}/32")


def test_so_is_one_that_is_denied_let_in_or_in_a_set() -> None:
    text = manifest(f"- toCIDRSet: [{{cidr: {WEB}/32}}]")
    assert inside(text)
    (problem,) = inside(text.replace("egress:", "egressDeny:"))
    assert "so it denies nothing at" in problem.message
    assert problem.hint == "select pods by toEndpoints"
    (problem,) = inside(text.replace("egress:", "ingress:").replace("toCIDR", "fromCIDR"))
    assert problem.hint == "select pods by fromEndpoints"


@pytest.mark.parametrize("section", ["egressDeny", "ingress"])
def test_where_no_Service_can_be_named_its_pods_are(section: str) -> None:
    to = "to" if section == "egressDeny" else "from"
    text = manifest(f"- {to}CIDR: [{WEB_IP}/32]").replace("egress:", f"{section}:")
    (problem,) = inside(text)
    assert problem.hint == f"select Services' pods by {to}Endpoints"


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        (WEB, "select pods by podSelector and namespaceSelector"),
        (WEB_IP, "select Services' pods by podSelector and namespaceSelector"),
        (N2, "select nodes by toEntities in a CiliumNetworkPolicy"),
        (N1, f"{API_BY_ENTITY} in a CiliumNetworkPolicy"),
    ],
    ids=["a pod's", "a ClusterIP", "a node's", "the API server's"],
)
def test_one_of_a_networkpolicy_has_the_hint_of_its_language(address: object, hint: str) -> None:
    text = NETWORK_POLICY.format(address=address)
    (problem,) = inside(text, more=API)
    assert problem.hint == hint


def test_the_api_server_by_entity_wants_its_endpoints_known() -> None:
    text = manifest(f"- toCIDR: [{API_IP}/32]")
    (problem,) = inside(text, more=(KUBERNETES,))
    missing = "which needs the EndpointSlices of Service default/kubernetes among the files"
    assert problem.hint == f"{API_BY_ENTITY} ({missing})"


OUTSIDE = service("outside", IPv4Address("10.96.0.30"), ServicePort("", "TCP", 80, 8080))


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("egress", "select Services by toServices"),
        ("egressDeny", "select Services' endpoints outside the cluster by toCIDR"),
        ("ingress", "select Services' endpoints outside the cluster by fromCIDR"),
    ],
)
def test_a_service_whose_endpoints_are_outside_has_no_pods_to_select(section: str, hint: str) -> None:
    side = "from" if section == "ingress" else "to"
    text = manifest(f"- {side}CIDR: [10.96.0.30/32]").replace("egress:", f"{section}:")
    (problem,) = inside(text, more=(OUTSIDE, slice_of(OUTSIDE, [IPv4Address("203.0.113.7")])))
    assert problem.hint == hint


def test_nor_has_it_any_for_a_networkpolicy() -> None:
    text = NETWORK_POLICY.format(address="10.96.0.30")
    (problem,) = inside(text, more=(OUTSIDE, slice_of(OUTSIDE, [IPv4Address("203.0.113.7")])))
    assert problem.hint == "select Services' endpoints outside the cluster by ipBlock"


def test_one_with_endpoints_of_both_kinds_has_both_hints() -> None:
    text = manifest("- toCIDR: [10.96.0.30/32]").replace("egress:", "egressDeny:")
    (problem,) = inside(text, more=(OUTSIDE, slice_of(OUTSIDE, [WEB, IPv4Address("203.0.113.7")])))
    assert problem.hint == (
        "select Services' pods by toEndpoints, Services' endpoints outside the cluster by toCIDR"
    )


GROUP = CIDRGroup("group", tuple(map(IPv4Network, (f"{WEB}/32", f"{N1}/32", "203.0.113.1/32"))))


def test_those_of_a_group_are_doubted_by_its_name() -> None:
    (problem,) = inside(manifest("- toCIDRSet: [{cidrGroupRef: group}]"), more=(GROUP,))
    assert problem.line == 10
    assert problem.message.endswith(f"opens nothing at {WEB}/32, {N1}/32 (CiliumCIDRGroup 'group')")
    assert problem.hint == "select pods by toEndpoints, nodes by toEntities"


def test_those_that_are_excepted_of_a_group_are_not() -> None:
    text = manifest(f"- toCIDRSet: [{{cidrGroupRef: group, except: [{WEB}/32, {N1}/32]}}]")
    assert inside(text, more=(GROUP,)) == []


@pytest.mark.parametrize(
    "peer",
    ["toCIDR: [10.0.0.0/8]", f"toCIDR: [{WEB}/31]", "toCIDR: [10.244.0.77/32]"],
    ids=["a network around it", "one address more", "nobody's address"],
)
def test_one_that_may_mean_somebody_outside_is_not(peer: str) -> None:
    assert inside(manifest(f"- {peer}")) == []


def test_nor_is_one_where_no_pod_is_known() -> None:
    assert without_pods(manifest(f"- toCIDR: [{WEB}/32]")) == []


# --- what `except` leaves -------------------------------------------------------------------------------


def all_but(address: IPv4Address, network: str) -> str:
    """An entry of toCIDRSet that leaves this one address of the network."""
    excepted = IPv4Network(network).address_exclude(IPv4Network(address))
    return f"{{cidr: {network}, except: [{', '.join(map(str, excepted))}]}}"


@pytest.mark.parametrize("network", ["10.0.0.0/8", "0.0.0.0/0"])
def test_a_large_network_of_which_one_pod_is_left_is_doubted_at_once(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(network: IPv4Network) -> Iterator[IPv4Address]:
        assert network.num_addresses < 100, f"all of {network} is gone through"
        return (network[number] for number in range(network.num_addresses))

    monkeypatch.setattr(IPv4Network, "__iter__", counted)
    (problem,) = inside(manifest(f"- toCIDRSet: [{all_but(WEB, network)}]"))
    assert problem.message.endswith(f"opens nothing at {network}")
    assert problem.hint == "select pods by toEndpoints"


def test_the_hint_names_nothing_that_is_excepted() -> None:
    text = manifest(f"- toCIDRSet: [{{cidr: {WEB}/31, except: [10.244.0.5/32]}}]")
    (problem,) = inside(text, more=(service("s", IPv4Address("10.244.0.5")),))
    assert problem.hint == "select pods by toEndpoints"


AROUND = CIDRGroup("around", (IPv4Network("203.0.113.0/24"), IPv4Network("10.244.0.4/30")))
BUT_WEB = "except: [10.244.0.5/32, 10.244.0.6/31]"


def test_what_is_left_of_a_groups_network_is_doubted_as_of_any_other() -> None:
    alone = inside(manifest(f"- toCIDRSet: [{{cidr: 10.244.0.4/30, {BUT_WEB}}}]"))
    assert [problem.message.endswith("opens nothing at 10.244.0.4/30") for problem in alone] == [True]
    (problem,) = inside(manifest(f"- toCIDRSet: [{{cidrGroupRef: around, {BUT_WEB}}}]"), more=(AROUND,))
    assert problem.message.endswith("opens nothing at 10.244.0.4/30 (CiliumCIDRGroup 'around')")
    assert problem.hint == "select pods by toEndpoints"


def test_of_a_groups_network_of_which_others_are_left_too_nothing_is_said() -> None:
    text = manifest("- toCIDRSet: [{cidrGroupRef: around, except: [10.244.0.5/32]}]")
    assert inside(text, more=(AROUND,)) == []
