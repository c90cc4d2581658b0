"""What the agents decided, as sentences, and by what a packet is known that each sentence is about.

From the nodes' flow logs and journals, in the words of `lab.observe`. A sentence that is about no packet (a
policy committed, a mapping told to the shim) is a `Note`: the journal's line as it is.
"""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from acns.telemetry import flow_json
from acns.telemetry.flows import Event as Origin
from acns.telemetry.flows import Flow, L4Protocol, Lost, Verdict
from acns.telemetry.journal import Event
from lab.capture.headers import ICMP, ICMPV6, TCP, UDP
from lab.report import flows as report
from lab.report import journal
from lab.runtime.observe import JournalFile, Source

PROTOCOLS: Final = {
    L4Protocol.TCP: TCP,
    L4Protocol.UDP: UDP,
    L4Protocol.SCTP: 132,
    L4Protocol.ICMPV4: ICMP,
    L4Protocol.ICMPV6: ICMPV6,
}
_MAPPED_WITHIN_NS: Final = 5_000_000_000
_MAPPINGS: Final = frozenset({Event.MAPPING_SENT, Event.MAPPING_QUEUED})

Key = tuple[object, ...]


class When(Enum):
    """Where the packet stands in time to the moment that was written down."""

    BEFORE = auto()  # it was seen, then decided upon
    AFTER = auto()  # it was decided upon, then sent
    FIRST = auto()  # it opened what was reported later, with others


@dataclass(frozen=True, slots=True)
class Decision:
    """About one packet of `node`, which is known by `key` (`dns_key`, `packet_key`)."""

    node: str
    time_ns: int
    key: Key
    when: When
    text: str
    claim: str
    """Of several decisions of one kind, each is about another packet."""
    record: bytes
    """As it was written down, or as `hubble observe` prints it: JSON."""
    destination: str = ""
    """Where it went in the end; "" where the key says it."""


@dataclass(frozen=True, slots=True)
class Note:
    """A line of an agent's journal that is about no packet."""

    node: str
    agent: str
    time_ns: int
    text: str
    record: bytes


@dataclass(frozen=True, slots=True)
class Decisions:
    """All that is known. `names`: address → what pods were told that it is called. `lost`: how many
    decisions nobody could write down; `unreadable`: how many lines could not be read."""

    about_packets: list[Decision] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    lost: int = 0
    unreadable: int = 0


def dns_key(source: str, server: str, protocol: int, name: str, qtype: str, *, is_answer: bool) -> Key:
    """`source`: of the query. `name` in lower case, with its final dot."""
    return ("dns", source, server, protocol, name, qtype, is_answer)


def packet_key(source: str, protocol: int, source_port: int) -> Key:
    return ("packet", source, protocol, source_port)


def gather(journals: Iterable[tuple[str, bytes]], sources: Iterable[Source]) -> Decisions:
    """Of all nodes. `journals`: node and line of its agents' journals; `sources`: of flows."""
    found = Decisions()
    lost = unreadable = 0
    mappings: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for node, line in journals:
        _take_note(found, mappings, node, line)
    flows: list[tuple[Flow, tuple[str, ...]]] = []
    for source in sources:
        for record in source.new():
            if isinstance(record, Lost):
                lost += record.count
            else:
                flows.append((record, _allowing(source, record)))
        unreadable += source.unreadable
    teller = _Teller(mappings, [flow for flow, _ in flows])
    found.about_packets.extend(teller.decision(flow, allowed) for flow, allowed in flows if flow.l4)
    _name(found.names, (flow for flow, _ in flows))
    return Decisions(found.about_packets, found.notes, found.names, lost, unreadable)


def _allowing(source: Source, flow: Flow) -> tuple[str, ...]:
    """The rules that let a query through, in words."""
    is_query = flow.dns is not None and not flow.dns.is_answer and flow.verdict is Verdict.FORWARDED
    if not is_query or not isinstance(source, JournalFile):
        return ()
    return tuple(map(report.policy, source.view.allowing(flow)))


