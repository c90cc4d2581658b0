"""What becomes of one packet under a node's policy."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from acns.dns import name as names
from acns.dns.pattern import match_name
from acns.policy.model import ICMP, EndpointPolicy, NodePolicy
from acns.policy.objects import Object
from acns.policy.traffic import Packet, packet
from acns.policy.verdict import Decision, egress_verdict, ingress_verdict, name_verdict, redirects

from .policy_world import (
    DNS,
    DNS_IP,
    FRONTEND,
    N1,
    N2,
    TCP,
    TO_KUBE_DNS,
    UDP,
    WEB,
    WEB_IP,
    dns_rule,
    manifest,
    node_of,
    pod,
)

OUTSIDE = IPv4Address("203.0.113.7")
HTTPS = packet(TCP, 443)
GRE: Packet = None
PING = ICMP(8)


def frontend(*texts: str, more: tuple[Object, ...] = ()) -> tuple[EndpointPolicy, NodePolicy]:
    node = node_of(*texts, more=more)
    return next(each for each in node.endpoints if each.endpoint.pod == "frontend"), node


def out(
    rule: str, to: IPv4Address, what: Packet = HTTPS, learned: dict[str, IPv4Address] | None = None
) -> Decision:
    found = {match_name(name): {address} for name, address in (learned or {}).items()}
    return egress_verdict(*frontend(manifest(rule)), to, what, found).decision


def into(rule: str, source: IPv4Address, what: Packet = HTTPS) -> Decision:
    text = manifest(" []").replace("egress: []", f"ingress: [{rule}]")
    return ingress_verdict(*frontend(text), source, what).decision


# --- decisions -----------------------------------------------------------------------------------------


def test_without_policy_everything_is_let_through_unenforced() -> None:
    verdict = egress_verdict(*frontend(), OUTSIDE, HTTPS, {})
    assert (verdict.decision, verdict.allowed, verdict.match) == (Decision.UNENFORCED, True, None)


def test_what_no_rule_matches_is_dropped() -> None:
    verdict = egress_verdict(*frontend(manifest("- toEntities: [host]")), OUTSIDE, HTTPS, {})
    assert (verdict.decision, verdict.allowed, verdict.match) == (Decision.UNMATCHED, False, None)


def test_the_rule_that_allows_is_named() -> None:
    policy, node = frontend(manifest("- toEntities: [host]\n- toEntities: [world]"))
    verdict = egress_verdict(policy, node, OUTSIDE, HTTPS, {})
    assert (verdict.decision, verdict.match) == (Decision.ALLOWED, policy.egress.allows[1])


def test_a_deny_beats_every_allow_and_is_named() -> None:
    deny = manifest("- toCIDR: [203.0.113.0/24]", name="deny").replace("egress:", "egressDeny:")
    policy, node = frontend(manifest("- toEntities: [all]"), deny)
    verdict = egress_verdict(policy, node, OUTSIDE, HTTPS, {})
    assert (verdict.decision, verdict.allowed) == (Decision.DENIED, False)
    assert verdict.match == policy.egress.denies[0]


def test_a_pod_reaches_itself_whatever_policy_says() -> None:
    closed = manifest(" [{}]\n  ingress: [{}]")
    assert egress_verdict(*frontend(closed), FRONTEND, HTTPS, {}).decision is Decision.ITSELF
    assert ingress_verdict(*frontend(closed), FRONTEND, HTTPS).decision is Decision.ITSELF


def test_a_node_reaches_its_own_pods_and_another_node_only_by_a_rule() -> None:
    assert into("{}", N1) is Decision.OWN_NODE
    assert into("{}", N2) is Decision.UNMATCHED
    assert into("{fromEntities: [remote-node]}", N2) is Decision.ALLOWED


@pytest.mark.parametrize("peers", ["all", "host", "cluster"])
def test_a_deny_stops_the_own_node_too(peers: str) -> None:
    policy, node = frontend(manifest("").replace("egress:", f"ingressDeny: [{{fromEntities: [{peers}]}}]"))
    assert ingress_verdict(policy, node, N1, HTTPS).decision is Decision.DENIED


def test_a_deny_for_others_does_not_stop_the_own_node() -> None:
    policy, node = frontend(manifest("").replace("egress:", "ingressDeny: [{fromEntities: [world]}]"))
    assert ingress_verdict(policy, node, N1, HTTPS).decision is Decision.OWN_NODE


# --- peers ---------------------------------------------------------------------------------------------

ALLOWED, UNMATCHED = Decision.ALLOWED, Decision.UNMATCHED


@pytest.mark.parametrize(
    ("peer", "to", "decision"),
    [
        ("toEntities: [all]", WEB, ALLOWED),
        ("toEntities: [world]", OUTSIDE, ALLOWED),
        ("toEntities: [world]", WEB, UNMATCHED),
        ("toEntities: [world]", N2, UNMATCHED),
        ("toEntities: [host]", N1, ALLOWED),
        ("toEntities: [host]", N2, UNMATCHED),
        ("toEntities: [cluster]", N2, ALLOWED),
        ("toEndpoints: [{matchLabels: {app: web}}]", WEB, ALLOWED),
        ("toEndpoints: [{matchLabels: {app: web}}]", DNS, UNMATCHED),
        ("toCIDR: [203.0.113.0/24]", OUTSIDE, ALLOWED),
        ("toCIDR: [198.51.100.0/24]", OUTSIDE, UNMATCHED),
        ("toCIDR: [0.0.0.0/0]", WEB, UNMATCHED),
        ("toCIDR: [0.0.0.0/0]", N1, UNMATCHED),
    ],
)
def test_a_peer_means_whom_it_names(peer: str, to: IPv4Address, decision: Decision) -> None:
    assert out(f"- {peer}", to) is decision


def test_a_name_means_its_learned_addresses_outside_the_cluster() -> None:
    rule = "- toFQDNs: [{matchName: a.io}]"
    assert out(rule, OUTSIDE) is UNMATCHED
    assert out(rule, OUTSIDE, learned={"a.io": OUTSIDE}) is ALLOWED
    assert out(rule, OUTSIDE, learned={"b.io": OUTSIDE}) is UNMATCHED
    assert out(rule, WEB, learned={"a.io": WEB}) is UNMATCHED


# --- traffic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "what", "decision"),
    [
        ('port: "443", protocol: TCP', HTTPS, ALLOWED),
        ('port: "443", protocol: UDP', HTTPS, UNMATCHED),
        ('port: "443", protocol: ANY', packet(132, 443), ALLOWED),
        ('port: "444", protocol: ANY', HTTPS, UNMATCHED),
        ('port: "400", endPort: 443', HTTPS, ALLOWED),
        ('port: "400", endPort: 442', HTTPS, UNMATCHED),
        ('port: "443", endPort: 500', HTTPS, ALLOWED),
        ('port: "0", protocol: TCP', HTTPS, ALLOWED),
        ('port: "0", protocol: UDP', HTTPS, UNMATCHED),
        ('port: "0"', HTTPS, ALLOWED),
        ('port: "0"', PING, UNMATCHED),
        ('port: "0"', GRE, UNMATCHED),
    ],
)
def test_ports_mean_what_they_say(ports: str, what: Packet, decision: Decision) -> None:
    assert out(f"- toPorts: [{{ports: [{{{ports}}}]}}]", OUTSIDE, what) is decision


@pytest.mark.parametrize("what", [HTTPS, PING, GRE])
def test_a_rule_without_ports_means_all_traffic(what: Packet) -> None:
    assert out("- toEntities: [world]", OUTSIDE, what) is ALLOWED


def test_icmp_is_allowed_by_type() -> None:
    rule = "- icmps: [{fields: [{type: 8}]}]"
    assert out(rule, OUTSIDE, PING) is ALLOWED
    assert out(rule, OUTSIDE, ICMP(0)) is UNMATCHED
    assert out(rule, OUTSIDE, HTTPS) is UNMATCHED


# --- DNS -----------------------------------------------------------------------------------------------

NAMED, OTHER = names.from_text("a.io"), names.from_text("b.io")
ANY_SERVER = '- toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]\n'
WORLD_SERVER = ANY_SERVER.replace("- toPorts", "- toEntities: [world]\n  toPorts")


@pytest.mark.parametrize("server", [DNS, DNS_IP])
def test_a_query_to_a_server_with_names_is_redirected_and_judged_by_its_name(server: IPv4Address) -> None:
    policy, node = frontend(manifest(dns_rule("a.io")))
    assert redirects(policy, node, server, UDP, 53) == policy.dns
    assert name_verdict(policy, node, server, UDP, 53, NAMED).allow == policy.dns[0]
    refused = name_verdict(policy, node, server, UDP, 53, OTHER)
    assert (refused.redirects, refused.allow) == (policy.dns, None)


@pytest.mark.parametrize(("server", "port"), [(DNS, 54), (WEB, 53), (OUTSIDE, 53)])
def test_a_query_to_anything_else_is_not_redirected(server: IPv4Address, port: int) -> None:
    verdict = name_verdict(*frontend(manifest(dns_rule("a.io"))), server, UDP, port, NAMED)
    assert (verdict.redirects, verdict.allow) == ((), None)


def test_a_plain_rule_opens_every_name_on_what_another_redirects() -> None:
    plain = f'{TO_KUBE_DNS}  toPorts: [{{ports: [{{port: "53", protocol: UDP}}]}}]'
    policy, node = frontend(manifest(dns_rule("a.io") + plain))
    opened = name_verdict(policy, node, DNS, UDP, 53, OTHER).allow
    assert opened is not None
    assert opened.origin.rule == 1
    assert name_verdict(policy, node, DNS, TCP, 53, OTHER).allow is None


@pytest.mark.parametrize(
    ("rule", "redirected"),
    [(ANY_SERVER, {OUTSIDE, WEB, DNS, DNS_IP, N1}), (WORLD_SERVER, {OUTSIDE})],
    ids=["any server", "the world's"],
)
def test_networks_of_servers_mean_the_outside_unless_any_server_is_meant(
    rule: str, redirected: set[IPv4Address]
) -> None:
    policy, node = frontend(manifest(rule))
    asked = (OUTSIDE, WEB, DNS, DNS_IP, N1)
    assert {each for each in asked if redirects(policy, node, each, UDP, 53)} == redirected


def test_a_service_that_is_no_server_is_not_redirected_among_any_server() -> None:
    policy, node = frontend(manifest(ANY_SERVER.replace("53", "80")))
    assert not redirects(policy, node, WEB_IP, TCP, 80)  # its backends listen on 8080


def test_a_denied_packet_is_not_redirected() -> None:
    deny = manifest("- toCIDR: [203.0.113.0/24]", name="deny").replace("egress:", "egressDeny:")
    policy, node = frontend(manifest(WORLD_SERVER), deny)
    assert not redirects(policy, node, OUTSIDE, UDP, 53)
    assert redirects(policy, node, IPv4Address("198.51.100.1"), UDP, 53)


def test_a_pods_own_server_is_not_redirected() -> None:
    policy, node = frontend(manifest(ANY_SERVER), more=(pod("frontend", FRONTEND),))
    assert not redirects(policy, node, FRONTEND, UDP, 53)
    elsewhere = replace(policy, endpoint=replace(policy.endpoint, address=WEB))
    assert redirects(elsewhere, node, FRONTEND, UDP, 53)
