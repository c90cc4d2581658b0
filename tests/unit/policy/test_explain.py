"""Why a connection is allowed or denied: the rule, its place, the selector; and what is missing."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from acns.errors import InputError
from acns.policy.explain import Explanation, Knowledge
from acns.policy.lookups import Answer
from acns.policy.model import Direction, Enforcement
from acns.policy.objects import Service, ServicePort
from acns.policy.routes import Outcome
from acns.policy.verdict import Decision

from .explain_world import (
    ADDRESS,
    DNS,
    TO_DNS,
    ask,
    ask_name,
    backed,
    dns,
    fqdn,
    learned,
    live,
    only_side,
    pod,
    policy,
    world,
)

NOWHERE = policy(fqdn("nowhere.example.com"))
WEB = """
    - toEndpoints: [{matchLabels: {app: web}}]
      toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""
FROM_CLIENT = """
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""


def only_nearest(found: Explanation) -> str:
    """The first thing that the sender's end says is missing."""
    return found.parts[0].sides[0].missing[0]


# --- one address, two pods --------------------------------------------------------------------------------


def test_of_two_pods_with_one_address_neither_may_do_anything_and_that_is_the_reason() -> None:
    overview = world(policy(WEB), more=(pod("twin", "10.244.0.2"),))
    for name in ("client", "twin"):
        side = ask(overview, "198.51.100.10:80", source=name).parts[0].sides[0]
        assert (side.decision, side.endpoint) == (Decision.UNMATCHED, f"default/{name}")
        assert side.summary == (
            "pods default/client and default/twin have the same address 10.244.0.2: "
            "all traffic of this address is denied on node n1 "
            "(a finished pod should be in phase Succeeded or Failed)"
        )
        assert side.missing == ()


def test_nor_does_anything_reach_them() -> None:
    found = ask(world(more=(pod("twin", "10.244.0.2"),)), "client:80", source="other")
    assert "have the same address" in found.parts[0].sides[1].summary


def test_no_rule_is_to_blame_for_what_such_a_pod_looks_up() -> None:
    found = ask_name(world(policy(dns("a.io")), more=(pod("twin", "10.244.0.2"),)), "b.io")
    assert found.lookup is not None
    assert (found.lookup.answer, found.lookup.hints) == (Answer.BLOCKED, ())


def test_of_two_pods_on_two_nodes_the_one_that_is_not_selected_is_named() -> None:
    overview = world(policy(WEB), more=(pod("zwin", "10.244.0.4", node="n2"),))
    found = ask(overview, "10.244.0.4:8080")
    assert found.outcome is Outcome.DENIED
    assert "default/zwin is not app=web" in only_nearest(found)


# --- who decides ------------------------------------------------------------------------------------------


def test_a_pod_without_policies_may_connect_anywhere() -> None:
    found = ask(world(), "198.51.100.10:443")
    assert found.outcome is Outcome.ALLOWED
    assert only_side(found).summary == "no policy restricts its egress"


def test_an_allow_names_its_rule_and_where_it_is_written() -> None:
    found = ask(world(policy("    - toCIDR: [198.51.100.0/24]\n")), "198.51.100.10:443")
    (said,) = only_side(found).rules
    assert found.outcome is Outcome.ALLOWED
    assert str(said.origin) == "default/p egress[0] (p0.yaml:7:7)"
    assert said.text == "CIDR 198.51.100.0/24, all traffic"


def test_every_rule_that_allows_is_named() -> None:
    found = ask(
        world(policy("    - toCIDR: [198.51.100.0/24]\n    - toEntities: [world]\n")), "198.51.100.10:443"
    )
    assert [said.origin.rule for said in only_side(found).rules] == [0, 1]


def test_a_deny_beats_an_allow_and_says_what_it_overrules() -> None:
    both = policy("    - toEntities: [world]\n", more="  egressDeny:\n    - toCIDR: [198.51.100.0/24]\n")
    found = ask(world(both), "198.51.100.10:443")
    side = only_side(found)
    assert (found.outcome, side.decision) == (Outcome.DENIED, Decision.DENIED)
    assert [said.origin.section for said in side.rules] == ["egressDeny"]
    assert side.missing == (
        "a deny beats every allow: default/p egress[0] (p0.yaml:9:7) would have let it through",
    )


