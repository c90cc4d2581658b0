"""DNS servers that rules do not mean as they seem to: Services that stand for nobody, servers that nothing
can watch, names that are open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from acns.dns.pattern import FQDNSelector
from acns.errors import Problem
from acns.policy import profiles
from acns.policy.cluster import Cluster
from acns.policy.codes import Code
from acns.policy.doubts.peers import speak_of_the_same
from acns.policy.doubts.scene import Doubt, Scene, Subject, at_rule
from acns.policy.model import DNSAllow, DNSServers, Origin, Protocol
from acns.policy.networks import common, without
from acns.policy.objects import CIDRGroupPeer, PortBlock, Rule
from acns.policy.peers import cidr_groups
from acns.policy.servers import Undecidable


def doubts(scene: Scene) -> Iterator[Doubt]:
    yield from _link_local(scene.cluster)
    for subject in scene.subjects:
        if subject.meaning is not None:
            redirects = subject.meaning.redirects
            yield from (_undecidable(origin, found) for origin, found in redirects.undecidable)
            yield from _opened(redirects.dns)
        else:
            yield from _opened_by_words(subject)


def _undecidable(origin: Origin, found: Undecidable) -> Doubt:
    message = f"Service {found.service} cannot be a DNS server here: {found.reason}"
    hint = "a query to a ClusterIP names no backend, so it is refused: treat all backends alike"
    return Doubt(Problem(origin.path, origin.line, origin.column, message, hint))


def _link_local(cluster: Cluster) -> Iterator[Doubt]:
    """Node-local DNS in a CiliumCIDRGroup: what a rule names itself is refused when it is read."""
    rules = (rule for policy in cluster.policies for spec in policy.specs for rule in spec.rules)
    for rule in rules:
        if any(block.dns is not None for block in rule.ports or ()):
            for peer in (each for each in rule.peers or () if isinstance(each, CIDRGroupPeer)):
                yield from _link_local_in(peer, cluster)


def _link_local_in(peer: CIDRGroupPeer, cluster: Cluster) -> Iterator[Doubt]:
    at = peer.place
    for group in cidr_groups(peer, cluster.cidr_groups):
        for network in without(group.networks, peer.excepted):
            if finding := profiles.dns_server(network):
                message = f"CiliumCIDRGroup '{group.name}': {finding.message}"
                yield Doubt(Problem(at.path, at.line, at.column, message, finding.hint))


def _opened(dns: tuple[DNSAllow, ...]) -> Iterator[Doubt]:
    """A server with names in one rule and none in another: Cilium's selector without DNS rules allows all."""
    for plain in (each for each in dns if not each.redirects):
        for listing in (each for each in dns if each.redirects and _lists_names(each)):
            if _meet(plain.servers, listing.servers):
                yield _open_by_l4(plain.origin, listing.origin)


def _opened_by_words(subject: Subject) -> Iterator[Doubt]:
    """The same where there are no pods, and no servers: rules that by their words mean the same port of
    somebody, whoever that is."""
    if not subject.denies_out:
        return  # and so names do not count
    opening, listing = _Rules(), _Rules()
    for rule in subject.allows_out():
        for block in rule.ports or ():
            if block.dns is None:
                _note(opening, rule, block)
            elif block.dns and not _is_match_all(block.dns):
                _note(listing, rule, block)
    met = {
        (id(plain), id(rule)): (plain, rule)
        for key in opening.keys() & listing.keys()
        for protocol, plain in opening[key].values()
        for other, rule in listing[key].values()
        if protocol is other or Protocol.ANY in (protocol, other)
    }
    for plain, rule in met.values():
        if speak_of_the_same(plain, rule):
            yield _open_by_l4(plain.origin, rule.origin)


_Rules = dict[tuple[str, int, int], dict[tuple[Protocol, int], tuple[Protocol, Rule]]]
"""By port: those that speak of it, each once for a protocol."""


def _note(rules: _Rules, rule: Rule, block: PortBlock) -> None:
    for port in block.ports:
        at_port = rules.setdefault((port.name, port.first, port.last), {})
        at_port[port.protocol, id(rule)] = port.protocol, rule


def _open_by_l4(plain: Origin, listing: Origin) -> Doubt:
    return at_rule(
        Code.DNS_OPEN_BY_L4,
        plain,
        f"this opens every name on DNS servers for which {listing} lists names",
        "give this rule rules.dns too, or another port: the real agent has crashed on this pair",
    )


def _is_match_all(names: Iterable[FQDNSelector]) -> bool:
    return any(name.is_match_all for name in names)


def _lists_names(allow: DNSAllow) -> bool:
    return allow.names is not None and not _is_match_all(allow.names)


def _meet(opened: DNSServers, listing: DNSServers) -> bool:
    """Whether a rule opens something of what the other one redirects."""
    if not opened.exact.isdisjoint(listing.exact):
        return True
    if any(
        (server.protocol, server.port) in listing.ports and server.address in network
        for server in opened.exact
        for network in listing.networks
        if not listing.outside_only
    ):
        return True
    return not opened.ports.isdisjoint(listing.ports) and bool(common(opened.networks, listing.networks))
