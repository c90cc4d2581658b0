"""Which DNS servers a rule redirects to the resolver, and for which names."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from acns.policy.model import DNSAllow, EndpointPolicy
from acns.policy.objects import EndpointSlice, NamedPort, Object, Pod, ServicePort
from acns.policy.resolve import problems

from .policy_world import (
    DNS,
    DNS_IP,
    DNS_LABELS,
    KUBE_DNS,
    N1,
    TCP,
    TO_KUBE_DNS,
    UDP,
    cluster,
    dns_rule,
    manifest,
    opened,
    pod,
    policy_of,
    servers,
    service,
    slice_of,
)

BACKEND = {(str(DNS), UDP, 53), (str(DNS), TCP, 53)}
CLUSTER_IP = {(str(DNS_IP), UDP, 53), (str(DNS_IP), TCP, 53)}
SECOND = IPv4Address("10.244.0.8")


def opening(policy: EndpointPolicy) -> list[DNSAllow]:
    """What plain L4 rules open on redirected servers."""
    return [dns for dns in policy.dns if not dns.redirects]


def messages(*texts: str, more: tuple[Object, ...] = ()) -> list[str]:
    return [problem.message for problem in problems(cluster(*texts, more=more))]


def plain(port: int, protocol: str = "UDP") -> str:
    return f'{TO_KUBE_DNS}  toPorts: [{{ports: [{{port: "{port}", protocol: {protocol}}}]}}]'


# --- redirection ---------------------------------------------------------------------------------------


def test_the_backend_and_the_cluster_ip_before_it_are_redirected() -> None:
    policy = policy_of("frontend", manifest(dns_rule("a.io")))
    assert servers(policy) == BACKEND | CLUSTER_IP
    assert [dns.names for dns in policy.dns] == [policy.dns[0].names]
    assert [name.key for name in policy.dns[0].names or ()] == ["name:a.io."]


def test_the_cluster_ip_has_the_identity_of_its_backends() -> None:
    (dns,) = policy_of("frontend", manifest(dns_rule("a.io"))).dns
    (identity,) = {server.identity for server in dns.servers.exact}
    assert "k8s:k8s-app=kube-dns" in identity
    assert "k8s:io.kubernetes.pod.namespace=kube-system" in identity
    assert "k8s:io.cilium.k8s.policy.serviceaccount=coredns" in identity


def test_a_dns_block_opens_no_other_traffic() -> None:
    assert opened(policy_of("frontend", manifest(dns_rule("a.io")))) == []


def test_only_the_protocol_of_the_rule_is_redirected() -> None:
    policy = policy_of("frontend", manifest(dns_rule("a.io", protocol="UDP")))
    assert servers(policy) == {(str(DNS), UDP, 53), (str(DNS_IP), UDP, 53)}


def test_the_port_of_a_rule_is_the_backends_port() -> None:
    dns = replace(KUBE_DNS, ports=(ServicePort("dns", "UDP", 53, 5353),))
    moved = (dns, slice_of(dns, [DNS]))
    assert servers(
        policy_of("frontend", manifest(dns_rule("a.io", port=5353, protocol="UDP")), more=moved)
    ) == {
        (str(DNS), UDP, 5353),
        (str(DNS_IP), UDP, 53),
    }
    assert servers(policy_of("frontend", manifest(dns_rule("a.io", protocol="UDP")), more=moved)) == {
        (str(DNS), UDP, 53)
    }


def test_each_port_of_a_service_has_its_own_backend_port() -> None:
    two = replace(KUBE_DNS, ports=(ServicePort("dns", "UDP", 53, 53), ServicePort("other", "UDP", 54, 9054)))
    policy = policy_of("frontend", manifest(dns_rule("a.io")), more=(two, slice_of(two, [DNS])))
    assert {port for address, _, port in servers(policy) if address == str(DNS_IP)} == {53}


def test_every_service_before_a_selected_backend_is_redirected() -> None:
    alias = service(
        "dns-alias", IPv4Address("10.96.0.11"), ServicePort("", "UDP", 9953, 53), namespace="other"
    )
    policy = policy_of("frontend", manifest(dns_rule("a.io")), more=(alias, slice_of(alias, [DNS])))
    assert ("10.96.0.11", UDP, 9953) in servers(policy)


def test_backends_may_come_in_several_slices() -> None:
    second = pod("dns-2", SECOND, namespace="kube-system", labels=DNS_LABELS, service_account="coredns")
    policy = policy_of(
        "frontend", manifest(dns_rule("a.io")), more=(second, slice_of(KUBE_DNS, [SECOND], "kube-dns-2"))
    )
    assert servers(policy) == BACKEND | CLUSTER_IP | {(str(SECOND), UDP, 53), (str(SECOND), TCP, 53)}


def test_a_server_that_is_not_there_is_no_server_and_opens_nothing() -> None:
    policy = policy_of("frontend", manifest(dns_rule("a.io").replace("kube-dns", "absent")))
    assert policy.egress.enforced
    assert policy.dns == policy.egress.allows == ()


# --- Services that cannot stand for their backends -----------------------------------------------------


def mixed_service(**labels: str) -> tuple[Pod, EndpointSlice]:
    second = pod("dns-2", SECOND, namespace="kube-system", labels=labels, service_account="coredns")
    return second, slice_of(KUBE_DNS, [DNS, SECOND])


def refusing(policy: EndpointPolicy) -> set[tuple[str, int, int]]:
    """The servers about which no rule can decide: redirected, and no name may be asked there."""
    none = [dns for dns in policy.dns if dns.names == ()]
    assert all(dns.redirects for dns in none)
    return {(str(one.address), one.protocol, one.port) for dns in none for one in dns.servers.exact}


def test_a_service_with_a_backend_that_is_not_selected_is_reported_and_answers_no_query() -> None:
    more = mixed_service(app="stranger")
    policy = policy_of("frontend", manifest(dns_rule("a.io")), more=more)
    assert servers(policy) == BACKEND | CLUSTER_IP
    assert refusing(policy) == CLUSTER_IP
    (message,) = messages(manifest(dns_rule("a.io")), more=more)
    assert message == (
        "Service kube-system/kube-dns cannot be a DNS server here: only some of its backends are selected"
    )


def test_nor_does_it_where_a_rule_without_ports_opens_a_backend() -> None:
    """Found by the oracle: its queries passed unseen."""
    rules = manifest(
        dns_rule("a.io") + "- toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system}}]"
    )
    assert refusing(policy_of("frontend", rules, more=mixed_service(app="stranger"))) == CLUSTER_IP


def test_a_rule_that_can_decide_about_a_service_does() -> None:
    able = dns_rule("b.io").replace("      k8s:k8s-app: kube-dns\n", "")
    assert able != dns_rule("b.io")
    policy = policy_of("frontend", manifest(dns_rule("a.io") + able), more=mixed_service(app="stranger"))
    assert refusing(policy) == set()
    asked = {
        name.key
        for dns in policy.dns
        if any(one.address == DNS_IP for one in dns.servers.exact)
        for name in dns.names or ()
    }
    assert asked == {"name:b.io."}


def test_a_service_whose_backends_have_different_identities_has_one_of_its_own() -> None:
    """A roll-out that changes a label must not take DNS away."""
    more = mixed_service(**DNS_LABELS, tier="b")
    policy = policy_of("frontend", manifest(dns_rule("a.io")), more=more)
    assert servers(policy) == BACKEND | CLUSTER_IP | {(str(SECOND), UDP, 53), (str(SECOND), TCP, 53)}
    assert messages(manifest(dns_rule("a.io")), more=more) == []
    (dns,) = policy.dns
    by_address = {server.address: server.identity for server in dns.servers.exact}
    assert by_address[DNS_IP] not in (by_address[DNS], by_address[SECOND])


@pytest.mark.parametrize(
    "label", ["pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/pod-name"]
)
def test_labels_that_are_no_part_of_an_identity_do_not_make_backends_differ(label: str) -> None:
    more = mixed_service(**DNS_LABELS, **{label: "7f9c"})
    assert servers(policy_of("frontend", manifest(dns_rule("a.io")), more=more)) >= CLUSTER_IP
    assert messages(manifest(dns_rule("a.io")), more=more) == []


# --- servers outside the cluster, any server -----------------------------------------------------------


def outside(peer: str, more: tuple[Object, ...] = (), port: int = 53) -> EndpointPolicy:
    block = f'{{ports: [{{port: "{port}", protocol: UDP}}], rules: {{dns: [{{matchName: a.io}}]}}}}'
    rule = f"- {peer}\n  toPorts: [{block}]"
    if peer == "":
        rule = rule.replace("- \n ", "-")
    return policy_of("frontend", manifest(rule), more=more)


def test_servers_by_cidr_are_networks_that_mean_no_pod() -> None:
    (dns,) = outside("toCIDR: [203.0.113.53/32, 10.0.0.0/8]").dns
    assert dns.servers.networks == (IPv4Network("10.0.0.0/8"), IPv4Network("203.0.113.53/32"))
    assert dns.servers.ports == {(UDP, 53)}
    assert dns.servers.outside_only
    assert dns.servers.exact == frozenset()


def test_the_world_is_every_address_outside() -> None:
    (dns,) = outside("toEntities: [world]").dns
    assert dns.servers.networks == (IPv4Network("0.0.0.0/0"),)
    assert dns.servers.outside_only


def test_the_host_as_dns_server_is_known_by_its_addresses() -> None:
    policy = outside("toEntities: [host]")
    assert servers(policy) == {(str(N1), UDP, 53)}
    assert {server.identity for dns in policy.dns for server in dns.servers.exact} == {"reserved:host"}


def test_dns_rules_without_a_peer_redirect_any_server() -> None:
    (dns,) = outside("").dns
    assert dns.servers.networks == (IPv4Network("0.0.0.0/0"),)
    assert not dns.servers.outside_only


def test_any_server_leaves_out_a_service_whose_backends_listen_on_another_port() -> None:
    """Policy judges the backend's port, so port 53 of this ClusterIP is not what the rule opens."""
    odd = replace(KUBE_DNS, ports=(ServicePort("dns", "UDP", 53, 5353),))
    (dns,) = outside("", more=(odd, slice_of(odd, [DNS]))).dns
    assert not any(DNS_IP in network for network in dns.servers.networks)
    assert sum(network.num_addresses for network in dns.servers.networks) == 2**32 - 1