def test_both_ends_count() -> None:
    overview = world(policy(WEB), policy(ingress=FROM_CLIENT, name="q", selects="web"))
    found = ask(overview, "web-1:8080")
    assert [(side.direction, side.endpoint) for side in found.parts[0].sides] == [
        (Direction.EGRESS, "default/client"),
        (Direction.INGRESS, "default/web-1"),
    ]
    assert found.outcome is Outcome.ALLOWED


def test_an_ingress_that_denies_denies_the_connection() -> None:
    closed = policy(ingress="    - fromEndpoints: [{matchLabels: {app: other}}]\n", selects="web")
    found = ask(world(closed), "web-2:8080")
    egress, ingress = found.parts[0].sides
    assert (egress.allowed, ingress.allowed, found.outcome) == (True, False, Outcome.DENIED)
    assert ingress.node == "n2"
    assert ingress.missing == (
        "default/p ingress[0] (p0.yaml:7:7) allows all traffic, but only for endpoints app=other, "
        "namespace default; default/client is not app=other",
    )


def test_a_policy_that_denies_nothing_by_default_is_said_to() -> None:
    harmless = policy(WEB, more="  enableDefaultDeny: {egress: false}\n")
    found = ask(world(harmless), "198.51.100.10:443")
    assert found.outcome is Outcome.ALLOWED
    assert "denied by default" in only_side(found).summary


def test_enforcement_always_denies_where_no_policy_is() -> None:
    found = ask(world(enforcement=Enforcement.ALWAYS), "198.51.100.10:443")
    assert found.outcome is Outcome.DENIED
    assert only_side(found).summary == (
        "no policy (enforcement is 'always') allows 443/TCP to outside the cluster (198.51.100.10)"
    )


def test_a_pod_always_reaches_itself() -> None:
    found = ask(world(NOWHERE), "client:80")
    assert found.outcome is Outcome.ALLOWED
    assert {side.decision for side in found.parts[0].sides} == {Decision.ITSELF}


# --- what is missing --------------------------------------------------------------------------------------


def test_a_rule_for_the_peer_with_another_port_comes_first() -> None:
    found = ask(world(policy(WEB + "    - toCIDR: [198.51.100.0/24]\n")), "web-1:9090")
    assert only_nearest(found) == (
        "default/p egress[0] (p0.yaml:8:7) allows only 8080/TCP for endpoints app=web, namespace default"
    )


def test_a_rule_for_the_port_with_another_name_is_near() -> None:
    found = ask(world(policy(dns("*") + fqdn("api.example.com"))), "www.example.com:443")
    assert only_nearest(found).endswith("allows 443/TCP, but only for toFQDNs matchName api.example.com")


def test_an_address_nobody_was_told_is_said_not_to_be_learned() -> None:
    found = ask(world(policy(fqdn("api.example.com"))), "198.51.100.10:443")
    assert only_nearest(found).endswith("no pod on n1 was told 198.51.100.10 for such a name")


def test_a_cidr_around_a_pod_is_said_not_to_mean_pods() -> None:
    found = ask(world(policy("    - toCIDR: [10.0.0.0/8]\n")), "web-1:8080")
    missing = found.parts[0].sides[0].missing
    assert any("CIDR 10.0.0.0/8 never selects pod default/web-1" in text for text in missing)


def test_the_services_port_in_a_rule_is_said_to_be_the_wrong_one() -> None:
    wrong = WEB.replace("8080", "80")
    found = ask(world(policy(wrong)), "service web:80")
    assert found.outcome is Outcome.DENIED
    assert all(
        "after Service translation: write 8080/TCP" in part.sides[0].missing[0] for part in found.parts
    )


def test_ports_are_said_to_let_no_icmp_through() -> None:
    found = ask(world(policy(WEB)), "web-1:icmp")
    assert "that takes `icmps`" in found.parts[0].sides[0].missing[0]


