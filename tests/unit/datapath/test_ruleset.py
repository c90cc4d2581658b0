"""Policy to nftables, as values: which rules, sets and dispatches come out, and that they are stable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from acns.datapath import ruleset
from acns.datapath.model import ChainSpec, Content, Ruleset
from acns.dns import pattern
from acns.errors import Bug
from acns.policy import model
from acns.policy.model import Allow, DNSAllow, DNSServers, EndpointPolicy, NodePolicy, Origin, Ports, Protocol
from acns.policy.numbers import GRANT_RANGE, NumberRegistry

API = pattern.match_name("api.example.com")
ALL = pattern.match_pattern("*.example.com")
HTTPS = Ports(Protocol.TCP, 443, 443)
POD_A, POD_B, PEER = (IPv4Address(text) for text in ("10.244.1.3", "10.244.1.4", "10.244.0.3"))
INTERFACES = {POD_A: "veth-a", POD_B: "veth-b"}
WHERE = Origin("ns/web", "egress", 0, "web.yaml", 7, 3)
KUBE_DNS = DNSServers("kube-dns", frozenset({model.ServerAddress(IPv4Address("10.96.0.10"), 17, 53, "dns")}))


def endpoint(
    pod: str, address: IPv4Address, *allows: Allow, dns: tuple[DNSAllow, ...] = (), enforced: bool = True
) -> EndpointPolicy:
    return EndpointPolicy(model.Endpoint("ns", pod, address, frozenset()), enforced, allows, dns)


def node(*endpoints: EndpointPolicy) -> NodePolicy:
    return NodePolicy("n1", endpoints, frozenset({POD_A, POD_B, PEER}), frozenset(), frozenset())


def allow(peer: model.Peer, ports: Ports | None = HTTPS, origin: Origin = WHERE) -> Allow:
    return Allow(peer, ports, origin)


def fresh() -> NumberRegistry:
    return NumberRegistry("grants", *GRANT_RANGE)


def compiled(
    *endpoints: EndpointPolicy,
    grants: NumberRegistry | None = None,
    interfaces: Mapping[IPv4Address, str] = INTERFACES,
) -> Ruleset:
    return ruleset.compile_ruleset(node(*endpoints), interfaces, grants or fresh(), {})


def chain_of(table: Ruleset, map_name: str, address: IPv4Address = POD_A) -> ChainSpec:
    """The chain that the pod's packets are dispatched to."""
    elements = table.maps[map_name].elements
    (name,) = [chain for key, chain in elements.items() if key.endswith(f" {address}")]
    (link,) = table.chains[name].rules
    return table.chains[link.text.removeprefix("goto ")]


def texts(chain: ChainSpec) -> str:
    return "\n".join(rule.text for rule in chain.rules)


def test_an_unenforced_endpoint_is_known_but_not_dispatched() -> None:
    table = compiled(endpoint("a", POD_A, enforced=False))
    assert table.sets["endpoints"].elements == {'"veth-a" . 10.244.1.3'}
    assert table.sets["pod_ifaces"].elements == {'"veth-a"'}
    assert all(not one.elements for one in table.maps.values())
    assert not table.sets["v6_blocked"].elements


def test_an_enforced_endpoint_without_interface_is_shut_by_its_address() -> None:
    table = compiled(endpoint("a", POD_A), interfaces={})
    assert table.sets["unplaced"].elements == {"10.244.1.3"}
    assert not table.maps["egress"].elements


def test_ipv6_is_blocked_on_the_interfaces_of_enforced_endpoints_only() -> None:
    table = compiled(endpoint("a", POD_A), endpoint("b", POD_B, enforced=False))
    assert table.sets["v6_blocked"].elements == {'"veth-a"'}


def test_every_chain_of_an_endpoint_ends_closed_and_logged() -> None:
    table = compiled(endpoint("a", POD_A, allow(model.Everything(), None)))
    for map_name in ("egress", "replies"):
        chain = chain_of(table, map_name)
        assert re.search(rf'log prefix "acns:{chain.name} " group 100 drop$', chain.rules[-1].text)
        assert chain.name in table.counters


def test_endpoints_with_equal_rules_share_chains() -> None:
    table = compiled(
        endpoint("a", POD_A, allow(model.FQDN(API))), endpoint("b", POD_B, allow(model.FQDN(API)))
    )
    assert chain_of(table, "egress", POD_A) is chain_of(table, "egress", POD_B)
    served = ruleset.describe(table)[chain_of(table, "egress").name].endpoints
    assert served == ("ns/a", "ns/b")