def test_any_server_finds_a_service_by_its_backends_port() -> None:
    odd = replace(KUBE_DNS, ports=(ServicePort("dns", "UDP", 53, 5353),))
    policy = outside("", more=(odd, slice_of(odd, [DNS])), port=5353)
    assert servers(policy) == {(str(DNS_IP), UDP, 53)}


# --- plain rules beside DNS rules ----------------------------------------------------------------------


def test_a_plain_rule_for_the_same_server_and_port_opens_every_name_on_it() -> None:
    policy = policy_of("frontend", manifest(dns_rule("a.io") + plain(53)))
    assert servers(policy) == BACKEND | CLUSTER_IP
    (extra,) = opening(policy)
    assert extra.names is None
    assert {(str(s.address), s.protocol, s.port) for s in extra.servers.exact} == {
        (str(DNS), UDP, 53),
        (str(DNS_IP), UDP, 53),
    }


def test_so_does_one_from_another_policy_and_with_a_wider_selector() -> None:
    wide = manifest('- toPorts: [{ports: [{port: "53", protocol: ANY}]}]', name="wide")
    (extra,) = opening(policy_of("frontend", manifest(dns_rule("a.io")), wide))
    assert len(extra.servers.exact) == 4


@pytest.mark.parametrize(
    "rule",
    [
        plain(5353),
        plain(53, "SCTP"),
        plain(0),
        TO_KUBE_DNS,
        '- toEndpoints: [{matchLabels: {app: web}}]\n  toPorts: [{ports: [{port: "53"}]}]',
        '- toEntities: [world]\n  toPorts: [{ports: [{port: "53"}]}]',
        '- toCIDR: [10.0.0.0/8]\n  toPorts: [{ports: [{port: "53"}]}]',
    ],
    ids=["other port", "other protocol", "port 0", "no ports", "other pods", "world", "CIDR"],
)
def test_a_plain_rule_for_anything_else_opens_no_names(rule: str) -> None:
    assert opening(policy_of("frontend", manifest(dns_rule("a.io") + rule))) == []