def test_a_rule_that_lets_only_queries_pass_is_near_by_its_server_and_by_its_port() -> None:
    by_udp = policy(dns("a.io").replace("ANY", "UDP"))
    says = "default/p egress[0] (p0.yaml:8:7) has rules.dns, but only for "
    servers = "endpoints app=dns, namespace kube-system at 53/UDP"
    for to in ("service kube-system/kube-dns:53/tcp", "kube-system/dns:9153", "198.51.100.10:53/udp"):
        assert only_nearest(ask(world(by_udp), to)) == says + servers
    assert only_side(ask(world(by_udp), "198.51.100.10:443")).missing == ()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("toCIDRSet: [{cidrGroupRef: nope}]", "no CiliumCIDRGroup is called 'nope': this peer opens nothing"),
        (
            "toServices: [{k8sService: {serviceName: nope, namespace: default}}]",
            "no Service in namespace 'default' is called 'nope': this peer opens nothing",
        ),
        (
            "toEndpoints: [{}]\n      toPorts: [{ports: [{port: nope}]}]",
            "the port 'nope' matches nothing: no destination has a port of that name",
        ),
    ],
)
def test_a_rule_that_names_what_is_not_there_is_near(rule: str, message: str) -> None:
    found = ask(world(policy(f"    - {rule}\n")), "198.51.100.10:443")
    assert only_nearest(found) == f"default/p egress[0] (p0.yaml:7:7): {message}"


def test_nothing_is_said_to_be_missing_where_everything_is_denied_on_purpose() -> None:
    assert only_side(ask(world(policy("    - {}\n")), "198.51.100.10:443")).missing == ()


def test_the_policies_that_restrict_the_pod_are_named() -> None:
    found = ask(world(NOWHERE, policy(WEB, name="q")), "198.51.100.10:22")
    assert only_side(found).summary == (
        "no egress rule of default/p or default/q allows 22/TCP to outside the cluster (198.51.100.10)"
    )


# --- names ------------------------------------------------------------------------------------------------

API = policy(dns("api.example.com") + fqdn("api.example.com"))


def test_offline_a_name_is_allowed_once_it_has_been_looked_up() -> None:
    found = ask(world(API), "api.example.com:443")
    assert (found.outcome, found.supposed) == (Outcome.ALLOWED, True)
    assert any("has looked the name up" in note for note in found.notes)
    assert found.lookup is not None
    assert found.lookup.answer is Answer.ASKED


def test_a_name_that_no_dns_rule_lets_through_is_denied_whatever_toFQDNs_says() -> None:
    found = ask(world(policy(dns("www.example.com") + fqdn("api.example.com"))), "api.example.com:443")
    assert found.parts[0].outcome is Outcome.ALLOWED
    assert found.outcome is Outcome.DENIED


def test_a_name_whose_dns_passes_the_resolver_by_is_never_learned() -> None:
    found = ask(world(policy(TO_DNS + fqdn("api.example.com"))), "api.example.com:443")
    assert found.lookup is not None
    assert (found.lookup.answer, found.outcome) == (Answer.UNPROXIED, Outcome.DENIED)
    assert "waits for this name in vain" in found.lookup.hints[0]


def test_live_a_name_nobody_has_looked_up_is_denied_and_who_may_is_said() -> None:
    overview = world(API)
    found = ask(overview, "api.example.com:443", knowledge=live(overview))
    assert found.outcome is Outcome.DENIED
    assert found.notes[0] == (
        "no address of api.example.com is known on n1: no pod has looked it up, or its TTL is over; "
        "default/p egress[0] (p0.yaml:8:7) lets default/client look it up"
    )


def test_live_an_allow_says_from_which_query_the_address_is_known() -> None:
    overview = world(API)
    known = learned(overview, "api.example.com")
    found = ask(overview, "api.example.com:443", knowledge=live(overview, known))
    (said,) = only_side(found).rules
    assert (found.outcome, found.supposed, said.learned) == (Outcome.ALLOWED, False, (known,))


def test_live_an_address_opens_by_the_name_it_was_learned_for() -> None:
    overview = world(API)
    known = live(overview, learned(overview, "api.example.com"))
    assert ask(overview, f"{ADDRESS}:443", knowledge=known).outcome is Outcome.ALLOWED
    assert ask(overview, f"{ADDRESS}:80", knowledge=known).outcome is Outcome.DENIED
    assert ask(overview, f"{ADDRESS}:443", "other", known).parts[0].sides[0].decision is Decision.UNENFORCED


def test_a_shared_address_is_pointed_out() -> None:
    overview = world(policy(dns("*") + fqdn("api.example.com") + fqdn("*.example.net")))
    known = live(overview, learned(overview, "api.example.com"), learned(overview, "cdn.example.net"))
    found = ask(overview, "api.example.com:443", knowledge=known)
    assert found.notes == (
        f"{ADDRESS} is also known as cdn.example.net (under matchPattern *.example.net): "
        "it is open by either name",
    )


