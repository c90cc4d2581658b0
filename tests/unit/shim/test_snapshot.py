"""The snapshot that the resolver gets says who may ask which server for which names."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from acns.api import fqdndata_pb2 as pb
from acns.dns.pattern import match_name, match_pattern
from acns.policy.model import (
    DNSAllow,
    DNSServers,
    Endpoint,
    EndpointPolicy,
    NodePolicy,
    Origin,
    ServerAddress,
)
from acns.shim import snapshot
from acns.shim.ledger import Ledger

ORIGIN = Origin("default/p", "egress", 0, "p.yaml", 1, 1)
DNS_POD = "k8s:k8s-app=kube-dns"
UDP, TCP = 17, 6
CLUSTER_IP, BACKEND = IPv4Address("10.96.0.10"), IPv4Address("10.244.0.9")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.json")


def node(*dns: DNSAllow) -> NodePolicy:
    frontend = Endpoint("default", "frontend", IPv4Address("10.244.0.2"), frozenset({"k8s:app=frontend"}))
    legacy = Endpoint("default", "legacy", IPv4Address("10.244.0.3"), frozenset({"k8s:app=legacy"}))
    return NodePolicy(
        "node1",
        (EndpointPolicy(frontend, True, dns=dns), EndpointPolicy(legacy, False)),
        cluster_addresses=frozenset(),
        service_addresses=frozenset({CLUSTER_IP}),
        node_addresses=frozenset(),
    )


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
    names = (match_name("api.example.com"), match_pattern("*.example.net"))
    state = snapshot.policy_state(node(DNSAllow(servers, names, True, ORIGIN)), ledger, "id")
    (policy,) = state.egress_l7_dns_policy
    identity = ledger.identities.number(DNS_POD)
    assert {(s.dns_server_identity, s.dns_server_port, s.dns_server_proto) for s in policy.dns_servers} == {
        (identity, 53, UDP),
        (identity, 5353, UDP),
    }
    assert list(policy.dns_pattern) == ["*.example.net.", "api.example.com."]
    assert prefixes(state) == {CLUSTER_IP.packed + b"\x20": identity, BACKEND.packed + b"\x20": identity}


def test_every_endpoint_of_the_node_is_known_by_its_raw_address(ledger: Ledger) -> None:
    state = snapshot.policy_state(node(), ledger, "id")
    infos = [info for entry in state.identity_to_endpoint_mapping for info in entry.endpoint_info]
    assert {bytes(ip) for info in infos for ip in info.ip} == {bytes([10, 244, 0, 2]), bytes([10, 244, 0, 3])}
    assert len({info.id for info in infos}) == 2


def test_a_plain_l4_rule_is_a_rule_without_patterns(ledger: Ledger) -> None:
    servers = DNSServers("x", exact=frozenset({ServerAddress(BACKEND, UDP, 53, DNS_POD)}))
    state = snapshot.policy_state(node(DNSAllow(servers, None, False, ORIGIN)), ledger, "id")
    assert list(state.egress_l7_dns_policy[0].dns_pattern) == []


def test_a_wide_cidr_also_lists_the_narrower_ones_inside_it(ledger: Ledger) -> None:
    wide = DNSAllow(outside("8.8.0.0/16"), None, True, ORIGIN)
    narrow = DNSAllow(outside("8.8.8.8/32"), (match_name("a.example.com"),), True, ORIGIN)
    state = snapshot.policy_state(node(wide, narrow), ledger, "id")
    by_prefix = prefixes(state)
    assert identities(state.egress_l7_dns_policy[0]) == set(by_prefix.values())
    assert identities(state.egress_l7_dns_policy[1]) == {by_prefix[bytes([8, 8, 8, 8, 32])]}


def test_world_is_the_reserved_identity_and_every_known_cidr(ledger: Ledger) -> None:
    world = DNSAllow(outside("0.0.0.0/0"), None, True, ORIGIN)
    cidr = DNSAllow(outside("8.8.8.8/32"), None, True, ORIGIN)
    state = snapshot.policy_state(node(world, cidr), ledger, "id")
    assert identities(state.egress_l7_dns_policy[0]) == {2, *prefixes(state).values()}


def test_any_server_is_identity_zero(ledger: Ledger) -> None:
    anywhere = DNSAllow(outside("0.0.0.0/0", only=False), None, True, ORIGIN)
    state = snapshot.policy_state(node(anywhere), ledger, "id")
    assert identities(state.egress_l7_dns_policy[0]) == {0}


def test_numbers_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    before = Ledger(path)
    numbers = [before.identities.number(key) for key in ("b", "a", "c")]
    before.save({})
    after = Ledger(path)
    assert [after.identities.number(key) for key in ("b", "a", "c")] == numbers
    assert after.identities.number("d") not in numbers
