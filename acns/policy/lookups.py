"""What becomes of a pod's DNS query: who takes it, which rule lets the name through, what its answer opens.

A query that no `rules.dns` block redirects is a packet like any other: its name is not looked at, and nothing
is learned from the answer. One that is redirected is judged by its name alone, and the resolver asks the
server itself, with its node's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.policy import near_names, verdict
from acns.policy.connections import Part, parts
from acns.policy.learnings import Learnings
from acns.policy.model import FQDN, Direction, DNSAllow, Origin, Ports, Protocol
from acns.policy.overview import Local, Overview
from acns.policy.reasons import Said
from acns.policy.routes import Outcome
from acns.policy.verdict import Decision
from acns.policy.wording import selector_text, servers_text, traffic_text

DNS_PORT = 53
_UDP = 17


class Answer(StrEnum):
    """What the pod gets."""

    ASKED = "asked"  # the resolver asks the server, and learns from what it says
    REFUSED = "refused"  # by the resolver
    UNPROXIED = "unproxied"  # the server answers; names are not looked at, nothing is learned
    BLOCKED = "blocked"  # no answer: the query is dropped


@dataclass(frozen=True, slots=True)
class Server:
    """A DNS server as the pod names it."""

    address: IPv4Address
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Lookup:
    """`redirects`: the blocks that take the query to the resolver; `allow`: the one that lets the name
    through; `names`: what may be asked there. `parts`: the query as a packet, where nobody takes it.
    `opens`: what the answer's addresses are opened for. `hints`: what to look at."""

    name: str
    server: Server
    answer: Answer
    redirects: tuple[Said, ...] = ()
    allow: Said | None = None
    names: tuple[Said, ...] = ()
    parts: tuple[Part, ...] = ()
    opens: tuple[Said, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def succeeds(self) -> bool:
        return self.answer in (Answer.ASKED, Answer.UNPROXIED)


def lookup(overview: Overview, source: Local, name: Name, server: Server, learned: Learnings) -> Lookup:
    """What becomes of a query for `name` over UDP. `learned`: what the node knows already."""
    found = verdict.name_verdict(source.policy, source.node, server.address, _UDP, server.port, name)
    text = names.to_text(name).removesuffix(".") or "."
    opens = tuple(_opens(source, name))
    if not found.redirects:
        packet = Ports(Protocol.UDP, server.port, server.port)
        ways = parts(overview, source, server.address, packet, learned)
        blocked = any(part.outcome is Outcome.DENIED for part in ways)
        answer = Answer.BLOCKED if blocked else Answer.UNPROXIED
        see = _lacking(overview, source, name, text, server, ways) if blocked else _unseen(opens)
        return Lookup(text, server, answer, parts=ways, opens=opens, hints=tuple(see))
    redirects = tuple(
        Said(one.origin, f"rules.dns, servers {servers_text(one.servers)}") for one in found.redirects
    )
    asked = tuple(_names(source, server))
    if found.allow is None:
        hints = tuple(near_names.refused(name, text, tuple(_serving(source, server)), opens))
        return Lookup(text, server, Answer.REFUSED, redirects, names=asked, opens=opens, hints=hints)
    allow = Said(found.allow.origin, _entry(found.allow, name))
    hints = tuple(_unanswered(overview, source, server))
    return Lookup(text, server, Answer.ASKED, redirects, allow, asked, opens=opens, hints=hints)


def _lacking(
    overview: Overview, source: Local, name: Name, text: str, server: Server, ways: Iterable[Part]
) -> Iterator[str]:
    """The denies that keep the pod from the server, or else rules that are for other servers; where the pod
    is not alone at its address, none is to blame."""
    sides = [side for part in ways for side in part.sides if not side.allowed]
    denies = [side.rules[0].origin for side in sides if side.decision is Decision.DENIED]
    for origin in dict.fromkeys(denies):
        yield f"{origin} denies the server: a deny beats every allow, rules.dns too"
    unmatched = any(
        side.direction is Direction.EGRESS and side.decision is Decision.UNMATCHED for side in sides
    )
    if unmatched and not denies and len(overview.claimants(source.resident)) == 1:
        yield from near_names.blocked(name, text, str(server), source.policy.dns)


def _opens(source: Local, name: Name) -> Iterator[Said]:
    for origin, selector, ports in _fqdns(source):
        if selector.matches(name):
            yield Said(origin, f"toFQDNs {selector_text(selector)}, {ports}")


def _fqdns(source: Local) -> Iterator[tuple[Origin, FQDNSelector, str]]:
    """Each `toFQDNs` entry with all of its traffic."""
    found: dict[tuple[Origin, FQDNSelector], list[str]] = {}
    for match in source.policy.egress.allows:
        if isinstance(match.peer, FQDN):
            found.setdefault((match.origin, match.peer.selector), []).append(traffic_text(match.traffic))
    return ((origin, selector, " and ".join(ports)) for (origin, selector), ports in found.items())


def _serving(source: Local, server: Server) -> Iterator[DNSAllow]:
    return (
        one
        for one in source.policy.dns
        if verdict.serves(one.servers, source.node, server.address, _UDP, server.port)
    )


def _names(source: Local, server: Server) -> Iterator[Said]:
    for one in _serving(source, server):
        listed = ["every name"] if one.names is None else map(selector_text, one.names)
        yield from (Said(one.origin, text) for text in listed)


def _entry(allow: DNSAllow, name: Name) -> str:
    if allow.names is None:
        return "every name" + ("" if allow.redirects else ", by a rule without rules.dns")
    return f"rules.dns {selector_text(next(one for one in allow.names if one.matches(name)))}"


def _unseen(opens: Iterable[Said]) -> Iterator[str]:
    """Answers that nobody learns from."""
    for said in opens:
        yield (
            f"{said.origin} waits for this name in vain: answers of this server pass the resolver by; "
            "a rule with rules.dns for it makes them seen"
        )


def _unanswered(overview: Overview, source: Local, server: Server) -> Iterator[str]:
    """The resolver asks with its node's address, which the server's own ingress may not let in."""
    asking = min(source.node.node_addresses, default=None)
    for node in overview.cluster.nodes:
        if node.name == source.node.node and node.addresses:
            asking = node.addresses[0]
    packet = Ports(Protocol.UDP, server.port, server.port)
    for part in parts(overview, source, server.address, packet, Learnings()):
        receiver = part.route.receiver
        if receiver is None or asking is None:
            continue
        arriving = part.route.translated(packet)
        if not verdict.ingress_verdict(receiver.policy, receiver.node, asking, arriving).allowed:
            here = f"{asking} (node {source.node.node})"
            yield f"the resolver asks from {here}, and ingress of {receiver.key} denies that"