def test_a_name_is_open_by_the_address_it_shares() -> None:
    """The query for tracker.example.org was another pod's; api.example.com opens the address."""
    overview = world(policy(dns("*") + fqdn("api.example.com")))
    known = live(overview, learned(overview, "api.example.com"), learned(overview, "tracker.example.org"))
    found = ask(overview, "tracker.example.org:443", knowledge=known)
    assert found.outcome is Outcome.ALLOWED
    assert any("also known as api.example.com" in note for note in found.notes)


def test_world_rules_open_a_name_without_any_lookup_of_it_being_seen() -> None:
    overview = world(policy(TO_DNS + "    - toEntities: [world]\n"))
    assert ask(overview, "api.example.com:443", knowledge=live(overview)).outcome is Outcome.ALLOWED


def test_without_a_dns_server_only_the_connection_is_judged() -> None:
    found = ask(world(API), "api.example.com:443", knowledge=Knowledge())
    assert (found.lookup, found.outcome) == (None, Outcome.ALLOWED)


# --- Services ---------------------------------------------------------------------------------------------


def test_a_service_is_judged_per_backend_after_translation() -> None:
    found = ask(world(policy(WEB)), "service web:80")
    assert [(part.to, part.through, part.outcome) for part in found.parts] == [
        ("pod default/web-1 (10.244.0.4)", "Service default/web 10.96.0.20:80 → port 8080", Outcome.ALLOWED),
        ("pod default/web-2 (10.244.1.4)", "Service default/web 10.96.0.20:80 → port 8080", Outcome.ALLOWED),
    ]


def test_a_service_some_of_whose_backends_deny_is_partly_open() -> None:
    overview = world(policy(ingress=FROM_CLIENT.replace("client", "other"), selects="web, tier: far"))
    found = ask(overview, "service web:80")
    assert [part.outcome for part in found.parts] == [Outcome.ALLOWED, Outcome.DENIED]
    assert found.outcome is Outcome.PARTLY
    assert ask(overview, "service web:80", "other").outcome is Outcome.ALLOWED


@pytest.mark.parametrize("text", ["10.96.0.20:80", "web.default.svc.cluster.local:80", "svc/default/web:80"])
def test_a_service_may_be_named_in_several_ways(text: str) -> None:
    assert len(ask(world(), text).parts) == 2


def test_a_services_name_has_to_be_looked_up() -> None:
    found = ask(world(policy(dns("api.example.com") + WEB)), "web.default.svc.cluster.local:80")
    assert found.parts[0].outcome is Outcome.ALLOWED
    assert found.outcome is Outcome.DENIED


def test_a_port_that_the_service_has_not_is_an_error_with_those_it_has() -> None:
    with pytest.raises(InputError) as raised:
        ask(world(), "service web:443")
    assert raised.value.hint == "its ports: 80/TCP"


def test_a_service_with_nobody_behind_it_is_closed_to_all() -> None:
    found = ask(world(), "service lonely:80")
    (part,) = found.parts
    assert found.outcome is Outcome.DENIED
    assert (part.to, part.through, part.traffic, part.sides) == (
        "nobody (its EndpointSlices have no address for this port)",
        "Service default/lonely 10.96.0.30:80",
        "80/TCP",
        (),
    )


def test_a_dead_port_closes_no_other_port_of_its_service() -> None:
    served, slices = backed(
        Service(
            "default",
            "half",
            (IPv4Address("10.96.0.40"),),
            (ServicePort("http", "TCP", 80, 8080), ServicePort("metrics", "TCP", 9090, 9090)),
        ),
        "10.244.0.4",
    )
    half = replace(slices, ports=slices.ports[:1])
    found = ask(world(policy(WEB), more=(served, half)), "service half")
    assert {part.traffic: part.outcome for part in found.parts} == {
        "80/TCP": Outcome.ALLOWED,
        "9090/TCP": Outcome.DENIED,
    }


def test_queries_to_a_dead_gated_port_go_to_the_resolver_all_the_same() -> None:
    anywhere = "    - toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: api.example.com}]}}]\n"
    lonely = Service("default", "ns", (IPv4Address("10.96.0.53"),), (ServicePort("d", "UDP", 53, 53),))
    found = ask(world(policy(anywhere), more=backed(lonely)), "service ns:53/udp")
    assert found.outcome is Outcome.REDIRECTED


