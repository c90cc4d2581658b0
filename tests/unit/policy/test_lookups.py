"""What becomes of a DNS query, and what is said about the mistakes that people make with patterns."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from acns.policy.explain import Knowledge, explain_query
from acns.policy.lookups import Answer, Lookup, Server
from acns.policy.objects import Service, ServicePort
from acns.policy.routes import Outcome

from .explain_world import TO_DNS, ask_name, backed, dns, fqdn, policy, world


def look_up(name: str, *policies: str, source: str = "client") -> Lookup:
    found = ask_name(world(*policies), name, source)
    assert found.lookup is not None
    assert found.outcome is (Outcome.ALLOWED if found.lookup.succeeds else Outcome.DENIED)
    return found.lookup


def test_a_name_of_rules_dns_is_asked_and_its_entry_named() -> None:
    found = look_up("API.example.com", policy(dns("*.example.com", "api.example.com")))
    assert found.answer is Answer.ASKED
    assert found.allow is not None
    assert str(found.allow.origin) == "default/p egress[0] (p0.yaml:8:7)"
    assert found.allow.text == "rules.dns matchPattern *.example.com"


def test_any_other_name_is_refused_and_those_allowed_are_listed() -> None:
    found = look_up("evil.example.org", policy(dns("api.example.com", "*.example.net")))
    assert found.answer is Answer.REFUSED
    assert [said.text for said in found.names] == ["matchName api.example.com", "matchPattern *.example.net"]


def test_without_a_policy_names_are_not_looked_at() -> None:
    assert look_up("evil.example.org").answer is Answer.UNPROXIED


def test_a_plain_rule_for_the_server_leaves_names_alone() -> None:
    found = look_up("evil.example.org", policy(TO_DNS))
    assert found.answer is Answer.UNPROXIED
    assert found.parts[0].outcome is Outcome.ALLOWED


def test_a_rule_without_rules_dns_opens_every_name_on_a_server_that_has_them() -> None:
    found = look_up("evil.example.org", policy(dns("api.example.com")), policy(TO_DNS, name="q"))
    assert found.answer is Answer.ASKED
    assert found.allow is not None
    assert found.allow.text == "every name, by a rule without rules.dns"
    assert found.allow.origin.policy == "default/q"


def test_no_rule_for_the_server_at_all_means_no_answer() -> None:
    found = look_up("api.example.com", policy(fqdn("api.example.com")))
    assert found.answer is Answer.BLOCKED
    assert found.parts[0].outcome is Outcome.DENIED


def test_another_server_than_the_policys_is_not_reached() -> None:
    overview = world(policy(dns("api.example.com")))
    local = overview.local(overview.pod("client"))
    asked = Knowledge(server=Server(IPv4Address("203.0.113.53")))
    found = explain_query(overview, local, (b"api", b"example", b"com"), asked)
    assert found.lookup is not None
    assert found.lookup.answer is Answer.BLOCKED


def test_what_the_answer_opens_is_listed() -> None:
    found = look_up("api.example.com", policy(dns("*") + fqdn("*.example.com") + fqdn("www.example.com")))
    assert [said.text for said in found.opens] == ["toFQDNs matchPattern *.example.com, 443/TCP"]


def test_the_bare_domain_is_said_to_be_outside_its_own_wildcard() -> None:
    found = look_up("example.com", policy(dns("*.example.com")))
    assert found.hints == (
        "default/p egress[0] (p0.yaml:8:7): *.example.com is exactly one label more than example.com; "
        "add matchName example.com",
    )


def test_two_labels_are_said_to_be_too_many_for_a_wildcard() -> None:
    found = look_up("a.b.example.com", policy(dns("*.example.com")))
    assert found.hints[0].endswith("is exactly one label more than example.com, and a.b.example.com has more")


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("\\032.example.com", "\\032"),
        ("*.example.com", "*"),
        ("www.example.com:443", ":"),
        ("a\\.b.example.com", "\\."),
    ],
)
def test_of_a_name_that_no_policy_can_spell_the_odd_character_is_told_and_nothing_to_add(
    name: str, odd: str
) -> None:
    for rules in (dns("*.example.com"), fqdn("*.example.com")):
        hints = look_up(name, policy(rules)).hints
        reason = f"'{odd}' is none of the letters, digits, '-' and '_' that others have"
        assert hints[-1] == f"only a pattern that matches every name matches {name}: {reason}"
        assert not any("add matchName" in hint or "with matchName" in hint for hint in hints)


def test_the_root_is_called_by_its_dot_and_matched_by_no_name() -> None:
    found = look_up(".", policy(dns("*.example.com")))
    assert (found.name, found.answer) == (".", Answer.REFUSED)
    assert found.hints == ("only a pattern that matches every name matches the root",)


def test_a_misspelt_name_is_held_against_those_there_are() -> None:
    found = look_up("api.exmaple.com", policy(dns("api.example.com")))
    assert found.hints == ("default/p egress[0] (p0.yaml:8:7) has api.example.com: is that it?",)


def test_a_server_that_does_not_let_the_resolver_in_is_pointed_out() -> None:
    closed = policy(
        ingress="    - fromEndpoints: [{matchLabels: {app: client, io.kubernetes.pod.namespace: default}}]\n",
        name="q",
        selects="dns",
    ).replace("namespace: default}", "namespace: kube-system}", 1)
    found = look_up("api.example.com", policy(dns("api.example.com")), closed)
    assert found.answer is Answer.ASKED
    assert found.hints == (
        "the resolver asks from 172.18.0.2 (node n1), and ingress of kube-system/dns denies that",
    )


# --- what is missing ---------------------------------------------------------------------------------------


def test_the_nearest_rule_is_named_where_no_name_is_alike() -> None:
    found = look_up("evil.example.org", policy(dns("api.example.com") + dns("www.example.org")))
    assert found.hints == (
        "the nearest rule is default/p egress[1] (p0.yaml:13:7), with matchName www.example.org; "
        "add matchName evil.example.org there",
    )


def test_a_rule_that_waits_for_the_name_is_named() -> None:
    found = look_up("cdn.example.net", policy(dns("api.example.com") + fqdn("cdn.example.net")))
    assert found.answer is Answer.REFUSED
    assert found.hints[-1].startswith("default/p egress[1]")
    assert "waits for this name in vain" in found.hints[-1]


def test_a_rule_for_another_server_is_named() -> None:
    overview = world(policy(dns("api.example.com")))
    local = overview.local(overview.pod("client"))
    asked = Knowledge(server=Server(IPv4Address("203.0.113.53")))
    for name, says in (
        ((b"api", b"example", b"com"), "lets it ask for this name, but at"),
        ((b"x", b"io"), "has rules.dns (without this name), but at"),
    ):
        found = explain_query(overview, local, name, asked)
        assert found.lookup is not None
        (hint,) = found.lookup.hints
        assert says in hint
        assert hint.startswith("default/p egress[0] (p0.yaml:8:7)")
        assert hint.endswith(
            "but at endpoints app=dns, namespace kube-system at 53/TCP, 53/UDP; "
            "203.0.113.53:53 is not among these"
        )


def test_no_rule_with_names_at_all_is_said() -> None:
    (hint,) = look_up("api.example.com", policy(fqdn("api.example.com"))).hints
    assert "no rule with rules.dns is for the server" in hint
    assert hint.endswith("rules.dns with matchName api.example.com")


def test_a_deny_of_the_server_is_named_and_no_rule_is_missed() -> None:
    kube_system = "toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system}}]"
    denied = policy(dns("api.example.com").rstrip(), more=f"  egressDeny:\n    - {kube_system}\n")
    found = look_up("api.example.com", denied)
    assert found.answer is Answer.BLOCKED
    assert found.hints == (
        "default/p egressDeny[0] (p0.yaml:7:7) denies the server: a deny beats every allow, rules.dns too",
    )


def test_where_the_servers_own_ingress_denies_no_rule_of_the_pod_is_missed() -> None:
    closed = policy(ingress="    - fromEndpoints: [{matchLabels: {app: other}}]\n", name="q", selects="dns")
    in_kube_system = closed.replace("namespace: default}", "namespace: kube-system}", 1)
    found = look_up("api.example.com", in_kube_system)
    assert (found.answer, found.hints) == (Answer.BLOCKED, ())


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        ("toCIDR: [203.0.113.0/24, 198.51.100.1/32]", "CIDR 198.51.100.1/32, 203.0.113.0/24 at 53/UDP"),
        ("toEntities: [world, host]", "entity host or entity world at 53/UDP"),
        ("toServices: [{k8sService: {serviceName: ext}}]", "CIDR 203.0.113.53/32 at 53/UDP"),
        ("", "anybody at 53/UDP"),
    ],
)
def test_the_servers_of_a_rule_are_told_in_the_words_of_policies(peer: str, text: str) -> None:
    ports = "toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchName: a.io}]}}]"
    external = backed(Service("default", "ext", (), (ServicePort("d", "UDP", 53, 53),)), "203.0.113.53")
    lines = [peer, ports] if peer else [ports]
    rule = "    - " + "\n      ".join(lines) + "\n"
    overview = world(policy(rule), more=external)
    local = overview.local(overview.pod("client"))
    asked = Knowledge(server=Server(IPv4Address("203.0.113.53")))
    found = explain_query(overview, local, (b"a", b"io"), asked).lookup
    assert found is not None
    assert [said.text for said in found.redirects] == [f"rules.dns, servers {text}"]


def test_servers_about_which_no_rule_can_decide_are_told_by_their_addresses() -> None:
    both = backed(
        Service("default", "ns", (IPv4Address("10.96.0.53"),), (ServicePort("d", "UDP", 53, 53),)),
        "10.244.1.53",
        "10.244.0.3",
    )
    overview = world(policy(dns("a.io")), more=both)
    local = overview.local(overview.pod("client"))
    asked = Knowledge(server=Server(IPv4Address("10.96.0.53")))
    found = explain_query(overview, local, (b"a", b"io"), asked).lookup
    assert found is not None
    assert [said.text for said in found.redirects] == ["rules.dns, servers 10.96.0.53 at 53/UDP"]