def test_the_order_of_rules_and_endpoints_does_not_matter() -> None:
    one, two = allow(model.FQDN(API)), allow(model.World(), None)
    a, b = endpoint("a", POD_A, one, two), endpoint("b", POD_B)
    grants = fresh()
    assert compiled(a, b, grants=grants) == compiled(b, replace(a, allows=(two, one)), grants=grants)


def test_names_and_cidrs_and_world_stand_behind_the_cluster_addresses_both_ways() -> None:
    cidr = model.CIDRs("cidr", (IPv4Network("10.0.0.0/8"),))
    for peer in (model.FQDN(API), cidr, model.World()):
        table = compiled(endpoint("a", POD_A, allow(peer)))
        for map_name, side in (("egress", "daddr"), ("replies", "saddr")):
            (rule,) = [rule for rule in chain_of(table, map_name).rules if rule.id.startswith("r_")]
            assert f"ip {side} != @cluster_addrs" in rule.text
            assert f"fib {side} type unicast" in rule.text


def test_cluster_addresses_hold_pods_and_nodes() -> None:
    one = replace(node(), node_addresses=frozenset({IPv4Address("172.18.0.2")}))
    table = ruleset.compile_ruleset(one, {}, fresh(), {})
    assert table.sets["cluster_addrs"].elements == {"10.244.1.3", "10.244.1.4", "10.244.0.3", "172.18.0.2"}


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        (HTTPS, "meta l4proto tcp th dport 443 "),
        (Ports(Protocol.UDP, 8000, 8100), "meta l4proto udp th dport 8000-8100 "),
        (Ports(Protocol.ANY, 53, 53), "meta l4proto { tcp, udp, sctp } th dport 53 "),
        (Ports(Protocol.ANY, 0, 0), "meta l4proto { tcp, udp, sctp } counter"),
        (None, "@peers_"),
    ],
)
def test_ports_become_matches(ports: Ports | None, text: str) -> None:
    table = compiled(endpoint("a", POD_A, allow(model.Addresses("app=x", frozenset({PEER})), ports)))
    (rule,) = [rule for rule in chain_of(table, "egress").rules if rule.id.startswith("r_")]
    assert text in rule.text


def test_the_same_atom_keeps_its_grant_and_rule_id_when_the_policy_around_it_changes() -> None:
    grants = fresh()
    before = compiled(endpoint("a", POD_A, allow(model.FQDN(API))), grants=grants)
    after = compiled(
        endpoint("a", POD_A, allow(model.World(), None), allow(model.FQDN(API)), allow(model.FQDN(ALL))),
        grants=grants,
    )
    (rule,) = [rule for rule in chain_of(before, "egress").rules if rule.id.startswith("r_")]
    assert rule in chain_of(after, "egress").rules


def test_a_removed_atoms_grant_is_alive_in_no_chain() -> None:
    grants = fresh()
    compiled(endpoint("a", POD_A, allow(model.FQDN(API))), grants=grants)
    after = compiled(endpoint("a", POD_A, allow(model.FQDN(ALL))), grants=grants)
    assert "0x0000ffff 2 " in texts(chain_of(after, "replies"))
    for map_name in ("egress", "replies"):
        assert not re.search(r"0x0000ffff (1 |\{ 1)", texts(chain_of(after, map_name)))


def test_a_grant_of_a_pod_passes_nothing_but_related_packets_by_itself() -> None:
    table = compiled(endpoint("a", POD_A, allow(model.Addresses("app=x", frozenset({PEER})))))
    (line,) = [
        rule.text for rule in chain_of(table, "egress").rules if "ct mark & 0x0000ffff 1 " in rule.text
    ]
    assert line.startswith("ct state related")


def test_two_policies_with_the_same_atom_make_one_rule_with_both_origins() -> None:
    other = replace(WHERE, policy="ns/other", line=9)
    table = compiled(endpoint("a", POD_A, allow(model.FQDN(API)), allow(model.FQDN(API), origin=other)))
    (rule,) = [rule for rule in chain_of(table, "egress").rules if rule.id.startswith("r_")]
    assert ruleset.describe(table)[rule.id].origins == (other, WHERE)


def test_pods_that_come_and_go_change_the_set_and_no_chain() -> None:
    grants = fresh()
    one = compiled(endpoint("a", POD_A, allow(model.Addresses("app=x", frozenset({PEER})))), grants=grants)
    two = compiled(
        endpoint("a", POD_A, allow(model.Addresses("app=x", frozenset({PEER, POD_B})))), grants=grants
    )
    assert one.chains == two.chains
    assert one.sets.keys() == two.sets.keys()
    assert one.sets != two.sets