def test_queries_to_a_gated_server_go_to_the_resolver() -> None:
    found = ask(world(policy(dns("api.example.com"))), "service kube-system/kube-dns:53/udp")
    assert found.outcome is Outcome.REDIRECTED
    assert [said.text for said in found.parts[0].redirects] == ["matchName api.example.com"]
    assert found.parts[0].sides == ()


def test_a_rule_that_opens_every_name_on_a_gated_server_is_named_beside_the_one_that_lists_names() -> None:
    found = ask(world(policy(dns("api.example.com") + TO_DNS)), "service kube-system/kube-dns:53/udp")
    assert found.outcome is Outcome.REDIRECTED
    assert [said.text for said in found.parts[0].redirects] == ["matchName api.example.com", "every name"]


# --- all traffic ------------------------------------------------------------------------------------------


def shares(to: str, *policies: str) -> dict[str, Outcome]:
    return {part.traffic: part.outcome for part in ask(world(*policies), to).parts}


def test_without_a_port_the_traffic_is_cut_where_rules_cut_it() -> None:
    assert shares("web-1", policy(WEB)) == {"8080/TCP": Outcome.ALLOWED, "all other traffic": Outcome.DENIED}
    assert shares("web-1") == {"all traffic": Outcome.ALLOWED}


def test_a_range_with_a_denied_hole_is_cut_there() -> None:
    ports = "{{port: '{}', endPort: {}, protocol: UDP}}"
    rule = "    - toEntities: [world]\n      toPorts: [{{ports: [{}]}}]\n"
    holed = policy(
        rule.format(ports.format(1000, 2000)), more="  egressDeny:\n" + rule.format(ports.format(1500, 1500))
    )
    assert shares("198.51.100.10", holed) == {
        "1000-1499,1501-2000/UDP": Outcome.ALLOWED,
        "1500/UDP": Outcome.DENIED,
        "all other traffic": Outcome.DENIED,
    }


def test_icmp_types_that_rules_name_are_cut_out() -> None:
    echo = policy("    - toEntities: [world]\n      icmps: [{fields: [{family: IPv4, type: 8}]}]\n")
    assert shares("198.51.100.10", echo) == {"icmp-8": Outcome.ALLOWED, "all other traffic": Outcome.DENIED}


def test_the_receivers_rules_cut_too() -> None:
    closed = policy(ingress=FROM_CLIENT, selects="web")
    assert shares("web-1", closed) == {"8080/TCP": Outcome.ALLOWED, "all other traffic": Outcome.DENIED}


def test_a_rule_that_is_not_about_the_peer_cuts_nothing() -> None:
    elsewhere = policy(WEB + fqdn("api.example.com", port="4000"))
    assert shares("web-1:tcp", elsewhere) == shares("web-1:tcp", policy(WEB))


def test_all_ports_of_one_protocol_may_be_asked_about() -> None:
    assert shares("web-1:tcp", policy(WEB)) == {
        "8080/TCP": Outcome.ALLOWED,
        "1-8079,8081-65535/TCP": Outcome.DENIED,
    }


def test_what_is_partly_allowed_is_called_so() -> None:
    assert ask(world(policy(WEB)), "web-1").outcome is Outcome.PARTLY


# --- the world --------------------------------------------------------------------------------------------


def test_the_world_is_what_no_rule_is_more_particular_about() -> None:
    assert ask(world(policy("    - toCIDR: [192.0.2.0/24]\n")), "world").outcome is Outcome.DENIED
    assert ask(world(policy("    - toCIDR: [0.0.0.0/0]\n")), "world").outcome is Outcome.ALLOWED
    wide = policy("    - toCIDRSet: [{cidr: 0.0.0.0/0, except: [192.0.2.0/24]}]\n")
    assert ask(world(wide), "world").outcome is Outcome.ALLOWED
    assert ask(world(wide), "192.0.2.1").outcome is Outcome.DENIED


def test_the_own_node_and_another_are_told_apart() -> None:
    overview = world(policy("    - toEntities: [host]\n"))
    assert ask(overview, "host:22").outcome is Outcome.ALLOWED
    assert ask(overview, "remote-node:22").outcome is Outcome.DENIED
    assert ask(overview, "n2:22").outcome is Outcome.DENIED


def test_the_dns_server_is_the_one_that_was_given() -> None:
    found = ask(world(API), "api.example.com:443")
    assert found.lookup is not None
    assert found.lookup.server == DNS