class _Teller:
    """Says what a flow is in a sentence. `mappings`: (node, name) → time and sentence, in order."""

    def __init__(
        self, mappings: Mapping[tuple[str, str], list[tuple[int, str]]], flows: Iterable[Flow]
    ) -> None:
        self._mappings = mappings
        self._answers: dict[Key, list[tuple[int, bool]]] = defaultdict(list)
        for flow in flows:
            if flow.dns and flow.dns.is_answer:
                # What taught nothing has no note of its outcome.
                self._answers[_dns(flow, is_answer=True)].append((flow.time_ns, bool(flow.notes)))
        for times in self._answers.values():
            times.sort()

    def decision(self, flow: Flow, allowed: tuple[str, ...]) -> Decision:
        record = flow_json.line(flow).encode().rstrip(b"\n")
        if flow.dns is None:
            return _of_packet(flow, record)
        key = _dns(flow, is_answer=flow.dns.is_answer)
        if flow.dns.is_answer:
            return Decision(flow.node, flow.time_ns, key, When.AFTER, self._answer(flow), "answer", record)
        return Decision(
            flow.node, flow.time_ns, key, When.BEFORE, self._query(flow, allowed), "query", record
        )

    def _query(self, flow: Flow, allowed: tuple[str, ...]) -> str:
        assert flow.dns is not None
        asked = f"query {_asked(flow)}"
        why = report.reasons(flow)
        if flow.verdict is Verdict.FORWARDED:
            by = f" by {', '.join(allowed)}" if allowed else ""
            mapped = self._mapped_after(flow)
            return f"{asked} → allowed{by}" + (f" → {mapped}" if mapped else "")
        return f"{asked} → {'refused' if flow.verdict is Verdict.DROPPED else 'failed'}" + (
            f": {why}" if why else ""
        )

    def _answer(self, flow: Flow) -> str:
        assert flow.dns is not None
        outcome = f" ({'; '.join(flow.notes)})" if flow.notes else ""
        said = (
            f"answer {_asked(flow)} → {flow.summary.removeprefix('DNS Answer ').partition(' (')[0]}{outcome}"
        )
        mapped = self._mapped_before(flow) if "learned" in flow.notes else ""
        return f"{said} → {mapped}" if mapped else said

    def _mapped_after(self, flow: Flow) -> str:
        """What the answer to this query has put into sets, if anything: the first mapping from the query to
        the answer."""
        assert flow.dns is not None
        answers = self._answers.get(_dns(flow, is_answer=True), [])
        number = bisect.bisect_left(answers, (flow.time_ns, False))
        if number == len(answers):
            return ""
        until, taught = answers[number]
        if not taught:
            return ""
        told = self._mappings.get((flow.node, flow.dns.query), [])
        return next((text for time_ns, text in told if flow.time_ns <= time_ns <= until), "")

    def _mapped_before(self, flow: Flow) -> str:
        assert flow.dns is not None
        told = self._mappings.get((flow.node, flow.dns.query), [])
        recent = [text for time_ns, text in told if 0 <= flow.time_ns - time_ns < _MAPPED_WITHIN_NS]
        return recent[-1] if recent else ""


def _of_packet(flow: Flow, record: bytes) -> Decision:
    assert flow.l4 is not None
    is_icmp = flow.l4.protocol in (L4Protocol.ICMPV4, L4Protocol.ICMPV6)
    port = flow.l4.type if is_icmp else flow.l4.source_port
    key = packet_key(flow.source.address, PROTOCOLS[flow.l4.protocol], port)
    why = report.reasons(flow)
    direction = flow.direction.value.lower()
    to = _to(flow)
    if flow.verdict is Verdict.DROPPED:
        text = f"{direction} {to} → dropped, {flow.reason.name}" + (f": {why}" if why else "")
        when = When.BEFORE
    else:
        decided = flow.event is Origin.POLICY_VERDICT
        text = f"{direction} {to} → " + (
            f"allowed by {why}" if why else "allowed" if decided else "not restricted"
        )
        when = When.FIRST
    claim = f"{when.name} {direction}"
    return Decision(flow.node, flow.time_ns, key, when, text, claim, record, flow.destination.address)


def _to(flow: Flow) -> str:
    """Whom it was for, by the best name there is."""
    end = flow.destination
    port = f":{flow.l4.destination_port}" if flow.l4 and flow.l4.destination_port else ""
    called = end.service or end.key or next(iter(end.names), "").removesuffix(".")
    return f"{called} ({end.address}{port})" if called else f"{end.address}{port}"


def _dns(flow: Flow, *, is_answer: bool) -> Key:
    """Of the query, or of the answer to it."""
    assert flow.dns is not None
    assert flow.l4 is not None
    asker, server = flow.source.address, flow.destination.address
    if flow.dns.is_answer:
        asker, server = server, asker
    qtype = ",".join(flow.dns.qtypes)
    protocol = PROTOCOLS[flow.l4.protocol]
    return dns_key(asker, server, protocol, flow.dns.query.lower(), qtype, is_answer=is_answer)


def _asked(flow: Flow) -> str:
    assert flow.dns is not None
    name = flow.dns.query.removesuffix(".") or "unreadable"
    return f"{name} {','.join(flow.dns.qtypes)}".rstrip()


# --- the journals' other lines ------------------------------------------------------------------------------


def _take_note(
    found: Decisions, mappings: dict[tuple[str, str], list[tuple[int, str]]], node: str, line: bytes
) -> None:
    try:
        value = json.loads(line)
        event, agent, time_ns = value["event"], value["agent"], round(value["ts"] * 1_000_000) * 1000
    except (ValueError, KeyError, TypeError):
        return
    if event in (Event.DNS_QUERY, Event.DNS_ANSWER):
        return
    if event in _MAPPINGS:
        mappings[node, value["name"]].append((time_ns, journal.mapping(value)))
    found.notes.append(Note(node, agent, time_ns, f"{agent}: {journal.text(value)}", line))


def _name(names: dict[str, list[str]], flows: Iterable[Flow]) -> None:
    for flow in flows:
        if flow.dns and flow.dns.is_answer:
            for address in flow.dns.addresses:
                called = names.setdefault(address, [])
                if (name := flow.dns.query.removesuffix(".")) not in called:
                    called.append(name)