def test_a_plain_rule_without_a_dns_rule_redirects_nothing() -> None:
    assert policy_of("frontend", manifest(plain(53))).dns == ()


def test_a_plain_rule_opens_the_common_part_of_two_networks() -> None:
    rules = """
- toCIDR: [203.0.113.0/24]
  toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]
- toCIDR: [203.0.113.64/26, 198.51.100.0/24]
  toPorts: [{ports: [{port: "53", protocol: UDP}]}]
"""
    (extra,) = opening(policy_of("frontend", manifest(rules)))
    assert extra.servers.networks == (IPv4Network("203.0.113.64/26"),)
    assert extra.servers.ports == {(UDP, 53)}


def test_a_plain_rule_for_pods_opens_them_and_their_services_among_any_server() -> None:
    anything = '- toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]\n'
    (extra,) = opening(policy_of("frontend", manifest(anything + plain(53))))
    assert {str(server.address) for server in extra.servers.exact} == {str(DNS), str(DNS_IP)}
    assert extra.servers.networks == ()


# --- servers that are denied ---------------------------------------------------------------------------


def denying(rule: str) -> str:
    """An egressDeny of its own."""
    return manifest(rule, name="deny").replace("egress:", "egressDeny:")


def test_a_denied_server_is_no_server_nor_is_the_cluster_ip_before_it() -> None:
    policy = policy_of("frontend", manifest(dns_rule("a.io")), denying(TO_KUBE_DNS))
    assert policy.dns == ()


