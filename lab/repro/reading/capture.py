"""A capture, read: `read(path)` is the evidence that is in it, `frames(path)` its frames as they are.

Whatever the file says, this ends, in memory that `Limits` bound, with `Evidence` or with an `InputError`;
what could not be read is in `Evidence.troubles`. Frames go through once: link type, IP header, fragments, the
same packet at several taps, then DNS messages and connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.repro.reading import framing, ip, links, oddities, units
from lab.repro.reading.evidence import Counts, Decision, Evidence, Kind, Limits, Message
from lab.repro.reading.flows import Flows
from lab.repro.reading.following import Following, Side, endpoint
from lab.repro.reading.framing import Frame
from lab.repro.reading.ip import TCP, UDP, Packet
from lab.repro.reading.notes import Flaw, Notes
from lab.repro.reading.oddities import Oddities
from lab.repro.reading.sightings import Heard, Sight, Sightings
from lab.repro.reading.streams import Budget, Found, Stream
from lab.repro.reading.units import SYN, About, Fragments, Unit

_JSON_PDU: Final = b"\0\x0c\0\x04json"
_QR: Final = 0x80
_IPV4_OCTETS: Final = 4
_PLAIN_HEADER: Final = 0x45


def read(path: Path, limits: Limits | None = None) -> Evidence:
    """All that is in the file. Raises InputError for what is no capture, or too large a one."""
    notes = Notes(limits or Limits())
    reading = _Reading(notes)
    for frame in framing.frames(path, notes):
        reading.take(frame)
    return reading.evidence()


def frames(path: Path, limits: Limits | None = None) -> Iterator[Frame]:
    """Its frames, in the order of their times; `Frame.number` is the one that `read` speaks of."""
    return framing.frames(path, Notes(limits or Limits()))


@dataclass(slots=True)
class _Draft:
    """A message; its packets may be heard again later. `heard`: what brought it."""

    transport: int
    heard: tuple[Heard, ...]
    payload: bytes
    size: int
    more_frames: tuple[int, ...] = ()
    icmp: tuple[int, int] | None = None


class _Reading:
    """One file."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._limits = notes.limits
        self._sightings = Sightings()
        self._fragments = Fragments(notes.limits)
        self._flows = Flows(notes.limits, notes)
        self._budget = Budget(notes.limits.waiting_bytes, notes.limits.stream_bytes)
        self._streams: list[tuple[Stream, int]] = []
        self._messages: list[_Draft] = []
        self._bytes_left = notes.limits.message_bytes
        self._asked: dict[About, _Draft] = {}
        self._odd = Oddities(notes)
        self._decisions: list[Decision] = []
        self._counts = {4: 0, 6: 0, 0: 0}
        self._frames = 0
        self._first_ns = self._last_ns = 0

    def take(self, frame: Frame) -> None:
        if not self._frames:
            self._first_ns = frame.at_ns
        self._frames = max(self._frames, frame.number)
        self._last_ns = max(self._last_ns, frame.at_ns)
        if frame.comments and self._notes.is_own(frame.tap):
            self._decide(frame)
        try:
            self._take(frame)
        except Flaw as flaw:
            self._notes.flaw(frame.number, flaw)

    def evidence(self) -> Evidence:
        self._finish()
        flows = sorted(self._flows.finished(), key=lambda one: one.first_ns)
        messages = sorted(map(self._message, self._messages), key=lambda one: one.at_ns)
        notes, counts = self._notes, self._counts
        return Evidence(
            messages=tuple(messages),
            flows=tuple(flows),
            troubles=notes.troubles,
            names={address: tuple(called) for address, called in notes.names.items()},
            taps=notes.taps,
            decisions=tuple(self._decisions),
            counts=Counts(self._frames, counts[4], counts[6], counts[0], self._sightings.again, notes.untold),
            first_ns=self._first_ns,
            last_ns=self._last_ns,
            comment=notes.comment,
            odd=tuple(self._odd.finished()),
        )

    # --- frames ---------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        if frame.link_type == links.UPPER_PDU and self._notes.is_own(frame.tap):
            return
        try:
            inner = links.inner(frame)
        except Flaw:
            self._counts[0] += 1
            raise
        version = {links.IPV4: 4, links.IPV6: 6}.get(inner.kind, 0)
        self._counts[version] += 1
        if version:
            try:
                self._packet(ip.read(frame, inner), inner.at)
            except Flaw as flaw:
                if version == 4:
                    self._odd.flawed(frame, inner.at, flaw)
                raise

    def _decide(self, frame: Frame) -> None:
        record = b""
        if frame.link_type == links.UPPER_PDU and frame.data.startswith(_JSON_PDU):
            record = frame.data[len(_JSON_PDU) + 4 :]
            self._bytes_left -= len(record)
            if self._bytes_left < 0:
                self._notes.trouble(frame.number, Kind.TOO_MUCH, "more records of agents than are taken in")
                return
        tap = self._notes.tap_name(frame.tap)
        for text in frame.comments:
            self._decisions.append(Decision(frame.at_ns, tap, text, frame.number, record))

    def _packet(self, packet: Packet, at: int) -> None:
        if not packet.is_fragment:
            self._unit(packet, at, ())
            return
        piece = Unit(packet, 0, 0, packet.body, packet.size)
        heard, is_new = self._sightings.take(piece)
        if not is_new:
            return
        if len(packet.source) == _IPV4_OCTETS:
            self._odd.piece(packet, at, heard)
        if whole := self._fragments.take(packet):
            self._unit(whole[0], at, whole[1])

    def _unit(self, packet: Packet, at: int, pieces: Sequence[int]) -> None:
        unit = units.read(packet)
        if unit is None:
            if len(packet.source) == _IPV4_OCTETS:
                self._odd.take(packet, at, f"IP protocol {packet.protocol}")
            return
        heard, is_new = self._sightings.take(unit)
        is_reply = self._odd.reply(unit)
        if not is_new:
            self._odd.sees_routing |= heard.sights[-1].ttl != heard.sights[0].ttl
            self._flows.again(heard)
        elif (about := units.about(unit)) is not None:
            self._error(unit, about)
        elif not pieces and not is_reply and (why := self._why_odd(unit, at)):
            self._odd.take(packet, at, why, heard)
            if packet.protocol == UDP:
                self._datagram(unit, heard, ())
        elif packet.protocol == TCP:
            self._segment(unit, heard)
        elif packet.protocol == UDP:
            self._datagram(unit, heard, tuple(pieces))

    def _why_odd(self, unit: Unit, at: int) -> str:
        """What of a packet no step of a scenario says; empty for nothing."""
        packet = unit.packet
        if len(packet.source) != _IPV4_OCTETS:
            return ""
        if packet.protocol == TCP:
            return "TCP flags that contradict each other" if oddities.has_odd_flags(unit.flags) else ""
        if packet.protocol != UDP:
            return oddities.PING
        if packet.frame.data[at] != _PLAIN_HEADER:
            return "IP options"
        is_question = unit.destination_port in self._limits.dns_ports and not (
            len(unit.payload) > 2 and unit.payload[2] & _QR
        )
        return "DNS that is none" if is_question and not oddities.is_query(unit.payload[2:]) else ""

    # --- what they carry ------------------------------------------------------------------------------------

    def _error(self, unit: Unit, about: About) -> None:
        if asked := self._asked.get(about):
            asked.icmp = unit.source_port, unit.destination_port
        else:
            self._flows.error(unit, about)

    def _datagram(self, unit: Unit, heard: Heard, pieces: tuple[int, ...]) -> None:
        if not self._is_dns(unit):
            self._flows.take(unit, heard)
            return
        draft = _Draft(UDP, (heard,), unit.payload, unit.size, pieces)
        if self._add(unit.packet.frame.number, draft):
            packet = unit.packet
            key = About(UDP, packet.source, unit.source_port, packet.destination, unit.destination_port)
            self._asked[key] = draft

    def _segment(self, unit: Unit, heard: Heard) -> None:
        found = self._flows.take(unit, heard)
        if found is None or not self._is_dns(unit):
            return
        flow, side = found
        start = unit.seq + bool(unit.flags & SYN)
        stream = flow.streams.get(side)
        if stream is None:
            if not unit.size and not unit.flags & SYN:
                return
            stream = self._stream(flow, side, start, unit)
        for message in stream.take(start, unit.payload, unit.size, heard):
            self._found(unit.packet.frame.number, message)

    def _stream(self, flow: Following, side: Side, start: int, unit: Unit) -> Stream:
        is_start = bool(unit.flags & SYN) or flow.has_begun
        stream = flow.streams[side] = Stream(start, from_the_start=is_start, budget=self._budget)
        self._streams.append((stream, unit.packet.frame.number))
        return stream

    def _is_dns(self, unit: Unit) -> bool:
        ports = self._limits.dns_ports
        return unit.destination_port in ports or unit.source_port in ports

    def _found(self, frame: int, found: Found) -> None:
        self._add(frame, _Draft(TCP, found.heard, found.payload, found.size))

    def _add(self, frame: int, draft: _Draft) -> bool:
        self._bytes_left -= len(draft.payload)
        if len(self._messages) >= self._limits.messages or self._bytes_left < 0:
            self._notes.trouble(frame, Kind.TOO_MUCH, "more DNS messages than are taken in")
            return False
        if len(draft.payload) < draft.size:
            self._notes.trouble(frame, Kind.TRUNCATED, "a DNS message of which the end is not in the capture")
        self._messages.append(draft)
        return True

    # --- the end --------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        for stream, frame in self._streams:
            while not self._finish_stream(stream, frame):
                pass
        if left := self._fragments.left():
            self._notes.trouble(0, Kind.INCOMPLETE, "datagrams of which fragments are missing", left)

    def _finish_stream(self, stream: Stream, frame: int) -> bool:
        """Whether nothing is left of it: each time that something is lost, less is left."""
        try:
            for message in stream.finish():
                self._found(frame, message)
        except Flaw as flaw:
            self._notes.flaw(frame, flaw)
            return False
        return True

    def _message(self, draft: _Draft) -> Message:
        last = max(draft.heard, key=lambda one: one.sights[0].at_ns)
        near, far = last.nearest_sender, last.nearest_receiver
        is_query = _goes_to_server(draft, near, self._limits.dns_ports)
        mine, theirs = (near, far) if is_query else (far, near)
        source = endpoint(mine.source, mine.source_port)
        destination = endpoint(mine.destination, mine.destination_port)
        server = destination if is_query else source
        other = _server_of(theirs, is_query)
        return Message(
            at_ns=mine.at_ns,
            tap=self._notes.tap_name(mine.tap),
            transport="udp" if draft.transport == UDP else "tcp",
            source=source,
            destination=destination,
            payload=draft.payload,
            size=draft.size,
            frames=_frames_of(draft),
            comments=tuple(dict.fromkeys(text for one in draft.heard for text in one.comments)),
            translated=endpoint(*other) if endpoint(*other) != server else None,
            icmp=draft.icmp,
        )


def _goes_to_server(draft: _Draft, one: Sight, ports: frozenset[int]) -> bool:
    """Where both have the port of a DNS server, as old resolvers did, the message says it."""
    to, by = one.destination_port in ports, one.source_port in ports
    if to != by:
        return to
    return not (len(draft.payload) > 2 and draft.payload[2] & _QR)


def _server_of(one: Sight, is_query: bool) -> tuple[bytes, int]:
    return (one.destination, one.destination_port) if is_query else (one.source, one.source_port)


def _frames_of(draft: _Draft) -> tuple[int, ...]:
    heard = {one.frame for packet in draft.heard for one in packet.sights}
    return tuple(sorted(heard.union(draft.more_frames)))
