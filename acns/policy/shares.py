"""All traffic between two ends, cut into the shares that have one fate each.

Rules cut the ports of a protocol at a few numbers; between two cuts every port is judged alike, so judging
one of them says it of all. So it is with ICMP types that no rule names, and protocols that have no ports.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from acns.policy.learnings import Learnings
from acns.policy.model import ICMP, Direction, Match, Ports, Protocol, Traffic
from acns.policy.routes import PROTOCOLS, Judgement, Route, judge
from acns.policy.traffic import Packet
from acns.policy.wording import ECHO, HIGHEST_PORT, Span, spans_text

REST = "all other traffic"

Fate = Hashable


@dataclass(frozen=True, slots=True)
class Share:
    """Packets of one fate; `packet` is one of them and stands for all."""

    text: str
    packet: Packet
    judgement: Judgement


@dataclass(slots=True)
class _Group:
    judgement: Judgement
    packet: Packet
    spans: dict[Protocol, list[Span]] = field(default_factory=dict)
    types: list[str] = field(default_factory=list)
    has_rest: bool = False


class _Groups:
    """What has been judged, by fate."""

    def __init__(self, route: Route, learned: Learnings, fate: Callable[[Judgement], Fate]) -> None:
        self.found: dict[Fate, _Group] = {}
        self._route = route
        self._learned = learned
        self._fate = fate

    def of(self, packet: Packet) -> _Group:
        judged = judge(self._route, packet, self._learned)
        return self.found.setdefault(self._fate(judged), _Group(judged, packet))


def shares(
    route: Route, wanted: Traffic, learned: Learnings, fate: Callable[[Judgement], Fate] | None = None
) -> tuple[Share, ...]:
    """The shares of `wanted`: everything (None), every port of a protocol, or one single packet's kind.

    `fate`: what packets of one share have in common, else which rules decided what.
    What a Service does not translate is not asked about: give the packet that it does.
    """
    if isinstance(wanted, ICMP) or (isinstance(wanted, Ports) and wanted.first):
        text = (
            spans_text([(wanted.first, wanted.last)], wanted.protocol.value)
            if isinstance(wanted, Ports)
            else f"icmp-{wanted.type}"
        )
        return (Share(text, wanted, judge(route, wanted, learned)),)
    groups = _Groups(route, learned, fate or _fate)
    for protocol in PROTOCOLS.values() if wanted is None else (wanted.protocol,):
        for first, last in _spans(route, protocol):
            packet = Ports(protocol, first, first)
            group = groups.of(packet)
            _append(group.spans.setdefault(protocol, []), (first, last))
    if wanted is None:
        for kind, text in _types(route):
            groups.of(kind).types.append(text)
        groups.of(None).has_rest = True
    ordered = sorted(groups.found.values(), key=lambda group: group.has_rest)
    return tuple(
        Share(_text(group, alone=len(ordered) == 1), group.packet, group.judgement) for group in ordered
    )


def _fate(judgement: Judgement) -> Fate:
    """Which rules decided what: ports that one rule lists belong together."""
    verdicts = (one for one in (judgement.egress, judgement.ingress) if one)
    decided = [(one.decision, one.match.origin if one.match else None) for one in verdicts]
    return (judgement.outcome, *decided, *(allow.origin for allow in judgement.redirects))


def _spans(route: Route, protocol: Protocol) -> Iterator[Span]:
    """The ports between two cuts."""
    cuts = {1, HIGHEST_PORT + 1}
    for match in _matches(route):
        traffic = match.traffic
        if isinstance(traffic, Ports) and traffic.first and traffic.protocol in (protocol, Protocol.ANY):
            cuts |= {traffic.first, max(traffic.first, traffic.last) + 1}
    for port in _dns_ports(route, protocol):
        cuts |= {port, port + 1}
    return ((first, end - 1) for first, end in pairwise(sorted(cuts)))


def _dns_ports(route: Route, protocol: Protocol) -> Iterator[int]:
    number = protocol.numbers()[0]
    for allow in route.sender.policy.dns:
        yield from (
            one.port for one in allow.servers.exact if (one.address, one.protocol) == (route.asked, number)
        )
        yield from (port for of, port in allow.servers.ports if of == number)


def _types(route: Route) -> Iterator[tuple[ICMP, str]]:
    """The ICMP types that rules name, and one for all others."""
    named = sorted({match.traffic.type for match in _matches(route) if isinstance(match.traffic, ICMP)})
    yield from ((ICMP(kind), f"icmp-{kind}") for kind in named)
    other = next(kind for kind in (ECHO, *range(256)) if kind not in named)
    yield ICMP(other), "other icmp" if named else "icmp"


def _matches(route: Route) -> Iterator[Match]:
    ends = [route.sender.side(Direction.EGRESS)]
    if route.receiver is not None:
        ends.append(route.receiver.side(Direction.INGRESS))
    return (match for end in ends for match in (*end.allows, *end.denies))


def _append(spans: list[Span], span: Span) -> None:
    """At the end; spans that touch become one."""
    if spans and spans[-1][1] + 1 == span[0]:
        span = (spans.pop()[0], span[1])
    spans.append(span)


def _text(group: _Group, *, alone: bool) -> str:
    if group.has_rest:
        return "all traffic" if alone else REST
    listed: Iterable[str] = (spans_text(spans, protocol.value) for protocol, spans in group.spans.items())
    return ", ".join([*listed, *group.types])
