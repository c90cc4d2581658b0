"""What is wrong or doubtful *between* objects: each is right by itself, together they miss what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from acns.errors import Problem
from acns.policy.directory import Directory
from acns.policy.meaning import NodeResolver
from acns.policy.model import FQDN, Addresses, Origin, Peer, Ports
from acns.policy.objects import EgressRule, Spec, ToFQDN
from acns.policy.peers import peers_of

DNS_PORT = 53


def problems(directory: Directory) -> list[Problem]:
    """Over all nodes, sorted, each once."""
    nodes = sorted({resident.pod.node_name for resident in directory.residents.values()})
    found: set[Problem] = set(_same_address(directory))
    for node_name in nodes:
        found.update(_unexpanded(NodeResolver(directory, node_name)))
    found.update(_names_without_dns(directory))
    return sorted(found)


def _same_address(directory: Directory) -> Iterator[Problem]:
    for pod, first in directory.doubles:
        yield Problem(
            pod.place.path,
            pod.place.line,
            pod.place.column,
            f"pod {pod.key} has the address {pod.pod_ip} of pod {first.key}: no policy is enforced on it",
            "a finished pod should be in phase Succeeded or Failed",
        )


def _unexpanded(resolver: NodeResolver) -> Iterator[Problem]:
    for _ in resolver.endpoints():
        pass  # resolving collects them
    for origin, mixed in resolver.mixed:
        yield _at(
            origin,
            f"Service {mixed.service} cannot be a DNS server here: {mixed.reason}",
            "a query to a ClusterIP names no backend: select all of them, with equal labels",
        )


def _names_without_dns(directory: Directory) -> Iterator[Problem]:
    """toFQDNs learns from answers: a pod that may ask no DNS server never learns an address."""
    judged: set[frozenset[str]] = set()
    used: set[Origin] = set()
    for resident in directory.residents.values():
        if resident.labels.texts in judged:
            continue
        judged.add(resident.labels.texts)
        rules = [(rule, spec) for spec in directory.specs_for(resident) for rule in spec.egress]
        used.update(rule.origin for rule, _ in rules)
        yield from _without_dns(rules, directory, f"pod {resident.pod.key}")
    for policy in directory.cluster.policies:
        # One that selects no pod so far is judged by itself.
        rules = [(rule, spec) for spec in policy.specs for rule in spec.egress]
        if not any(rule.origin in used for rule, _ in rules):
            yield from _without_dns(rules, directory, f"a pod with policy {policy.key} alone")


def _without_dns(rules: list[tuple[EgressRule, Spec]], directory: Directory, who: str) -> Iterator[Problem]:
    if any(_lets_dns_through(rule, directory) for rule, _ in rules):
        return
    if rules and not any(spec.default_deny for _, spec in rules):
        return
    for rule, _ in rules:
        if any(isinstance(peer, ToFQDN) for peer in rule.peers or ()):
            yield _at(
                rule.origin,
                f"toFQDNs opens nothing for {who}: no rule lets it ask a DNS server",
                "add an egress rule with toEndpoints for kube-dns, toPorts 53 and rules.dns",
                warning=True,
            )


def _lets_dns_through(rule: EgressRule, directory: Directory) -> bool:
    """By the rule's own words: which server it means may not be there yet."""
    if any(block.dns is not None for block in rule.ports or ()):
        return True
    peers = [peer for peer in peers_of(rule, directory, "") if not isinstance(peer, FQDN)]
    ports = None if rule.ports is None else [each for block in rule.ports for each in block.ports]
    if ports is not None and any(_names_dns_port(each) for each in ports):
        return bool(peers)
    if ports is None or any(_includes_dns_port(each) for each in ports):
        return any(_may_hold_dns(peer, directory) for peer in peers)
    return False


def _names_dns_port(ports: Ports) -> bool:
    return ports.first == ports.last == DNS_PORT


def _includes_dns_port(ports: Ports) -> bool:
    return ports.first == 0 or ports.first <= DNS_PORT <= ports.last


def _may_hold_dns(peer: Peer, directory: Directory) -> bool:
    """Whether a rule for all ports of `peer` reaches a DNS server, as far as Services tell."""
    return not isinstance(peer, Addresses) or not peer.addresses.isdisjoint(_dns_backends(directory))


def _dns_backends(directory: Directory) -> set[IPv4Address]:
    return {
        address
        for front in directory.fronts.values()
        if front.port == DNS_PORT
        for address, _ in front.backends
    }


def _at(origin: Origin, message: str, hint: str, *, warning: bool = False) -> Problem:
    return Problem(origin.path, origin.line, origin.column, message, hint, warning)
