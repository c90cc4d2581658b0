"""Evidence as a timeline.

A pod is whoever asked a DNS server or opened a connection; a node that asks for its pods is one too. Of a
capture that others made, the set lane has what answers would have opened; of our own, what the agents wrote
down. Pure: evidence in, a timeline out.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from acns.dns.wire import RCODE_NOERROR, RCODE_NXDOMAIN, RCODE_REFUSED
from lab.repro.reading.evidence import Address, Decision, End, Evidence, Flow, Outcome
from lab.repro.showing import journals
from lab.repro.showing.exchanges import Exchange, Read, exchanges
from lab.repro.showing.learned import S_NS, Learned
from lab.repro.showing.timeline import Event, Lane, Mark, Pod, Timeline

DNS_PORTS: Final = frozenset({53})
_DROPPED: Final = "→ dropped"
_MAX_ADDRESSES: Final = 4
_FOUND_OR_NOT: Final = frozenset({RCODE_NOERROR, RCODE_NXDOMAIN})
"""A walk along a search list meets names that are not there: no failure."""
_LATE_NS: Final = 100_000_000
_SERVICE: Final = ".svc"
_INSIDE: Final = (IPv4Network("127.0.0.0/8"), IPv4Network("224.0.0.0/3"), IPv4Network("169.254.0.0/16"))
_LOST: Final = {
    Outcome.SILENT: Mark.UNANSWERED,
    Outcome.RESET: Mark.REFUSED,
    Outcome.UNREACHABLE: Mark.REFUSED,
}


def timeline(evidence: Evidence, title: str, journal: Iterable[Decision] = ()) -> Timeline:
    """`journal`: what the agents wrote down beside what is in the capture."""
    return _Building(evidence, journal).timeline(title)


class _Building:
    """One timeline."""

    def __init__(self, evidence: Evidence, journal: Iterable[Decision]) -> None:
        self._evidence = evidence
        self._exchanges: dict[Address, list[Exchange]] = defaultdict(list)
        for exchange in exchanges(evidence.messages):
            self._exchanges[exchange.client].append(exchange)
        self._flows: dict[Address, list[Flow]] = defaultdict(list)
        for flow in evidence.flows:
            self._flows[flow.client.address].append(flow)
        self._servers = {one.either.destination.address for one in self._all_asked()}
        self._backends = {one.translated.address for one in evidence.flows if one.translated}
        self._lines = journals.lines([*evidence.decisions, *journal])
        self._is_own = bool(evidence.decisions or self._lines)
        self._committed = journals.committed(self._lines)

    def timeline(self, title: str) -> Timeline:
        evidence = self._evidence
        pods = [self._pod(address) for address in sorted(self._clients(), key=_order)]
        used = {name for pod in self._exchanges.values() for name in _asked_names(pod)}
        return Timeline(
            title=title,
            first_ns=evidence.first_ns,
            last_ns=evidence.last_ns,
            pods=tuple(sorted(pods, key=lambda pod: -sum(pod.marks().values()))),
            common=tuple(line.event for line in self._lines if line.name not in used),
            notes=tuple(self._notes()),
            is_own=self._is_own,
        )

    def _all_asked(self) -> Iterator[Exchange]:
        return (one for found in self._exchanges.values() for one in found if one.query is not None)

    def _clients(self) -> set[Address]:
        return set(self._exchanges) | set(self._flows)

    def _pod(self, address: Address) -> Pod:
        asked = self._exchanges.get(address, [])
        learned = Learned(asked)
        events = [
            *map(_dns_event, asked),
            *(self._written(asked) if self._is_own else _would_add(asked)),
            *(self._traffic(flow, learned) for flow in self._flows.get(address, ()) if self._matters(flow)),
        ]
        called = self._evidence.names.get(address, ())
        name = called[0] if called else ""
        return Pod(str(address), name, tuple(sorted(events, key=lambda one: one.at_ns)))

    def _written(self, asked: Iterable[Exchange]) -> Iterator[Event]:
        """What the agents wrote down of names that this pod asked for."""
        names = _asked_names(asked)
        return (line.event for line in self._lines if line.name in names)

    def _matters(self, flow: Flow) -> bool:
        """Connections to DNS servers are in the DNS lane, unless they failed."""
        to_dns = flow.server.port in DNS_PORTS
        return not to_dns or flow.outcome not in (Outcome.ESTABLISHED, Outcome.MIDWAY)

    def _traffic(self, flow: Flow, learned: Learned) -> Event:
        address = flow.server.address
        called = learned.name(address, flow.first_ns) or next(iter(self._evidence.names.get(address, ())), "")
        return Event(
            at_ns=flow.first_ns,
            lane=Lane.TRAFFIC,
            kind=flow.protocol,
            what=f"{called.removesuffix('.')} ({flow.server})" if called else str(flow.server),
            outcome=_flow_outcome(flow),
            until_ns=flow.last_ns,
            marks=tuple(dict.fromkeys(self._flow_marks(flow, learned))),
            why=flow.comments,
            frames=(flow.frame,),
        )

    def _flow_marks(self, flow: Flow, learned: Learned) -> Iterator[Mark]:
        dropped = any(_DROPPED in text for text in flow.comments)
        if lost := Mark.REFUSED if dropped else _LOST.get(flow.outcome):
            yield lost
        if len(flow.syns_ns) > 1 and flow.protocol == "tcp":
            yield Mark.RETRANSMITTED
        if flow.end is End.CUT:
            yield Mark.CUT
        if flow.outcome is not Outcome.MIDWAY and self._is_outside(flow.server.address):
            yield from self._knowledge(flow, learned, lost=bool(lost))

    def _knowledge(self, flow: Flow, learned: Learned, *, lost: bool) -> Iterator[Mark]:
        """Whether it could be open. That no answer named an address is worth a word only where it failed, and
        the pod asked at all: a CIDR may allow it."""
        address, at_ns = flow.server.address, flow.first_ns
        found = learned.mark(address, at_ns)
        if found is not None and (
            found is not Mark.NEVER_LEARNED or (lost and flow.client.address in self._exchanges)
        ):
            yield found
        times = self._committed.get(address, [])
        if found is None and times and not bisect.bisect_right(times, at_ns):
            yield Mark.BEFORE_ANSWER

    def _is_outside(self, address: Address) -> bool:
        """Neither a DNS server, nor who is known as a pod here, nor what no name stands for."""
        is_known = address in self._servers or address in self._exchanges or address in self._backends
        if is_known or not isinstance(address, IPv4Address) or self._is_service(address):
            return False
        return not any(address in network for network in _INSIDE)

    def _is_service(self, address: Address) -> bool:
        """By the name that our captures give it."""
        return any(name.endswith(_SERVICE) for name in self._evidence.names.get(address, ()))

    def _notes(self) -> Iterator[str]:
        counts, evidence = self._evidence.counts, self._evidence
        yield (
            f"{counts.frames} frames, {counts.duplicates} of them heard twice; {len(evidence.messages)} DNS"
            f" messages, {len(evidence.flows)} connections"
        )
        if counts.frames and not (counts.ipv4 or counts.ipv6):
            yield "none of them is IP that can be read here: tunnels are not looked into"
        if not self._is_own:
            yield "sets: what the answers would have opened, for their TTL; nobody wrote down what was"
        yield from map(str, evidence.troubles)
        if counts.untold:
            yield f"{counts.untold} more troubles"


# --- DNS ----------------------------------------------------------------------------------------------------


def _dns_event(one: Exchange) -> Event:
    message = one.either
    said = one.asked or one.answered
    messages = [found for found in (one.query, one.answer) if found]
    return Event(
        at_ns=one.at_ns,
        lane=Lane.DNS,
        kind=said.type if said and said.type else "?",
        what=_asked(said) if said else f"{message.size} octets that are no DNS",
        outcome=_dns_outcome(one),
        until_ns=one.answer.at_ns if one.answer else None,
        marks=tuple(_dns_marks(one)),
        why=tuple(dict.fromkeys(text for found in messages for text in found.comments)),
        frames=tuple(frame for found in messages for frame in found.frames),
    )


def _asked(said: Read) -> str:
    return (said.name.removesuffix(".") or ".") if said.name else "a question that cannot be read"


def _dns_outcome(one: Exchange) -> str:
    said, over_tcp = one.answered, " over TCP" if one.either.transport == "tcp" else ""
    if said is None:
        icmp = f"ICMP error {one.query.icmp}" if one.query and one.query.icmp else "no answer"
        return f"{icmp}{over_tcp}"
    if said.addresses:
        found = f"{_addresses(said.addresses)}, TTL {said.ttl_s}"
    elif said.rcode or not said.records:
        found = said.rcode_name if said.rcode else "no records"
    else:
        found = f"{said.records} records"
    cut = ", truncated" if said.is_cut else ""
    return f"{found}{cut}{over_tcp}{_late(one)}"


def _late(one: Exchange) -> str:
    """A word on an answer that took long."""
    if one.query is None or one.answer is None or one.answer.at_ns - one.query.at_ns < _LATE_NS:
        return ""
    return f", after {(one.answer.at_ns - one.query.at_ns) / 1_000_000:.0f} ms"


def _dns_marks(one: Exchange) -> Iterator[Mark]:
    if one.asked is None and one.answered is None:
        yield Mark.UNREADABLE
        return
    if one.again:
        yield Mark.RETRANSMITTED
    if one.query is None:
        yield Mark.UNASKED
    elif one.answered is None:
        yield Mark.UNANSWERED
    if one.answered is not None and one.answered.rcode not in _FOUND_OR_NOT:
        yield Mark.REFUSED if one.answered.rcode == RCODE_REFUSED else Mark.FAILED


def _addresses(found: Sequence[IPv4Address]) -> str:
    shown = " ".join(map(str, found[:_MAX_ADDRESSES]))
    return shown + (f" and {len(found) - _MAX_ADDRESSES} more" if len(found) > _MAX_ADDRESSES else "")


def _asked_names(asked: Iterable[Exchange]) -> set[str]:
    return {said.name for one in asked if (said := one.asked or one.answered)}


def _would_add(asked: Iterable[Exchange]) -> Iterator[Event]:
    for one in asked:
        if one.query and one.answer and one.answered and one.answered.addresses:
            at_ns = one.answer.at_ns
            yield Event(
                at_ns=at_ns,
                lane=Lane.SET,
                kind="would add",
                what=_addresses(one.answered.addresses),
                outcome=f"{one.answered.ttl_s} s for {_asked(one.answered)}",
                until_ns=at_ns + one.answered.ttl_s * S_NS,
                frames=one.answer.frames,
            )


# --- traffic ------------------------------------------------------------------------------------------------


def _flow_outcome(flow: Flow) -> str:
    parts = [flow.outcome.value]
    if flow.icmp:
        parts.append(f"ICMP {flow.icmp[0]}/{flow.icmp[1]}")
    if len(flow.syns_ns) > 1:
        parts.append(f"{len(flow.syns_ns)} attempts")
    if flow.resent:
        parts.append(f"{flow.resent} resent")
    if flow.bytes_sent or flow.bytes_received:
        parts.append(f"{flow.bytes_sent} B out, {flow.bytes_received} B in")
    if flow.outcome in (Outcome.ESTABLISHED, Outcome.MIDWAY):
        parts.append(flow.end.value)
    if flow.translated:
        parts.append(f"behind it {flow.translated}")
    return ", ".join(parts)


def _order(address: Address) -> tuple[int, int]:
    return address.version, int(address)
