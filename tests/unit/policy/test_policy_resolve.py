"""What a policy means on a node: who is enforced, and what is opened."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network

import pytest

from acns.policy.cluster import Cluster
from acns.policy.model import Addresses, CIDRs
from acns.policy.objects import Namespace, Pod
from acns.policy.resolve import resolve

from .policy_world import (
    BASE,
    DNS,
    FRONTEND,
    N1,
    N2,
    REMOTE_WEB,
    WEB,
    cluster,
    clusterwide,
    dns_rule,
    manifest,
    node_of,
    objects,
    opened,
    pod,
    policy_of,
)

ANYWHERE = "- toEntities: [all]"


def addresses(policy_text: str, **kwargs: object) -> frozenset[IPv4Address]:
    node = node_of(policy_text, **kwargs)  # type: ignore[arg-type]
    policy = next(each for each in node.endpoints if each.endpoint.pod == "frontend")
    peers = (match.peer for match in policy.egress.allows)
    return frozenset().union(*(node.groups[peer.key] for peer in peers if isinstance(peer, Addresses)))


def test_a_pod_that_no_policy_selects_is_unrestricted() -> None:
    legacy = policy_of("legacy", manifest(ANYWHERE))
    assert not legacy.egress.enforced
    assert legacy.egress.allows == legacy.dns == ()


def test_a_selecting_policy_turns_default_deny_on() -> None:
    assert policy_of("frontend", manifest(ANYWHERE)).egress.enforced


def test_only_pods_of_the_node_are_its_endpoints() -> None:
    assert [each.endpoint.key for each in resolve(cluster(), "n2").endpoints] == [
        "default/web-2",
        "kube-system/dns",
    ]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_is_no_endpoint_and_its_address_is_nobodys(phase: str) -> None:
    finished = pod("job", IPv4Address("10.244.0.9"), phase=phase)
    node = resolve(cluster(more=(finished,)), "n1")
    assert "default/job" not in [each.endpoint.key for each in node.endpoints]
    assert finished.pod_ip not in node.cluster_addresses


def test_the_address_of_a_finished_pod_belongs_to_the_pod_that_got_it_next() -> None:
    finished = pod("a-job", FRONTEND, phase="Succeeded")
    policy = policy_of("frontend", manifest(ANYWHERE), more=(finished,))
    assert policy.endpoint.address == FRONTEND
    assert policy.egress.enforced


def test_a_pending_pod_with_an_address_is_already_enforced() -> None:
    pending = pod("frontend", FRONTEND, phase="Pending")
    assert policy_of("frontend", manifest(ANYWHERE), more=(pending,)).egress.enforced


def test_a_host_network_pod_is_no_endpoint_and_no_toEndpoints_selects_it() -> None:
    hostnet = pod("agent", N1, labels={"app": "web"}, host_network=True)
    policy = manifest("- toEndpoints: [{matchLabels: {app: web}}]")
    assert "default/agent" not in [
        each.endpoint.key for each in resolve(cluster(more=(hostnet,)), "n1").endpoints
    ]
    assert addresses(policy, more=(hostnet,)) == {WEB, REMOTE_WEB}


def test_a_pod_without_an_address_is_no_endpoint() -> None:
    assert "default/new" not in [
        each.endpoint.key for each in resolve(cluster(more=(pod("new", None),)), "n1").endpoints
    ]


def test_rules_of_one_and_of_several_policies_add_up() -> None:
    one = manifest("- toCIDR: [198.51.100.0/24]\n- toEntities: [host]")
    two = manifest("- toCIDR: [203.0.113.7/32]", name="q")
    assert opened(policy_of("frontend", one, two)) == [
        ("cidr:198.51.100.0/24", "all"),
        ("entity:host", "all"),
        ("cidr:203.0.113.7/32", "all"),
    ]


def test_both_specs_of_a_policy_apply() -> None:
    text = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: two}
specs:
- endpointSelector: {matchLabels: {app: frontend}}
  egress: [{toEntities: [host]}]
- endpointSelector: {}
  egress: [{toEntities: [world]}]
"""
    assert opened(policy_of("frontend", text)) == [("entity:host", "all"), ("entity:world", "all")]
    assert opened(policy_of("legacy", text)) == [("entity:world", "all")]
    sections = {allow.origin.section for allow in policy_of("frontend", text).egress.allows}
    assert sections == {"specs[0].egress", "specs[1].egress"}


