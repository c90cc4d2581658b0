"""The chains that judge packets, as values: what stands in them, in which order, and what it keeps."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from acns.datapath import ruleset
from acns.datapath.ruleset import Grants
from acns.policy import model
from acns.policy.model import ICMP, Ports, Protocol

from .policies import (
    ALL,
    API,
    HTTPS,
    POD_A,
    POD_B,
    PODS,
    WHERE,
    chain_of,
    cidr,
    compiled,
    endpoint,
    link_of,
    match,
    node,
    only,
    pod_a,
    texts,
)

ICMP_ECHO = ICMP(8)
WAYS = ("eg", "er", "in", "ir")


def rules_of(table: ruleset.Ruleset, way: str, prefix: str, address: IPv4Address = POD_A) -> list[str]:
    return [rule.text for rule in chain_of(table, way, address).rules if rule.id.startswith(prefix)]


# --- chains -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_every_way_ends_counted_logged_and_closed(way: str) -> None:
    everything = only(match(model.Everything(), None))
    table = compiled(pod_a(everything, everything))
    chain = chain_of(table, way)
    count, log, drop = (rule.text for rule in chain.rules[-3:])
    assert count == f"counter name {chain.name}"
    assert log == f'limit rate 20/second burst 40 packets log prefix "acns:{chain.name} " group 100'
    assert drop == "drop"
    assert chain.name in table.counters


def test_endpoints_with_equal_rules_share_chains() -> None:
    policy = only(match(model.FQDN(API)))
    table = compiled(pod_a(policy), endpoint("b", POD_B, policy))
    assert chain_of(table, "eg", POD_A) is chain_of(table, "eg", POD_B)
    assert ruleset.describe(table)[chain_of(table, "eg").name].endpoints == ("ns/a", "ns/b")


def test_the_order_of_rules_and_endpoints_does_not_matter() -> None:
    one, two, three = match(model.FQDN(API)), match(model.World(), None), match(PODS)
    grants = Grants.fresh()
    a = only(one, two, deny=(two, three))
    b = only(two, one, one, deny=(three, two))
    assert compiled(pod_a(a, a), endpoint("b", POD_B), grants=grants) == compiled(
        endpoint("b", POD_B), pod_a(b, b), grants=grants
    )


def test_names_and_cidrs_and_world_stand_behind_the_cluster_addresses_in_every_way() -> None:
    for peer in (model.FQDN(API), cidr("10.0.0.0/8"), model.World()):
        table = compiled(pod_a(only(match(peer)), only(match(peer))))
        sides = (
            ("eg", "daddr", "re_"),
            ("er", "saddr", "re_"),
            ("in", "saddr", "ri_"),
            ("ir", "daddr", "ri_"),
        )
        for way, side, prefix in sides:
            (rule,) = rules_of(table, way, prefix)
            assert f"ip {side} != @cluster_addrs" in rule
            assert f"fib {side} type unicast" in rule


def test_cluster_addresses_hold_pods_and_nodes() -> None:
    one = replace(node(), node_addresses=frozenset({IPv4Address("172.18.0.2")}))
    table = ruleset.compile_ruleset(one, {}, Grants.fresh(), {})
    assert table.sets["cluster_addrs"].elements == {"10.244.1.3", "10.244.1.4", "10.244.0.3", "172.18.0.2"}


@pytest.mark.parametrize(
    ("traffic", "there", "back"),
    [
        (HTTPS, "meta l4proto tcp th dport 443 ", "meta l4proto tcp th sport 443 "),
        (Ports(Protocol.UDP, 8000, 8100), "meta l4proto udp th dport 8000-8100 ", "th sport 8000-8100 "),
        (Ports(Protocol.SCTP, 5, 5), "meta l4proto sctp th dport 5 ", "meta l4proto sctp th sport 5 "),
        (
            Ports(Protocol.ANY, 53, 53),
            "meta l4proto @ported th dport 53 ",
            "meta l4proto @ported th sport 53 ",
        ),
        (Ports(Protocol.ANY, 0, 0), "meta l4proto @ported counter", "meta l4proto @ported ct mark"),
        (ICMP_ECHO, "icmp type 8 ", "icmp type 0 "),
        (None, "ip daddr @peers_", "ip saddr @peers_"),
    ],
)
def test_traffic_becomes_matches_there_and_back(traffic: model.Traffic, there: str, back: str) -> None:
    policy = only(match(PODS, traffic))
    table = compiled(pod_a(policy, policy))
    assert table.sets["ported"].elements == {"tcp", "udp", "sctp"}
    (sent,), (answered,) = rules_of(table, "eg", "re_"), rules_of(table, "er", "re_")
    assert there in sent
    assert back in answered
    (received,), (answers,) = rules_of(table, "in", "ri_"), rules_of(table, "ir", "ri_")
    assert there.replace("daddr", "saddr") in received
    assert back.replace("saddr", "daddr") in answers


def test_icmp_that_opens_no_connection_is_accepted_by_itself_and_has_no_answer() -> None:
    table = compiled(pod_a(only(match(model.Everything(), ICMP(3)))))
    (rule,) = rules_of(table, "eg", "re_")
    assert re.fullmatch(r"meta nfproto ipv4 icmp type 3 counter name re_\w+ accept", rule)
    assert not rules_of(table, "er", "re_")


def test_denies_stand_before_what_is_remembered_and_what_is_allowed() -> None:
    policy = only(match(model.World(), None), deny=(match(cidr("192.0.2.0/24")),))
    table = compiled(pod_a(policy, policy))
    for way, deny, allow in (
        ("eg", "de_", "re_"),
        ("er", "de_", "re_"),
        ("in", "di_", "ri_"),
        ("ir", "di_", "ri_"),
    ):
        order = [rule.id[:3] for rule in chain_of(table, way).rules]
        found = texts(chain_of(table, way))
        assert order.index(deny) < order.index(allow)
        assert found.index("@cidr_") < found.index("@cluster_addrs jump lv_")
        assert "lv_" not in texts(link_of(table, "from_address")) + texts(link_of(table, "to_address"))


def test_where_nothing_is_denied_what_is_remembered_is_accepted_first_of_all() -> None:
    policy = only(match(model.World(), None))
    table = compiled(pod_a(policy, policy))
    for map_name, ways in (("from_address", ("original", "reply")), ("to_address", ("reply", "original"))):
        rules = texts(link_of(table, map_name)).splitlines()
        for rule, direction in zip(rules[:2], ways, strict=True):
            assert rule.startswith(f"ct direction {direction} ct state established ip ")
            assert " != @cluster_addrs jump lv_" in rule
    for way in WAYS:
        assert "@cluster_addrs jump lv_" not in texts(chain_of(table, way))


def test_a_deny_counts_logs_and_takes_the_grant_of_its_own_direction() -> None:
    policy = only(deny=(match(PODS),))
    table = compiled(pod_a(policy, policy))
    for way, prefix, rest in (("er", "de_", "0xffff0000"), ("in", "di_", "0x0000ffff")):
        (rule,) = rules_of(table, way, prefix)
        counter, target = re.search(r"counter name (\w+) goto (\w+)$", rule).groups()  # type: ignore[union-attr]
        assert counter in table.counters
        log, take, drop = (step.text for step in table.chains[target].rules)
        assert f'log prefix "acns:{counter} "' in log
        assert take == f"ct mark set ct mark & {rest}"
        assert drop == "drop"


def test_only_what_the_pod_sends_on_its_own_is_answered_and_only_if_the_settings_say_so() -> None:
    policy = only(deny=(match(PODS),))
    silent, telling = compiled(pod_a(policy, policy)), compiled(pod_a(policy, policy), deny_response="icmp")
    assert not any("icmp admin-prohibited" in texts(chain) for chain in silent.chains.values())
    answered = {name[:2] for name, one in telling.chains.items() if "reject with icmp admin" in texts(one)}
    assert answered == {"eg", "x_"}
    for way in ("er", "in", "ir"):
        assert chain_of(telling, way) == chain_of(silent, way)


# --- grants -------------------------------------------------------------------------------------------------


def test_the_same_atom_keeps_its_grant_and_rule_id_when_the_policy_around_it_changes() -> None:
    grants = Grants.fresh()
    before = compiled(pod_a(only(match(model.FQDN(API)))), grants=grants)
    after = compiled(
        pod_a(only(match(model.World(), None), match(model.FQDN(API)), match(model.FQDN(ALL)))), grants=grants
    )
    (rule,) = rules_of(before, "eg", "re_")
    assert rule in rules_of(after, "eg", "re_")


def test_egress_and_ingress_grants_live_in_halves_of_the_mark() -> None:
    policy = only(match(model.World(), None))
    table = compiled(pod_a(policy, policy))
    assert "ct mark set ct mark & 0xffff0000 | 0x1 " in rules_of(table, "eg", "re_")[0]
    assert "ct mark set ct mark & 0x0000ffff | 0x10000 " in rules_of(table, "in", "ri_")[0]
    assert live(table, "eg") == {"ct mark & 0x0000ffff 1 accept"}
    assert live(table, "ir") == {"ct mark & 0xffff0000 65536 accept"}


def live(table: ruleset.Ruleset, way: str) -> set[str]:
    """The tests for live grants that a chain leads to."""
    links = [link_of(table, map_name) for map_name in ("from_address", "to_address")]
    said = "\n".join(map(texts, [chain_of(table, way), *links]))
    prefix = "0x0000ffff" if way in ("eg", "er") else "0xffff0000"
    targets = [name for name in re.findall(r"jump (lv_\w+)", said) if prefix in texts(table.chains[name])]
    return {line for target in targets for line in texts(table.chains[target]).splitlines()}


def test_a_removed_atoms_grant_is_alive_in_no_chain() -> None:
    grants = Grants.fresh()
    compiled(pod_a(only(match(model.FQDN(API)))), grants=grants)
    after = compiled(pod_a(only(match(model.FQDN(ALL)))), grants=grants)
    for way in ("eg", "er"):
        assert live(after, way) == {"ct mark & 0x0000ffff 2 accept"}


def test_many_grants_are_looked_up_in_one_set() -> None:
    many = only(*(match(model.World(), Ports(Protocol.TCP, port, port)) for port in range(1, 8)))
    assert live(compiled(pod_a(many)), "er") == {"ct mark & 0x0000ffff { 1, 2, 3, 4, 5, 6, 7 } accept"}


@pytest.mark.parametrize("peer", [PODS, model.Host()])
def test_a_grant_of_a_pod_or_node_passes_nothing_but_related_packets_by_itself(peer: model.Peer) -> None:
    table = compiled(pod_a(only(match(peer))))
    (line,) = [line for line in texts(chain_of(table, "eg")).splitlines() if "jump lv_" in line]
    assert line.startswith("meta l4proto icmp ct state related ")


def test_two_policies_with_the_same_atom_make_one_rule_with_both_origins() -> None:
    other = replace(WHERE, policy="ns/other", line=9)
    table = compiled(pod_a(only(match(model.FQDN(API)), match(model.FQDN(API), origin=other))))
    (rule,) = [rule for rule in chain_of(table, "eg").rules if rule.id.startswith("re_")]
    assert ruleset.describe(table)[rule.id].origins == (other, WHERE)
