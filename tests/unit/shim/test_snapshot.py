"""The snapshot that the resolver gets says who may ask which server for which names."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.api.ledger_file import Terms
from acns.dns import name as names
from acns.dns.pattern import match_name, match_pattern
from acns.policy.model import (
    DirectionPolicy,
    DNSAllow,
    DNSServers,
    Endpoint,
    EndpointPolicy,
    NodePolicy,
    Origin,
    ServerAddress,
)
from acns.shim.ledger import Ledger
from acns.shim.snapshot import Snapshots

TERMS = Terms(min_ttl_s=0, margin_s=60)
ORIGIN = Origin("default/p", "egress", 0, "p.yaml", 1, 1)
DNS_POD = "k8s:k8s-app=kube-dns"
UDP, TCP = 17, 6
CLUSTER_IP, BACKEND = IPv4Address("10.96.0.10"), IPv4Address("10.244.0.9")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.log", TERMS)


FRONTEND = Endpoint("default", "frontend", IPv4Address("10.244.0.2"), frozenset({"k8s:app=frontend"}))
LEGACY = EndpointPolicy(
    Endpoint("default", "legacy", IPv4Address("10.244.0.3"), frozenset({"k8s:app=legacy"}))
)
ENFORCED = DirectionPolicy(enforced=True)


def node(*dns: DNSAllow, others: tuple[EndpointPolicy, ...] = (LEGACY,)) -> NodePolicy:
    return NodePolicy(
        "node1",
        (EndpointPolicy(FRONTEND, ENFORCED, dns=dns), *others),
        cluster_addresses=frozenset(),
        service_addresses=frozenset({CLUSTER_IP}),
        node_addresses=frozenset(),
    )


def snapshot(policy: NodePolicy, ledger: Ledger) -> pb.PolicyState:
    made = Snapshots(ledger)
    made.prepare(policy)
    return made.state()


def outside(*networks: str, only: bool = True) -> DNSServers:
    return DNSServers(
        "outside", networks=tuple(map(IPv4Network, networks)), ports=frozenset({(UDP, 53)}), outside_only=only
    )


def identities(policy: pb.DNSPolicy) -> set[int]:
    return {server.dns_server_identity for server in policy.dns_servers}


def prefixes(state: pb.PolicyState) -> dict[bytes, int]:
    return {prefix: entry.identity for entry in state.identity_to_prefix_mapping for prefix in entry.prefix}


def test_a_service_and_its_backend_stand_under_the_backends_identity(ledger: Ledger) -> None:
    servers = DNSServers(
        "kube-dns",
        exact=frozenset(
            {ServerAddress(CLUSTER_IP, UDP, 53, DNS_POD), ServerAddress(BACKEND, UDP, 5353, DNS_POD)}
        ),
    )
    selectors = (match_name("api.example.com"), match_pattern("*.example.net"))
    state = snapshot(node(DNSAllow(servers, selectors, True, ORIGIN)), ledger)
    (policy,) = state.egress_l7_dns_policy
    identity = ledger.identities.number(DNS_POD)
    assert {(s.dns_server_identity, s.dns_server_port, s.dns_server_proto) for s in policy.dns_servers} == {
        (identity, 53, UDP),
        (identity, 5353, UDP),
    }
    assert list(policy.dns_pattern) == ["*.example.net.", "api.example.com."]
    assert prefixes(state) == {CLUSTER_IP.packed + b"\x20": identity, BACKEND.packed + b"\x20": identity}


def test_every_endpoint_of_the_node_is_known_by_its_raw_address(ledger: Ledger) -> None:
    state = snapshot(node(), ledger)
    infos = [info for entry in state.identity_to_endpoint_mapping for info in entry.endpoint_info]
    assert {bytes(ip) for info in infos for ip in info.ip} == {bytes([10, 244, 0, 2]), bytes([10, 244, 0, 3])}
    assert len({info.id for info in infos}) == 2


def test_a_plain_l4_rule_is_a_rule_without_patterns(ledger: Ledger) -> None:
    servers = DNSServers("x", exact=frozenset({ServerAddress(BACKEND, UDP, 53, DNS_POD)}))
    state = snapshot(node(DNSAllow(servers, None, False, ORIGIN)), ledger)
    assert list(state.egress_l7_dns_policy[0].dns_pattern) == []


def test_a_wide_cidr_also_lists_the_narrower_ones_inside_it(ledger: Ledger) -> None:
    wide = DNSAllow(outside("8.8.0.0/16"), None, True, ORIGIN)
    narrow = DNSAllow(outside("8.8.8.8/32"), (match_name("a.example.com"),), True, ORIGIN)
    state = snapshot(node(wide, narrow), ledger)
    by_prefix = prefixes(state)
    assert identities(state.egress_l7_dns_policy[0]) == set(by_prefix.values())
    assert identities(state.egress_l7_dns_policy[1]) == {by_prefix[bytes([8, 8, 8, 8, 32])]}


def test_world_is_the_reserved_identity_and_every_known_cidr(ledger: Ledger) -> None:
    world = DNSAllow(outside("0.0.0.0/0"), None, True, ORIGIN)
    cidr = DNSAllow(outside("8.8.8.8/32"), None, True, ORIGIN)
    state = snapshot(node(world, cidr), ledger)
    assert identities(state.egress_l7_dns_policy[0]) == {2, *prefixes(state).values()}


def test_a_service_is_no_cidrs_that_names_its_very_address(ledger: Ledger) -> None:
    inside = DNSServers("kube-dns", exact=frozenset({ServerAddress(CLUSTER_IP, UDP, 53, DNS_POD)}))
    names_of_each = (match_name("api.example.com"),), (match_name("www.example.com"),)
    by_pod, by_cidr = (
        DNSAllow(servers, selectors, True, ORIGIN)
        for servers, selectors in zip((inside, outside(f"{CLUSTER_IP}/32")), names_of_each, strict=True)
    )
    table = codec.policy_table(snapshot(node(by_pod, by_cidr), ledger))
    asked = table.names_for(table.endpoint_of(FRONTEND.address.packed) or 0, CLUSTER_IP.packed, 53, UDP)
    assert asked.allow(names.from_text("api.example.com"))
    assert not asked.allow(names.from_text("www.example.com"))


def test_any_server_is_identity_zero(ledger: Ledger) -> None:
    anywhere = DNSAllow(outside("0.0.0.0/0", only=False), None, True, ORIGIN)
    state = snapshot(node(anywhere), ledger)
    assert identities(state.egress_l7_dns_policy[0]) == {0}


@pytest.mark.parametrize("inside", [IPv4Address("172.18.0.9"), IPv4Address("10.244.7.7"), CLUSTER_IP])
def test_what_the_world_may_be_asked_no_pod_node_or_service_may(inside: IPv4Address, ledger: Ledger) -> None:
    anywhere = DNSAllow(outside("0.0.0.0/0", only=False), (match_name("a.example.com"),), True, ORIGIN)
    world = DNSAllow(outside("0.0.0.0/0"), None, False, ORIGIN)
    policy = replace(node(anywhere, world), cluster_addresses=frozenset({inside} - {CLUSTER_IP}))
    table = codec.policy_table(snapshot(policy, ledger))
    endpoint = table.endpoint_of(FRONTEND.address.packed)
    assert endpoint is not None

    def allowed(server: IPv4Address, name: str) -> bool:
        return table.allowed(endpoint, server.packed, 53, UDP, names.from_text(name))

    assert allowed(IPv4Address("8.8.8.8"), "b.example.com")
    assert allowed(inside, "a.example.com")
    assert not allowed(inside, "b.example.com")


def test_what_changed_is_made_anew_and_the_rest_says_the_same(ledger: Ledger) -> None:
    servers = DNSServers("x", exact=frozenset({ServerAddress(BACKEND, UDP, 53, DNS_POD)}))
    old, new = (DNSAllow(servers, (match_name(name),), True, ORIGIN) for name in ("a.io", "b.io"))
    other = EndpointPolicy(Endpoint("default", "z", IPv4Address("10.244.0.4"), frozenset()), ENFORCED)
    made = Snapshots(ledger)
    for policy in (node(old), node(new), node(new, others=(LEGACY, other)), node(others=())):
        made.prepare(policy)
        assert made.state() == snapshot(policy, ledger)


def test_a_cidr_that_comes_shows_in_the_rules_of_endpoints_that_have_not_changed(ledger: Ledger) -> None:
    wide = DNSAllow(outside("8.8.0.0/16"), None, True, ORIGIN)
    narrow = DNSAllow(outside("8.8.8.8/32"), None, True, ORIGIN)
    other = EndpointPolicy(
        Endpoint("default", "z", IPv4Address("10.244.0.4"), frozenset()), ENFORCED, dns=(narrow,)
    )
    before, after = node(wide), node(wide, others=(other,))
    after = NodePolicy(
        after.node, (before.endpoints[0], other), frozenset(), frozenset(), after.node_addresses
    )
    made = Snapshots(ledger)
    made.prepare(before)
    made.prepare(after)
    state = made.state()
    assert identities(state.egress_l7_dns_policy[0]) == set(prefixes(state).values())


def test_a_snapshot_uses_only_numbers_taken_before(ledger: Ledger) -> None:
    servers = DNSServers("x", exact=frozenset({ServerAddress(BACKEND, UDP, 53, DNS_POD)}))
    rules = (DNSAllow(servers, None, True, ORIGIN), DNSAllow(outside("8.8.8.8/32"), None, True, ORIGIN))
    made = Snapshots(ledger)
    made.prepare(node(*rules))
    registries = (ledger.identities, ledger.cidrs, ledger.endpoints)
    assert all(one.news() for one in registries)
    made.state()
    assert not any(one.news() for one in registries)


def test_a_server_about_which_no_rule_decides_is_known_and_stands_in_no_rule(ledger: Ledger) -> None:
    """An entry without patterns would mean every name."""
    one = ServerAddress(CLUSTER_IP, UDP, 53, f"clusterIP:{CLUSTER_IP}")
    undecidable = DNSAllow(DNSServers("undecidable", exact=frozenset({one})), (), True, ORIGIN)
    state = snapshot(node(undecidable), ledger)
    assert not state.egress_l7_dns_policy
    assert prefixes(state) == {CLUSTER_IP.packed + b"\x20": ledger.identities.number(one.identity)}