# --- empty and absent --------------------------------------------------------------------------------------


def test_an_empty_rule_denies_everything() -> None:
    policy = policy_of("frontend", manifest(" [{}]"))
    assert policy.egress.enforced
    assert policy.egress.allows == policy.dns == ()


def test_an_empty_toEndpoints_entry_is_every_pod_of_the_namespace_only() -> None:
    assert addresses(manifest("- toEndpoints: [{}]")) == {
        pod.pod_ip for pod in BASE if isinstance(pod, Pod) and pod.namespace == "default"
    }


def test_in_a_clusterwide_policy_an_empty_toEndpoints_entry_is_every_pod() -> None:
    assert addresses(clusterwide("- toEndpoints: [{}]")) == {
        pod.pod_ip for pod in BASE if isinstance(pod, Pod)
    }


@pytest.mark.parametrize("peer", ["toEndpoints", "toCIDR", "toEntities"])
def test_an_empty_list_of_peers_selects_nothing_even_with_ports(peer: str) -> None:
    policy = policy_of("frontend", manifest(f'- {peer}: []\n  toPorts: [{{ports: [{{port: "80"}}]}}]'))
    assert policy.egress.enforced
    assert policy.egress.allows == ()


def test_an_empty_list_of_peers_beside_another_peer_still_selects_nothing() -> None:
    assert policy_of("frontend", manifest("- toEndpoints: []\n  toEntities: [world]")).egress.allows == ()


def test_ports_without_a_peer_mean_any_destination() -> None:
    policy = policy_of("frontend", manifest('- toPorts: [{ports: [{port: "443", protocol: TCP}]}]'))
    assert opened(policy) == [("everything", "TCP/443")]


def test_an_absent_protocol_is_any() -> None:
    policy = policy_of("frontend", manifest('- toPorts: [{ports: [{port: "443"}]}]'))
    assert opened(policy) == [("everything", "ANY/443")]


def test_toFQDNs_without_ports_opens_all_traffic() -> None:
    policy = policy_of("frontend", manifest("- toFQDNs: [{matchName: API.Example.com}]"))
    assert opened(policy) == [("fqdn:name:api.example.com.", "all")]


def test_every_peer_of_a_rule_opens_every_port_of_it() -> None:
    rule = """
- toFQDNs: [{matchName: a.io}, {matchPattern: "*.b.io"}]
  toPorts:
  - ports: [{port: "80", protocol: TCP}, {port: "443", protocol: TCP}]
"""
    expected = itertools.product(["fqdn:name:a.io.", "fqdn:pattern:*.b.io."], ["TCP/80", "TCP/443"])
    assert sorted(opened(policy_of("frontend", manifest(rule)))) == sorted(expected)


def test_a_rule_of_ipv6_networks_alone_opens_nothing() -> None:
    rule = '- toCIDR: ["2001:db8::/32"]\n  toPorts: [{ports: [{port: "443"}]}]'
    assert policy_of("frontend", manifest(rule)).egress.allows == ()


def test_ipv6_networks_are_left_out_beside_ipv4_ones() -> None:
    policy = policy_of("frontend", manifest('- toCIDR: ["::/0", "0.0.0.0/0"]'))
    everywhere = CIDRs("cidr:0.0.0.0/0", (IPv4Network("0.0.0.0/0"),))
    assert [allow.peer for allow in policy.egress.allows] == [everywhere]


# --- selectors and entities --------------------------------------------------------------------------------


def test_toEndpoints_without_a_namespace_stays_in_the_policys_namespace() -> None:
    twin = pod("web-9", IPv4Address("10.244.0.9"), namespace="other", labels={"app": "web"})
    assert addresses(manifest("- toEndpoints: [{matchLabels: {app: web}}]"), more=(twin,)) == {
        WEB,
        REMOTE_WEB,
    }


def test_toEndpoints_that_names_a_namespace_reaches_there() -> None:
    rule = "- toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system}}]"
    assert addresses(manifest(rule)) == {DNS}


def test_toEndpoints_by_a_namespace_label_is_not_limited_to_the_policys_namespace() -> None:
    rule = """
- toEndpoints:
  - matchLabels: {io.cilium.k8s.namespace.labels.tier: infra}
"""
    assert addresses(manifest(rule), more=(Namespace("kube-system", {"tier": "infra"}),)) == {DNS}


