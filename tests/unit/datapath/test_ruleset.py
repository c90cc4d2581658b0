"""Policy to nftables, as values: which rules, sets and dispatches come out, and that they are stable."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from acns.datapath import ruleset
from acns.datapath.model import Content, Ruleset
from acns.datapath.ruleset import Grants
from acns.datapath.selectors import LEARNED, selector_id
from acns.dns import pattern
from acns.errors import Bug
from acns.policy import model
from acns.policy.model import ICMP, DNSAllow, DNSServers, Ports, Protocol

from .policies import (
    ALL,
    API,
    INTERFACES,
    KUBE_DNS,
    PEER,
    POD_A,
    POD_B,
    PODS,
    SHUT,
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


# --- dispatch -----------------------------------------------------------------------------------------------


def test_an_unrestricted_endpoint_is_known_and_let_pass() -> None:
    table = compiled(pod_a())
    assert table.sets["pod_ifaces"].elements == {'"veth-a"'}
    assert table.maps["dns_redirect"].elements.keys() == {'"veth-a" . 10.244.1.3'}
    assert table.maps["from_address"].elements.keys() == {"10.244.1.3"}
    for map_name in ("dns_redirect", "from_address", "to_address"):
        assert texts(link_of(table, map_name)) == "accept"
    for name in ("enforced", "v6_from", "v6_to", "unplaced_from", "unplaced_to"):
        assert not table.sets[name].elements


def test_each_way_leads_to_the_chain_of_its_direction() -> None:
    table = compiled(pod_a(SHUT, SHUT))
    egress, replies = chain_of(table, "eg"), chain_of(table, "er")
    ingress, answers = chain_of(table, "in"), chain_of(table, "ir")
    sent = texts(link_of(table, "from_address")).splitlines()
    assert (sent[1], sent[-1]) == (f"ct direction reply goto {answers.name}", f"goto {egress.name}")
    received = texts(link_of(table, "to_address")).splitlines()
    assert (received[0], received[-1]) == (f"ct direction reply goto {replies.name}", f"goto {ingress.name}")


def test_a_direction_that_is_not_enforced_is_accepted() -> None:
    table = compiled(pod_a(egress=SHUT))
    assert "ct direction reply accept" in texts(link_of(table, "from_address"))
    assert texts(link_of(table, "to_address")).endswith("\naccept")
    table = compiled(pod_a(ingress=SHUT))
    assert texts(link_of(table, "from_address")).endswith("\naccept")
    assert texts(link_of(table, "to_address")).startswith("ct direction reply accept\n")


def test_a_deny_that_may_mean_the_own_node_is_asked_of_what_it_opens() -> None:
    def denying(peer: model.Peer) -> Ruleset:
        return compiled(pod_a(ingress=model.DirectionPolicy(True, (), (match(peer),))))

    table = denying(model.Host())
    (chain,) = [chain for name, chain in table.chains.items() if name.startswith("nd_")]
    assert texts(link_of(table, "from_node")) == f"goto {chain.name}"
    assert re.match(r"fib saddr type local .* counter name di_\w+ goto x_", texts(chain))
    assert denying(PODS).maps["from_node"].elements  # an API server may be on this node
    for outside in (model.World(), model.FQDN(API)):
        assert not denying(outside).maps["from_node"].elements


def test_a_changed_policy_moves_no_element_of_a_dispatch_map() -> None:
    """Packets would meet the new element with the old rules, where the new chain is empty."""
    free, before = compiled(pod_a()), compiled(pod_a(only(match(model.FQDN(API)))))
    after = compiled(pod_a(only(match(model.World(), None)), SHUT))
    assert chain_of(before, "eg") != chain_of(after, "eg")
    assert free.maps == before.maps == after.maps


@pytest.mark.parametrize(("egress", "ingress"), [(True, False), (False, True), (True, True)])
def test_an_enforced_endpoint_without_interface_is_shut_by_its_address(egress: bool, ingress: bool) -> None:
    policies = [SHUT if enforced else model.DirectionPolicy() for enforced in (egress, ingress)]
    table = compiled(pod_a(*policies), interfaces={})
    shut = frozenset({"10.244.1.3"})
    assert table.sets["unplaced_from"].elements == (shut if egress else frozenset())
    assert table.sets["unplaced_to"].elements == (shut if ingress else frozenset())
    assert not table.maps["from_address"].elements
    assert ("iifname != @known_ifaces" in texts(table.chains["pre_raw"])) is egress
    assert ("oifname != @known_ifaces" in texts(table.chains["ipv6_coming"])) is ingress


def test_interfaces_are_known_as_pods_or_as_uplinks() -> None:
    table = compiled(pod_a(), endpoint("b", POD_B, SHUT), interfaces={POD_A: "veth-a"}, uplinks=["eth0"])
    assert table.sets["known_ifaces"].elements == {'"veth-a"', '"eth0"', '"lo"'}


@pytest.mark.parametrize("uplinks", [["eth0"], ["eth1", "eth0"], ["eth0", "eth1", "eth2"]])
def test_what_an_uplink_carries_is_looked_at_no_further(uplinks: list[str]) -> None:
    table = compiled(pod_a(SHUT, SHUT), uplinks=uplinks)
    for base, side in (("pre_raw", "iifname"), ("pre_pods", "iifname"), ("fwd_pods", "oifname")):
        before_dispatch = texts(table.chains[base]).split(" vmap ")[0]
        assert all(f'"{one}"' in before_dispatch for one in uplinks)
        assert before_dispatch.startswith(f"{side} ")


def test_an_interface_with_a_pod_is_no_uplink() -> None:
    table = compiled(pod_a(SHUT), uplinks=["veth-a"])
    assert not any('"veth-a"' in texts(chain) for chain in table.chains.values())


def test_who_waits_for_an_interface_is_shut_before_uplinks_pass() -> None:
    table = compiled(pod_a(SHUT, SHUT), interfaces={}, uplinks=["eth0"])
    for base in ("pre_raw", "fwd_pods"):
        before_uplinks, _, _ = texts(table.chains[base]).partition("eth0")
        assert "@unplaced_from" in before_uplinks
    assert "@unplaced_to" in texts(table.chains["fwd_pods"]).partition("eth0")[0]


def test_ipv6_is_blocked_by_direction_on_the_interfaces_of_enforced_endpoints_only() -> None:
    table = compiled(pod_a(egress=SHUT), endpoint("b", POD_B, ingress=SHUT))
    assert table.sets["v6_from"].elements == {'"veth-a"'}
    assert table.sets["v6_to"].elements == {'"veth-b"'}


@pytest.mark.parametrize("name", ['veth" drop', "veth*", "a b", "", "x" * 16, "veth\n"])
def test_an_interface_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(Bug):
        compiled(pod_a(SHUT), interfaces={POD_A: name})
    with pytest.raises(Bug):
        compiled(pod_a(SHUT), interfaces={}, uplinks=[name])


# --- sets ---------------------------------------------------------------------------------------------------


def test_pods_that_come_and_go_change_the_set_and_no_chain() -> None:
    grants = Grants.fresh()
    policy = pod_a(only(match(PODS)), only(match(PODS)))
    one = ruleset.compile_ruleset(node(policy), INTERFACES, grants, {})
    more = {"app=x": frozenset({PEER, POD_B})}
    two = ruleset.compile_ruleset(node(policy, groups=more), INTERFACES, grants, {})
    assert one.chains == two.chains
    (changed,) = [name for name in one.sets if one.sets[name] != two.sets[name]]
    assert two.sets[changed].elements == {"10.244.0.3", "10.244.1.4"}


def test_a_selector_that_selects_nobody_has_an_empty_set() -> None:
    table = ruleset.compile_ruleset(node(pod_a(only(match(PODS))), groups={}), INTERFACES, Grants.fresh(), {})
    (name,) = [name for name in table.sets if name.startswith("peers_")]
    assert not table.sets[name].elements


def test_a_selector_has_an_id_after_it_that_its_rule_names_and_starts_with_what_is_known() -> None:
    policy = node(pod_a(only(match(model.FQDN(API)))))
    table = ruleset.compile_ruleset(
        policy, INTERFACES, Grants.fresh(), {API: {IPv4Address("192.0.2.1"): 60.0}}
    )
    id_ = selector_id(API)
    assert table.sets[LEARNED].content is Content.LEARNED
    assert table.selectors == {id_}
    assert table.learned == {id_: {"192.0.2.1": 60.0}}
    assert re.fullmatch(r"fqdn_[0-9a-f]{10}", id_)
    assert selector_id(pattern.match_name("API.example.com.")) == id_
    assert selector_id(ALL) != id_
    first, second = int(id_[5:11], 16), int(id_[11:], 16)
    named = f"numgen inc mod 1 offset {first} . numgen inc mod 1 offset {second} . ip daddr @learned "
    rules = (rule.text for chain in table.chains.values() for rule in chain.rules if named in rule.text)
    assert [text.startswith(named) for text in rules] == [True]


def test_overlapping_networks_become_one_set_of_disjoint_ones() -> None:
    wide = model.CIDRs("wide", (IPv4Network("10.0.0.0/8"), IPv4Network("10.1.0.0/16")))
    plain = model.CIDRs("plain", (IPv4Network("10.0.0.0/8"),))
    table = compiled(pod_a(only(match(wide), match(plain, None))))
    (one,) = [one for name, one in table.sets.items() if name.startswith("cidr_")]
    assert one.elements == {"10.0.0.0/8"}


# --- DNS ----------------------------------------------------------------------------------------------------

ANYWHERE = (IPv4Network("0.0.0.0/0"),)
OUTSIDE = DNSServers("cidr", networks=ANYWHERE, ports=frozenset({(17, 53)}))


def redirecting(servers: DNSServers) -> tuple[DNSAllow, ...]:
    return (DNSAllow(servers, (API,), True, WHERE),)


def test_dns_rules_dispatch_queries_and_plain_rules_do_not() -> None:
    (gated,) = redirecting(KUBE_DNS)
    plain = replace(gated, redirects=False)
    table = compiled(pod_a(SHUT, dns=(gated,)), endpoint("b", POD_B, SHUT, dns=(plain,)))
    assert texts(link_of(table, "dns_redirect", POD_B)) == "accept"
    rule, last = chain_of(table, "rd").rules
    assert last.text == "accept"
    assert "notrack meta mark set meta mark & 0xfffff0ff | 0x200 goto resolver" in rule.text
    assert table.sets[re.search(r"@(dns_\w+)", rule.text)[1]].elements == {  # type: ignore[index]
        "10.96.0.10 . udp . 53"
    }


def test_a_network_of_dns_servers_leaves_pods_and_services_alone() -> None:
    table = compiled(pod_a(SHUT, dns=redirecting(OUTSIDE)))
    rule, last = chain_of(table, "rd").rules
    assert last.text == "accept"
    assert "ip daddr != @cluster_addrs" in rule.text
    assert "ip daddr != @service_addrs" in rule.text
    table = compiled(pod_a(SHUT, dns=redirecting(replace(OUTSIDE, outside_only=False))))
    rule, last = chain_of(table, "rd").rules
    assert last.text == "accept"
    assert "@cluster_addrs" not in rule.text


def test_what_a_deny_is_about_is_not_redirected_in_a_network_of_servers() -> None:
    denies = (
        match(cidr("192.0.2.0/24"), None),
        match(PODS, Ports(Protocol.ANY, 53, 53)),
        match(model.World(), ICMP_ECHO),
        match(model.World(), Ports(Protocol.SCTP, 53, 53)),
    )
    table = compiled(pod_a(only(deny=denies), dns=redirecting(OUTSIDE)))
    *spared, redirect, _ = (rule.text for rule in chain_of(table, "rd").rules)
    assert redirect.endswith("0x200 goto resolver")
    assert sorted(re.sub(r"_\w{10}", "", text) for text in spared) == [
        "ip daddr @cidr ip daddr != @cluster_addrs fib daddr type unicast ip daddr != @service_addrs accept",
        "ip daddr @peers meta l4proto @ported th dport 53 accept",
    ]


def test_exact_servers_are_redirected_whatever_is_denied() -> None:
    """Those that are denied are not in the policy; a ClusterIP is not what a CIDR of denies means."""
    everywhere = only(deny=(match(cidr("0.0.0.0/0"), None),))
    alone = compiled(pod_a(everywhere, dns=redirecting(KUBE_DNS)))
    assert [rule.text[-12:] for rule in chain_of(alone, "rd").rules] == ["oto resolver", "accept"]
    both = compiled(pod_a(everywhere, dns=(*redirecting(OUTSIDE), *redirecting(KUBE_DNS))))
    first, denied, *_ = (rule.text for rule in chain_of(both, "rd").rules)
    assert ("@dns_" in first, denied.startswith("ip daddr @cidr_")) == (True, True)


# --- descriptions -------------------------------------------------------------------------------------------


def test_every_id_in_the_table_is_described_down_to_file_and_line() -> None:
    policy = only(match(model.FQDN(API)), deny=(match(cidr("192.0.2.0/24")),))
    table = compiled(pod_a(policy, only(match(PODS), deny=(match(PODS),)), dns=redirecting(KUBE_DNS)))
    described = ruleset.describe(table)
    for id_, one in described.items():
        if id_.startswith(("re_", "ri_", "de_", "di_", "q_", "fqdn_", "dns_", "peers_", "cidr_")):
            assert one.origins == (WHERE,), id_
            assert one.endpoints == ("ns/a",), id_
    assert described[selector_id(API)].text == "fqdn:name:api.example.com."
    assert described.keys() >= table.counters
    assert described.keys() >= {
        name for name in table.chains if not table.chains[name].hook and "_" in name[:3]
    } - {name for name in table.chains if name.startswith("x_") and name.removeprefix("x_") in described}


def test_descriptions_tell_direction_and_deny() -> None:
    policy = only(match(PODS), deny=(match(PODS),))
    described = ruleset.describe(compiled(pod_a(policy, policy)))
    found = {id_[:2]: (one.direction, one.deny) for id_, one in described.items() if one.kind == "rule"}
    assert found == {
        "re": (model.Direction.EGRESS, False),
        "de": (model.Direction.EGRESS, True),
        "ri": (model.Direction.INGRESS, False),
        "di": (model.Direction.INGRESS, True),
    }
    ways = {
        id_[:2]: one.direction for id_, one in described.items() if id_[:3] in ("eg_", "er_", "in_", "ir_")
    }
    assert ways == {
        "eg": model.Direction.EGRESS,
        "er": model.Direction.EGRESS,
        "in": model.Direction.INGRESS,
        "ir": model.Direction.INGRESS,
    }


def test_a_set_of_both_directions_tells_the_origins_of_both() -> None:
    other = replace(WHERE, section="ingress")
    described = ruleset.describe(compiled(pod_a(only(match(PODS)), only(match(PODS, origin=other)))))
    (shared,) = [one for id_, one in described.items() if id_.startswith("peers_")]
    assert shared.origins == (WHERE, other)