def test_one_selector_text_for_different_pods_makes_separate_sets() -> None:
    table = compiled(
        endpoint("a", POD_A, allow(model.Addresses("all", frozenset({PEER})))),
        endpoint("b", POD_B, allow(model.Addresses("all", frozenset({POD_A})))),
    )
    held = sorted(sorted(one.elements) for name, one in table.sets.items() if name.startswith("peers_"))
    assert held == [["10.244.0.3"], ["10.244.1.3"]]
    assert chain_of(table, "egress", POD_A) != chain_of(table, "egress", POD_B)


def test_the_set_of_a_selector_is_called_after_it_and_starts_with_what_is_known() -> None:
    policy = node(endpoint("a", POD_A, allow(model.FQDN(API))))
    table = ruleset.compile_ruleset(policy, INTERFACES, fresh(), {API: {IPv4Address("192.0.2.1"): 60.0}})
    learned = table.sets[ruleset.fqdn_set_name(API)]
    assert learned.content is Content.LEARNED
    assert learned.timeouts_s == {"192.0.2.1": 60.0}
    assert re.fullmatch(r"fqdn_[0-9a-f]{10}", learned.name)
    assert ruleset.fqdn_set_name(pattern.match_name("API.example.com.")) == learned.name
    assert ruleset.fqdn_set_name(ALL) != learned.name


def test_dns_rules_dispatch_queries_and_plain_rules_do_not() -> None:
    gated = DNSAllow(KUBE_DNS, (API,), True, WHERE)
    table = compiled(
        endpoint("a", POD_A, dns=(gated,)), endpoint("b", POD_B, dns=(replace(gated, redirects=False),))
    )
    assert list(table.maps["dns_redirect"].elements) == ['"veth-a" . 10.244.1.3']
    (rule,) = chain_of(table, "dns_redirect").rules
    assert "notrack meta mark set meta mark & 0xfffff0ff | 0x200 accept" in rule.text
    assert table.sets[re.search(r"@(dns_\w+)", rule.text)[1]].elements == {  # type: ignore[index]
        "10.96.0.10 . udp . 53"
    }


def test_a_network_of_dns_servers_leaves_pods_and_services_alone() -> None:
    servers = DNSServers("cidr", networks=(IPv4Network("0.0.0.0/0"),), ports=frozenset({(17, 53)}))
    table = compiled(endpoint("a", POD_A, dns=(DNSAllow(servers, None, True, WHERE),)))
    (rule,) = chain_of(table, "dns_redirect").rules
    assert "ip daddr != @cluster_addrs" in rule.text
    assert "ip daddr != @service_addrs" in rule.text
    open_to_all = replace(servers, outside_only=False)
    table = compiled(endpoint("a", POD_A, dns=(DNSAllow(open_to_all, None, True, WHERE),)))
    (rule,) = chain_of(table, "dns_redirect").rules
    assert "@cluster_addrs" not in rule.text


def test_overlapping_networks_become_one_set_of_disjoint_ones() -> None:
    wide = model.CIDRs("wide", (IPv4Network("10.0.0.0/8"), IPv4Network("10.1.0.0/16")))
    plain = model.CIDRs("plain", (IPv4Network("10.0.0.0/8"),))
    table = compiled(endpoint("a", POD_A, allow(wide), allow(plain, None)))
    (one,) = [one for name, one in table.sets.items() if name.startswith("cidr_")]
    assert one.elements == {"10.0.0.0/8"}


def test_every_id_in_the_table_is_described_down_to_file_and_line() -> None:
    gated = DNSAllow(KUBE_DNS, (API,), True, WHERE)
    table = compiled(endpoint("a", POD_A, allow(model.FQDN(API)), dns=(gated,)))
    described = ruleset.describe(table)
    for id_, one in described.items():
        if id_.startswith(("r_", "q_", "fqdn_", "dns_")):
            assert one.origins == (WHERE,), id_
            assert one.endpoints == ("ns/a",), id_
    assert described[ruleset.fqdn_set_name(API)].text == "fqdn:name:api.example.com."
    assert described.keys() >= table.counters


@pytest.mark.parametrize("name", ['veth" drop', "veth*", "a b", "", "x" * 16, "veth\n"])
def test_an_interface_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(Bug):
        compiled(endpoint("a", POD_A), interfaces={POD_A: name})


def test_a_changed_policy_moves_no_element_of_a_dispatch_map() -> None:
    """Packets would meet the new element with the old rules, where the new chain is empty."""
    before = compiled(endpoint("a", POD_A, allow(model.FQDN(API))))
    after = compiled(endpoint("a", POD_A, allow(model.World(), None)))
    assert chain_of(before, "egress") != chain_of(after, "egress")
    assert before.maps == after.maps