def test_every_namespace_has_its_name_as_a_label() -> None:
    key = "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name"
    rule = f"- toEndpoints: [{{matchLabels: {{{key}: kube-system}}}}]"
    assert addresses(manifest(rule)) == {DNS}


def test_a_policy_applies_in_its_own_namespace_only() -> None:
    twin = pod("twin", IPv4Address("10.244.0.9"), namespace="other", labels={"app": "frontend"})
    assert not policy_of("twin", manifest(ANYWHERE), more=(twin,)).egress.enforced


def test_a_clusterwide_policy_applies_in_every_namespace() -> None:
    assert policy_of("dns", clusterwide(ANYWHERE), node="n2").egress.enforced


def test_entities_mean_what_they_say() -> None:
    def entity(name: str) -> frozenset[IPv4Address]:
        return addresses(manifest(f"- toEntities: [{name}]"))

    pods = {each.pod_ip for each in BASE if isinstance(each, Pod)}
    assert entity("cluster") == pods | {N1, N2}
    assert entity("remote-node") == {N2}
    assert entity("world") == entity("host") == entity("none") == frozenset()
    assert opened(policy_of("frontend", manifest("- toEntities: [cluster]"))) == [
        ("entity:cluster", "all"),
        ("entity:host", "all"),
    ]
    assert opened(policy_of("frontend", manifest("- toEntities: [none]"))) == []


def test_equal_selectors_have_one_key_whatever_way_they_are_written() -> None:
    labels = manifest("- toEndpoints: [{matchLabels: {app: web, tier: x}}]")
    expressions = manifest("""
- toEndpoints:
  - matchExpressions:
    - {key: tier, operator: In, values: [x]}
    - {key: app, operator: In, values: [web]}
""")
    assert opened(policy_of("frontend", labels)) == opened(policy_of("frontend", expressions))


# --- enableDefaultDeny -------------------------------------------------------------------------------------

NO_DENY = "enableDefaultDeny: {egress: false}"


def test_a_policy_that_opts_out_of_default_deny_leaves_everything_open_beside_its_rules() -> None:
    policy = policy_of("frontend", manifest("- toEntities: [host]", extra=NO_DENY))
    assert opened(policy) == [("entity:host", "all"), ("everything", "all")]


def test_its_rules_still_count_where_another_policy_denies() -> None:
    deny = manifest(" [{}]", name="deny")
    policy = policy_of("frontend", manifest("- toEntities: [host]", extra=NO_DENY), deny)
    assert opened(policy) == [("entity:host", "all")]


def test_with_dns_rules_it_sees_queries_and_denies_neither_names_nor_traffic() -> None:
    policy = policy_of("frontend", manifest(dns_rule("a.io"), extra=NO_DENY))
    assert ("everything", "all") in opened(policy)
    assert [(dns.redirects, dns.names) for dns in policy.dns] == [(True, None)]


def test_its_names_count_where_another_policy_denies() -> None:
    """Cilium asks whether the endpoint denies by default, not the policy with the names (l4_filter.go)."""
    deny = manifest(" [{}]", name="deny")
    (dns,) = policy_of("frontend", manifest(dns_rule("a.io"), extra=NO_DENY), deny).dns
    assert [name.key for name in dns.names or ()] == ["name:a.io."]


# --- the whole -----------------------------------------------------------------------------------------


def test_resolving_does_not_depend_on_the_order_of_objects() -> None:
    texts = [manifest(dns_rule("a.io")), manifest("- toEntities: [world]", name="q")]
    everything = [*BASE, *objects(*texts)]
    expected = resolve(Cluster.of(everything), "n1")
    assert resolve(Cluster.of(reversed(everything)), "n1") == expected


def test_the_node_knows_pods_nodes_and_service_addresses_apart() -> None:
    node = resolve(cluster(), "n1")
    assert node.cluster_addresses == {N1, N2} | {each.pod_ip for each in BASE if isinstance(each, Pod)}
    assert {str(address) for address in node.service_addresses} == {"10.96.0.10", "10.96.0.20"}
    assert node.node_addresses == {N1}


def test_every_rule_says_where_it_was_written() -> None:
    allow = policy_of("frontend", manifest("- toEntities: [host]\n- toEntities: [world]")).egress.allows[1]
    assert str(allow.origin) == "default/p egress[1] (p.yaml:11:5)"
