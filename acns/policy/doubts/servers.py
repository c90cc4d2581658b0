"""DNS servers that rules do not mean as they seem to: Services that stand for nobody, names that are open."""

from __future__ import annotations

from collections.abc import Iterator

from acns.errors import Problem
from acns.policy.codes import Code
from acns.policy.doubts.scene import Doubt, Scene, at_rule
from acns.policy.model import DNSAllow, DNSServers, Origin
from acns.policy.servers import Undecidable


def doubts(scene: Scene) -> Iterator[Doubt]:
    for subject in scene.subjects:
        if subject.meaning is not None:
            redirects = subject.meaning.redirects
            yield from (_undecidable(origin, found) for origin, found in redirects.undecidable)
            yield from _opened(redirects.dns)


def _undecidable(origin: Origin, found: Undecidable) -> Doubt:
    message = f"Service {found.service} cannot be a DNS server here: {found.reason}"
    hint = "a query to a ClusterIP names no backend, so it is refused: treat all backends alike"
    return Doubt(Problem(origin.path, origin.line, origin.column, message, hint))


def _opened(dns: tuple[DNSAllow, ...]) -> Iterator[Doubt]:
    """A server with names in one rule and none in another: Cilium's selector without DNS rules allows all."""
    for plain in (each for each in dns if not each.redirects):
        for listing in (each for each in dns if each.redirects and _lists_names(each)):
            if _meet(plain.servers, listing.servers):
                yield at_rule(
                    Code.DNS_OPEN_BY_L4,
                    plain.origin,
                    f"this opens every name on DNS servers for which {listing.origin} lists names",
                    "give this rule rules.dns too, or another port: the real agent has crashed on this pair",
                )


def _lists_names(allow: DNSAllow) -> bool:
    return allow.names is not None and not any(name.is_match_all for name in allow.names)


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
    overlapping = any(one.overlaps(other) for one in opened.networks for other in listing.networks)
    return overlapping and not opened.ports.isdisjoint(listing.ports)
