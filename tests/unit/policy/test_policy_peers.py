"""Whom the peers of a rule select: entities, networks, Services, pods by their named ports."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from acns.policy.model import Addresses, CIDRs, Direction, EndpointPolicy, NodePolicy
from acns.policy.objects import CIDRGroup, EndpointSlice, NamedPort, Node, Object, Pod, Service, SliceEndpoint

from .policy_world import (
    BASE,
    DNS,
    LEGACY,
    N1,
    N2,
    REMOTE_WEB,
    WEB,
    WEB_SERVICE,
    clusterwide,
    manifest,
    node_of,
    opened,
    pod,
    policy_of,
    slice_of,
)

OUTSIDE = IPv4Address("203.0.113.7")
PODS = frozenset(each.pod_ip for each in BASE if isinstance(each, Pod))


def frontend(node: NodePolicy) -> EndpointPolicy:
    return next(each for each in node.endpoints if each.endpoint.pod == "frontend")


def groups(rule: str, *more: Object, node: str = "n1") -> dict[str, frozenset[IPv4Address]]:
    """The groups that a rule of pod frontend names, with their members."""
    found = node_of(manifest(rule), node=node, more=more)
    peers = (match.peer for match in frontend(found).egress.allows)
    return {peer.key: found.groups[peer.key] for peer in peers if isinstance(peer, Addresses)}


def networks(rule: str, *more: Object) -> list[str]:
    """The networks that a rule of pod frontend opens."""
    peers = (match.peer for match in policy_of("frontend", manifest(rule), more=more).egress.allows)
    return [str(network) for peer in peers if isinstance(peer, CIDRs) for network in peer.networks]


# --- groups --------------------------------------------------------------------------------------------


def test_a_group_is_named_by_its_selector_and_its_members_stand_in_the_node_policy() -> None:
    key = "endpoints:any:app=web,k8s:io.kubernetes.pod.namespace=default"
    assert groups("- toEndpoints: [{matchLabels: {app: web}}]") == {key: {WEB, REMOTE_WEB}}


def test_a_selector_of_several_values_selects_the_pods_of_each() -> None:
    rule = "- toEndpoints: [{matchExpressions: [{key: app, operator: In, values: [web, legacy]}]}]"
    assert list(groups(rule).values()) == [{WEB, REMOTE_WEB, LEGACY}]


def test_a_policy_for_several_values_applies_to_the_pods_of_each() -> None:
    several = "{matchExpressions: [{key: app, operator: In, values: [web, legacy]}]}"
    enforced = node_of(manifest("- toEntities: [host]", selector=several)).endpoints
    assert [each.endpoint.pod for each in enforced if each.egress.enforced] == ["legacy", "web"]


def test_a_group_without_members_is_there_and_empty() -> None:
    assert list(groups("- toEndpoints: [{matchLabels: {app: nobody}}]").values()) == [frozenset()]


def test_only_groups_in_use_on_the_node_are_there() -> None:
    assert node_of(manifest("- toEndpoints: [{}]"), node="n2").groups == {}


# --- entities ------------------------------------------------------------------------------------------


def test_the_cluster_is_pods_and_nodes_the_own_one_under_any_address() -> None:
    assert groups("- toEntities: [cluster]") == {"entity:cluster": PODS | {N1, N2}}
    assert ("entity:host", "all") in opened(policy_of("frontend", manifest("- toEntities: [cluster]")))


def test_remote_nodes_are_all_but_the_own_one() -> None:
    assert groups("- toEntities: [remote-node]") == {"entity:remote-node": {N2}}


def test_the_api_servers_are_where_the_slices_of_their_service_say() -> None:
    more = EndpointSlice("default", "kubernetes", "kubernetes", (SliceEndpoint((OUTSIDE, N2)),))
    assert groups("- toEntities: [kube-apiserver]", more) == {"entity:kube-apiserver": {OUTSIDE, N2}}


@pytest.mark.parametrize("name", ["none", "health", "init", "unmanaged", "ingress", "world-ipv6"])
def test_an_entity_without_members_selects_nothing(name: str) -> None:
    policy = policy_of("frontend", manifest(f"- toEntities: [{name}]"))
    assert policy.egress.enforced
    assert opened(policy) == []


def test_the_world_of_ipv4_is_the_world() -> None:
    assert opened(policy_of("frontend", manifest("- toEntities: [world-ipv4]"))) == [("entity:world", "all")]


def test_a_selector_of_everything_selects_pods_only() -> None:
    found = node_of(clusterwide("- toEndpoints: [{}]"))
    assert list(found.groups.values()) == [PODS]


# --- networks ------------------------------------------------------------------------------------------


def test_what_except_names_is_taken_out() -> None:
    rule = "- toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.128.0.0/9, 10.0.0.0/10]}]"
    assert networks(rule) == ["10.64.0.0/10"]


def test_a_set_whose_whole_is_taken_out_selects_nothing() -> None:
    assert networks("- toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]") == []


def test_the_exception_of_one_set_takes_nothing_from_another() -> None:
    rule = "- toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/9]}, {cidr: 10.1.0.0/16}]"
    assert networks(rule) == ["10.128.0.0/9", "10.1.0.0/16"]


GROUP = CIDRGroup("ours", (IPv4Network("198.51.100.0/24"),), {"role": "partner"})
OTHER = CIDRGroup("theirs", (IPv4Network("203.0.113.0/24"),), {"role": "partner"})


def test_a_cidr_group_stands_for_its_networks() -> None:
    assert networks("- toCIDRSet: [{cidrGroupRef: ours}]", GROUP, OTHER) == ["198.51.100.0/24"]


def test_cidr_groups_are_selected_by_their_labels() -> None:
    rule = "- toCIDRSet: [{cidrGroupSelector: {matchLabels: {role: partner}}}]"
    assert networks(rule, GROUP, OTHER) == ["198.51.100.0/24", "203.0.113.0/24"]


def test_exceptions_hold_for_cidr_groups_too() -> None:
    rule = "- toCIDRSet: [{cidrGroupRef: ours, except: [198.51.100.128/25]}]"
    assert networks(rule, GROUP) == ["198.51.100.0/25"]


def test_an_unknown_cidr_group_selects_nothing() -> None:
    policy = policy_of("frontend", manifest("- toCIDRSet: [{cidrGroupRef: absent}]"), more=(GROUP,))
    assert policy.egress.enforced
    assert opened(policy) == []


# --- Services ------------------------------------------------------------------------------------------

SELECTING = replace(WEB_SERVICE, selector={"app": "web"}, labels={"expose": "yes"})
EXTERNAL = Service("default", "db", (IPv4Address("10.96.0.30"),))
EXTERNAL_SLICE = EndpointSlice("default", "db-1", "db", (SliceEndpoint((OUTSIDE,)),))
BY_NAME = "- toServices: [{k8sService: {serviceName: %s, namespace: default}}]"
BY_LABEL = "- toServices: [{k8sServiceSelector: {selector: {matchLabels: {expose: 'yes'}}}}]"


@pytest.mark.parametrize("rule", [BY_NAME % "web", BY_LABEL])
def test_a_service_with_a_selector_is_its_pods(rule: str) -> None:
    assert groups(rule, SELECTING) == {"service:default/web": {WEB, REMOTE_WEB}}


def test_its_pods_are_those_of_its_own_namespace() -> None:
    twin = pod("twin", IPv4Address("10.244.0.9"), namespace="other", labels={"app": "web"})
    assert groups(BY_NAME % "web", SELECTING, twin) == {"service:default/web": {WEB, REMOTE_WEB}}


def test_a_service_without_a_selector_is_the_networks_of_its_slices() -> None:
    assert networks(BY_NAME % "db", EXTERNAL, EXTERNAL_SLICE) == ["203.0.113.7/32"]


def test_a_service_that_is_not_there_selects_nothing() -> None:
    assert opened(policy_of("frontend", manifest(BY_NAME % "absent"))) == []


def test_services_combine_with_ports() -> None:
    rule = BY_NAME % "web" + "\n  toPorts: [{ports: [{port: '8080', protocol: TCP}]}]"
    policy = policy_of("frontend", manifest(rule), more=(SELECTING,))
    assert opened(policy) == [("service:default/web", "TCP/8080")]


# --- named ports ---------------------------------------------------------------------------------------


def http(number: int, protocol: str = "TCP") -> tuple[NamedPort, ...]:
    return (NamedPort("http", protocol, number),)


WEB_POD = pod("web", WEB, labels={"app": "web"}, named_ports=http(8080))
WEB_POD_2 = pod("web-2", REMOTE_WEB, "n2", labels={"app": "web"}, named_ports=http(9090))
TO_HTTP = "  toPorts: [{ports: [{port: http}]}]"
TO_WEB_HTTP = f"- toEndpoints: [{{matchLabels: {{app: web}}}}]\n{TO_HTTP}"
KEY = "endpoints:any:app=web,k8s:io.kubernetes.pod.namespace=default"


def test_on_egress_each_pod_is_opened_at_its_own_number() -> None:
    more = (WEB_POD, WEB_POD_2)
    assert opened(policy_of("frontend", manifest(TO_WEB_HTTP), more=more)) == [
        (f"{KEY} with http/TCP=8080", "TCP/8080"),
        (f"{KEY} with http/TCP=9090", "TCP/9090"),
    ]
    assert groups(TO_WEB_HTTP, *more) == {
        f"{KEY} with http/TCP=8080": {WEB},
        f"{KEY} with http/TCP=9090": {REMOTE_WEB},
    }


def test_a_pod_that_the_peer_does_not_select_is_not_opened_at_its_port() -> None:
    stranger = pod("api", IPv4Address("10.244.0.9"), named_ports=http(8080))
    twin = replace(WEB_POD, namespace="other", pod_ip=IPv4Address("10.244.0.10"))
    assert groups(TO_WEB_HTTP, WEB_POD, stranger, twin) == {f"{KEY} with http/TCP=8080": {WEB}}


def test_a_named_port_without_a_peer_means_all_pods_that_have_it() -> None:
    other = pod("api", IPv4Address("10.244.0.9"), named_ports=http(8080))
    found = groups(f"-{TO_HTTP[1:]}", WEB_POD, other)
    assert found == {"everything with http/TCP=8080": {WEB, other.pod_ip}}


def test_the_protocol_of_the_rule_is_the_ports_too() -> None:
    rule = TO_WEB_HTTP.replace("port: http", "port: http, protocol: UDP")
    assert groups(rule, WEB_POD, replace(WEB_POD_2, named_ports=http(53, "UDP"))) == {
        f"{KEY} with http/UDP=53": {REMOTE_WEB}
    }


@pytest.mark.parametrize(
    "peer",
    [
        "toCIDR: [10.0.0.0/8]",
        "toEntities: [world]",
        "toEntities: [host]",
        "toEntities: [kube-apiserver]",
        "toFQDNs: [{matchName: a.io}]",
    ],
)
def test_who_is_no_pod_has_no_named_ports(peer: str) -> None:
    api = EndpointSlice("default", "kubernetes", "kubernetes", (SliceEndpoint((WEB,)),))
    assert opened(policy_of("frontend", manifest(f"- {peer}\n{TO_HTTP}"), more=(WEB_POD, api))) == []


def test_on_ingress_the_endpoints_own_containers_say_the_number() -> None:
    rule = manifest(" []", selector="{}").replace(
        "egress: []", "ingress: [{toPorts: [{ports: [{port: http}]}]}]"
    )
    two = replace(WEB_POD, named_ports=(*http(8080), *http(8081), *http(53, "UDP")))

    def ports(name: str) -> list[str]:
        policy = policy_of(name, rule, more=(two,))
        assert policy.ingress.enforced
        return [traffic for _, traffic in opened(policy, Direction.INGRESS)]

    assert ports("web") == ["TCP/8080", "TCP/8081", "UDP/53"]
    assert ports("frontend") == []


def test_a_port_of_no_known_protocol_is_nobodys() -> None:
    odd = replace(WEB_POD, named_ports=http(80, "QUIC"))
    assert opened(policy_of("frontend", manifest(TO_WEB_HTTP), more=(odd,))) == []


# --- whose an address is ---------------------------------------------------------------------------------

CIDR = (IPv4Network("10.244.0.0/24"),)
GATEWAY, REMOTE_GATEWAY = IPv4Address("10.244.0.1"), IPv4Address("10.244.1.1")


def test_the_first_address_of_a_nodes_pod_range_is_the_nodes() -> None:
    nodes = Node("n1", (N1,), pod_cidrs=CIDR), Node("n2", (N2,), pod_cidrs=(IPv4Network("10.244.1.0/24"),))
    found = node_of(more=nodes)
    assert found.node_addresses == {N1, GATEWAY}
    assert {GATEWAY, REMOTE_GATEWAY} <= found.cluster_addresses
    assert groups("- toEntities: [remote-node]", *nodes) == {"entity:remote-node": {N2, REMOTE_GATEWAY}}


def test_unless_a_pod_has_it() -> None:
    node = Node("n1", (N1,), pod_cidrs=CIDR)
    assert node_of(more=(node, pod("first", GATEWAY))).node_addresses == {N1}


@pytest.mark.parametrize("length", [31, 32])
def test_a_range_too_small_for_a_gateway_has_none(length: int) -> None:
    node = Node("n1", (N1,), pod_cidrs=(IPv4Network(f"10.244.0.8/{length}"),))
    assert node_of(more=(node,)).node_addresses == {N1}


def test_two_local_pods_with_one_address_may_neither_send_nor_receive() -> None:
    twin = pod("a-twin", WEB, labels={"app": "twin"})
    policy = policy_of("a-twin", more=(twin,))
    assert policy.endpoint.address == WEB
    for direction in (policy.egress, policy.ingress):
        assert direction.enforced
        assert direction.allows == ()
    assert "default/web" not in [each.endpoint.key for each in node_of(more=(twin,)).endpoints]


def test_a_claim_from_another_node_leaves_the_local_pod_its_policy() -> None:
    far = pod("far", WEB, "n2", labels={"app": "far"})
    rule = manifest("- toEntities: [host]", selector="{matchLabels: {app: web}}")
    assert opened(policy_of("web", rule, more=(far,))) == [("entity:host", "all")]


def test_a_selector_selects_a_claimed_address_only_if_it_matches_all_claimants() -> None:
    twin = pod("twin", WEB, "n2", labels={"app": "twin"})
    assert list(groups("- toEndpoints: [{matchLabels: {app: web}}]", twin).values()) == [{REMOTE_WEB}]
    every = groups("- toEndpoints: [{}]", twin)
    assert all(WEB in members for members in every.values())


def test_dns_servers_and_pods_of_one_address_are_known_as_cluster_addresses() -> None:
    assert DNS in node_of().cluster_addresses
    assert slice_of(WEB_SERVICE, [WEB]).service == "web"
