"""Egress and ingress, allows and denies: what is enforced in which direction, in which mode."""

from __future__ import annotations

import pytest

from acns.policy.model import Direction, DirectionPolicy, Enforcement
from acns.policy.objects import Policy, Rule, Spec
from acns.policy.selectors import Selector

from .policy_world import cluster, denied, dns_rule, manifest, node_of, opened, policy_of

IN = Direction.INGRESS
WEB = "endpoints:any:app=web,k8s:io.kubernetes.pod.namespace=default"


def sections(**rules: str) -> str:
    """A policy with several sections, in flow style."""
    text = manifest(" []").replace("\n  egress: []\n", "\n")
    return text + "".join(f"  {section}: {entries}\n" for section, entries in rules.items())


def test_each_direction_is_enforced_by_itself() -> None:
    out = policy_of("frontend", sections(egress="[{toEntities: [host]}]"))
    assert (out.egress.enforced, out.ingress.enforced) == (True, False)
    into = policy_of("frontend", sections(ingress="[{fromEntities: [host]}]"))
    assert (into.egress.enforced, into.ingress.enforced) == (False, True)


def test_ingress_names_its_peers_as_egress_does() -> None:
    policy = policy_of(
        "frontend",
        sections(
            ingress="[{fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: '80'}]}]},"
            " {fromEntities: [world, remote-node]}, {fromCIDR: [203.0.113.0/24]}]"
        ),
    )
    assert opened(policy, IN) == [
        (WEB, "ANY/80"),
        ("entity:world", "all"),
        ("entity:remote-node", "all"),
        ("cidr:203.0.113.0/24", "all"),
    ]


def test_denies_stand_beside_the_allows_of_their_direction() -> None:
    policy = policy_of(
        "frontend",
        sections(
            egress="[{toEntities: [world]}]",
            egressDeny="[{toCIDR: [203.0.113.0/24]}]",
            ingressDeny="[{fromEntities: [world]}]",
        ),
    )
    assert opened(policy) == [("entity:world", "all")]
    assert denied(policy) == [("cidr:203.0.113.0/24", "all")]
    assert denied(policy, IN) == [("entity:world", "all")]


def test_a_policy_of_denies_alone_denies_by_default_too() -> None:
    policy = policy_of("frontend", sections(egressDeny="[{toEntities: [world]}]"))
    assert policy.egress.enforced
    assert opened(policy) == []


def test_an_empty_deny_denies_by_default_and_nothing_that_a_rule_allows() -> None:
    empty = sections(egressDeny="[{}]")
    alone = policy_of("frontend", empty)
    assert (alone.egress, alone.ingress) == (DirectionPolicy(enforced=True), DirectionPolicy())
    both = policy_of("frontend", empty, manifest("- toEntities: [world]", name="q"))
    assert (opened(both), denied(both)) == ([("entity:world", "all")], [])
    opting_out = policy_of("frontend", sections(egressDeny="[{}]", enableDefaultDeny="{egress: false}"))
    assert (opened(opting_out), denied(opting_out)) == ([("everything", "all")], [])


def test_denies_that_opt_out_of_default_deny_leave_the_rest_open() -> None:
    policy = policy_of(
        "frontend",
        sections(egressDeny="[{toEntities: [world]}]", enableDefaultDeny="{egress: false}"),
    )
    assert opened(policy) == [("everything", "all")]
    assert denied(policy) == [("entity:world", "all")]


def test_one_policy_that_denies_by_default_is_enough() -> None:
    lax = sections(egress="[{toEntities: [host]}]", enableDefaultDeny="{egress: false}")
    policy = policy_of("frontend", lax, manifest("- toEntities: [world]", name="q"))
    assert opened(policy) == [("entity:host", "all"), ("entity:world", "all")]


def test_a_spec_says_nothing_of_a_direction_it_has_no_rules_for() -> None:
    """Cilium asks per rule, whatever enableDefaultDeny says."""
    rule = policy_rules(manifest(" [{}]"))
    spec = Spec(Selector(), rule, default_deny=frozenset(Direction))
    strange = Policy("CiliumNetworkPolicy", "default", "p", (spec,))
    policy = policy_of("frontend", more=(strange,))
    assert policy.egress.enforced
    assert not policy.ingress.enforced


def policy_rules(text: str) -> tuple[Rule, ...]:
    (policy,) = cluster(text).policies
    return policy.specs[0].rules


# --- ICMP and ranges ---------------------------------------------------------------------------------------


def test_icmp_types_are_traffic_of_their_own() -> None:
    policy = policy_of(
        "frontend", sections(egress="[{toEntities: [world], icmps: [{fields: [{type: 8}, {type: 0}]}]}]")
    )
    assert opened(policy) == [("entity:world", "ICMP/8"), ("entity:world", "ICMP/0")]


def test_icmp_without_a_peer_means_any_peer() -> None:
    policy = policy_of("frontend", sections(egress="[{icmps: [{fields: [{type: EchoRequest}]}]}]"))
    assert opened(policy) == [("everything", "ICMP/8")]


def test_icmp_of_ipv6_alone_opens_nothing() -> None:
    fields = "[{fields: [{type: 128, family: IPv6}]}]"
    policy = policy_of("frontend", sections(egress=f"[{{toEntities: [world], icmps: {fields}}}]"))
    assert policy.egress.enforced
    assert opened(policy) == []


def test_a_range_of_ports_stays_a_range() -> None:
    ports = "[{ports: [{port: '8000', endPort: 8999, protocol: TCP}]}]"
    policy = policy_of("frontend", sections(egress=f"[{{toEntities: [world], toPorts: {ports}}}]"))
    assert opened(policy) == [("entity:world", "TCP/8000-8999")]


# --- modes -------------------------------------------------------------------------------------------------

CLOSED, UNRESTRICTED = DirectionPolicy(enforced=True), DirectionPolicy()


def test_never_enforces_nothing_and_redirects_nothing() -> None:
    policy = policy_of("frontend", manifest(dns_rule("a.io")), enforcement=Enforcement.NEVER)
    assert (policy.egress, policy.ingress, policy.dns) == (UNRESTRICTED, UNRESTRICTED, ())


def test_always_closes_every_direction_of_every_endpoint() -> None:
    for policy in node_of(enforcement=Enforcement.ALWAYS).endpoints:
        assert (policy.egress, policy.ingress) == (CLOSED, CLOSED)


@pytest.mark.parametrize("choice", ["true", "false"])
def test_always_denies_by_default_whatever_a_policy_says(choice: str) -> None:
    text = sections(egress="[{toEntities: [host]}]", enableDefaultDeny=f"{{egress: {choice}}}")
    policy = policy_of("frontend", text, enforcement=Enforcement.ALWAYS)
    assert opened(policy) == [("entity:host", "all")]
    assert policy.ingress == CLOSED


def test_always_counts_names_that_a_policy_would_leave_open() -> None:
    text = manifest(dns_rule("a.io"), extra="enableDefaultDeny: {egress: false}")
    (dns,) = policy_of("frontend", text, enforcement=Enforcement.ALWAYS).dns
    assert dns.names is not None