def test_a_deny_of_one_protocol_leaves_the_other() -> None:
    rule = f'{TO_KUBE_DNS}  toPorts: [{{ports: [{{port: "53", protocol: UDP}}]}}]'
    policy = policy_of("frontend", manifest(dns_rule("a.io")), denying(rule))
    assert servers(policy) == {(str(DNS), TCP, 53), (str(DNS_IP), TCP, 53)}


@pytest.mark.parametrize(
    "rule",
    ["- toCIDR: [10.0.0.0/8]", "- toEntities: [world]", "- toEndpoints: [{matchLabels: {app: web}}]"],
)
def test_a_deny_of_somebody_else_leaves_the_servers_as_they_are(rule: str) -> None:
    undisturbed = policy_of("frontend", manifest(dns_rule("a.io"))).dns
    assert policy_of("frontend", manifest(dns_rule("a.io")), denying(rule)).dns == undisturbed


def test_a_service_with_one_denied_backend_is_reported_and_answers_no_query() -> None:
    more = mixed_service(**DNS_LABELS)
    second = replace(more[0], named_ports=(NamedPort("odd", "UDP", 53),))
    texts = manifest(dns_rule("a.io", protocol="UDP")), denying("- toPorts: [{ports: [{port: odd}]}]")
    policy = policy_of("frontend", *texts, more=(second, more[1]))
    assert servers(policy) == {(str(DNS), UDP, 53), (str(DNS_IP), UDP, 53)}
    assert refusing(policy) == {(str(DNS_IP), UDP, 53)}
    (problem,) = problems(cluster(*texts, more=(second, more[1])))
    assert not problem.warning
    assert "only some of its backends are denied" in problem.message


def test_any_server_leaves_out_a_cluster_ip_whose_backends_are_denied() -> None:
    anything = '- toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]'
    (dns,) = policy_of("frontend", manifest(anything), denying(TO_KUBE_DNS)).dns
    assert not any(DNS_IP in network for network in dns.servers.networks)


def test_what_a_plain_rule_opens_is_denied_too() -> None:
    anything = '- toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]\n'
    policy = policy_of("frontend", manifest(anything + plain(53)), denying(TO_KUBE_DNS))
    assert opening(policy) == []


# --- named ports ---------------------------------------------------------------------------------------


def test_each_server_has_the_number_that_its_own_pod_gives_the_port() -> None:
    ports = (NamedPort("dns", "UDP", 5300), NamedPort("dns", "TCP", 5301))
    named = pod("dns-9", SECOND, namespace="kube-system", labels=DNS_LABELS, named_ports=ports)
    rule = dns_rule("a.io").replace('"53"', "dns")
    policy = policy_of("frontend", manifest(rule), more=(named,))
    assert servers(policy) == {(str(SECOND), UDP, 5300), (str(SECOND), TCP, 5301)}
