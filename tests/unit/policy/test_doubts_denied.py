"""A toFQDNs whose ports a deny shuts to every address is doubted; one that keeps something is not."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from acns.errors import Problem
from acns.policy.model import Enforcement
from acns.policy.objects import CIDRGroup, Object
from acns.policy.resolve import problems

from .doubting import codes, found, without_pods
from .policy_world import cluster, clusterwide, dns_rule, manifest

ALLOW = manifest("- toFQDNs: [{matchName: a.io}]\n  toPorts: [{ports: [PORT]}]\n" + dns_rule("a.io"))
HTTPS = ALLOW.replace("PORT", "{port: '443', protocol: TCP}")
EVERY_PORT = manifest("- toFQDNs: [{matchName: a.io}]\n" + dns_rule("a.io"))
HALVES = "0.0.0.0/1, 128.0.0.0/1"


def deny(rule: str, *, selector: str = "{matchLabels: {app: frontend}}") -> str:
    return manifest(rule, name="deny", selector=selector).replace("egress:", "egressDeny:")


def at(peer: str, *ports: str) -> str:
    return f"- {peer}\n  toPorts: [{{ports: [{', '.join(ports)}]}}]"


def denied(*texts: str, more: tuple[Object, ...] = ()) -> list[Problem]:
    return [problem for problem in found(*texts, more=more) if problem.code == "fqdn-denied"]


@pytest.mark.parametrize(
    "rule",
    [
        "- toEntities: [world]",
        "- toEntities: [all]",
        "- toCIDR: [0.0.0.0/0]",
        f"- toCIDR: [{HALVES}]",
        "- toCIDRSet: [{cidrGroupRef: every}]",
        at("toEntities: [world]", "{port: '443'}"),
        at("toEntities: [world]", "{port: '400', endPort: 500, protocol: TCP}"),
        at("toCIDR: [0.0.0.0/0]", "{port: '0', protocol: TCP}"),
        "- toPorts: [{ports: [{port: '443', protocol: TCP}]}]",
    ],
)
def test_names_at_ports_that_are_denied_everywhere_open_nothing(rule: str) -> None:
    every = CIDRGroup("every", (IPv4Network("0.0.0.0/0"),))
    (problem,) = denied(HTTPS, deny(rule), more=(every,))
    assert (problem.line, problem.warning) == (10, True)
    by = "default/deny egressDeny[0] (p.yaml:10:5)"
    assert problem.message == f"toFQDNs opens nothing: its ports are denied at every address by {by}"
    assert problem.hint.startswith("a deny goes before every allow")


@pytest.mark.parametrize(
    "rule",
    [
        "- toEntities: [cluster]",
        "- toCIDR: [0.0.0.0/1]",
        "- toCIDRSet: [{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}]",
        "- {}",
        at("toEntities: [world]", "{port: '80', protocol: TCP}"),
        at("toEntities: [world]", "{port: '443', protocol: UDP}"),
        at("toEntities: [world]", "{port: https}"),
        "- toEntities: [world]\n  icmps: [{fields: [{type: 8}]}]",
    ],
)
def test_a_deny_of_a_part_is_meant(rule: str) -> None:
    assert denied(HTTPS, deny(rule)) == []


def test_every_port_of_the_rule_must_be_denied() -> None:
    both = ALLOW.replace("PORT", "{port: '443', protocol: TCP}, {port: '80', protocol: TCP}")
    https = at("toEntities: [world]", "{port: '443'}")
    http = at("toEntities: [world]", "{port: '80'}")
    assert denied(both, deny(https)) == []
    (problem,) = denied(both, deny(https + "\n" + http))
    assert "egressDeny[0]" in problem.message
    assert "egressDeny[1]" in problem.message
    over_any = ALLOW.replace("PORT", "{port: '443', protocol: ANY}")
    assert denied(over_any, deny(at("toEntities: [world]", "{port: '443', protocol: TCP}"))) == []
    assert denied(over_any, deny(https))
    assert denied(EVERY_PORT, deny(at("toEntities: [world]", "{port: '0'}"))) == []  # ICMP is left
    assert denied(EVERY_PORT, deny("- toEntities: [world]"))


def test_the_deny_must_apply_to_all_pods_that_the_rule_applies_to() -> None:
    world = "- toEntities: [world]"
    for_all = HTTPS.replace("endpointSelector: {matchLabels: {app: frontend}}", "endpointSelector: {}")
    assert denied(for_all, deny(world)) == []
    assert denied(HTTPS, deny(world, selector="{matchLabels: {app: legacy}}")) == []
    assert denied(HTTPS, deny(world, selector="{}"))
    assert denied(HTTPS, clusterwide(world).replace("egress:", "egressDeny:"))


def test_it_is_seen_without_pods_too_and_not_where_nothing_is_enforced() -> None:
    texts = HTTPS, deny("- toEntities: [world]")
    assert [problem.code for problem in without_pods(*texts)] == ["fqdn-denied"]
    assert problems(cluster(*texts), Enforcement.NEVER) == []


def test_a_comment_at_the_rule_silences_it() -> None:
    said = HTTPS.replace("matchName: a.io}]\n", "matchName: a.io}] # acns:ignore fqdn-denied\n", 1)
    assert said != HTTPS
    assert codes(said, deny("- toEntities: [world]")) == []
