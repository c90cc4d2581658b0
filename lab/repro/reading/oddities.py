"""Packets that a scenario's steps cannot say: headers that are none, flags that mean nothing, fragments.

Most of a capture is said by what it means: a question, a connection. Of these the very octets matter, so they
are kept, with what came back on them and whether a router passed them on. Bounded; nothing is inferred here
of who sent them, so nobody may have more of the room than is left for all others.

A reply is known by its ends and ports. What has no ports of its own (a later fragment, a header that is none)
has only ICMP errors for replies, which quote its identification.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from acns.dns import wire
from acns.dns.name import MalformedDNS
from lab.repro.reading import remembered, units
from lab.repro.reading.evidence import Kind, Odd
from lab.repro.reading.framing import Frame
from lab.repro.reading.ip import TCP, UDP, Packet
from lab.repro.reading.notes import Flaw, Notes
from lab.repro.reading.sightings import WINDOW_NS, Heard
from lab.repro.reading.units import ACK, FIN, RST, SYN, About, Unit

FRAGMENTS, PING = "fragments", "ICMP"
OF_ANYBODY: Final = (FRAGMENTS, PING)
"""What any host sends or answers, without being a client."""
PATIENCE_NS: Final = 10_000_000_000
_HEADER_OCTETS: Final = 20
_WITH_PORTS: Final = (TCP, UDP)
_SOURCE: Final = slice(12, 16)
_OFFSET_AT, _OFFSET_BITS = 6, 0x1F
_BY_FLAG: Final = ((RST, "rst"), (SYN | ACK, "syn-ack"), (SYN, "syn"), (FIN, "fin"), (ACK, "ack"))
NO_FLAGS, ANSWERED = "no-flags", "answered"
WORDS: Final = (*(text for _, text in _BY_FLAG), NO_FLAGS, ANSWERED)
"""What may come back, and `icmp-TYPE/CODE`."""


class Datagram(NamedTuple):
    """All fragments of one have this in common (RFC 791 section 3.2)."""

    source: bytes
    destination: bytes
    protocol: int
    ident: int


Key = About | Datagram


class _Draft:
    """One of them, as long as something may yet be heard of it."""

    __slots__ = ("first", "frames", "heard", "packets", "replies", "was_routed", "why")

    def __init__(self, first: Frame, why: str) -> None:
        self.first = first
        self.why = why
        self.packets: list[bytes] = []
        self.frames: list[int] = []
        self.heard: list[Heard] = []
        self.replies: set[str] = set()
        self.was_routed = False


class Oddities:
    """`sees_routing`: the capture shows packets on both sides of a router."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._bytes_left = notes.limits.odd_bytes
        self._all: list[_Draft] = []
        self._shares: dict[bytes, tuple[int, int]] = {}  # by sender: how many, their octets
        self._by_key: dict[Key, _Draft] = {}
        self._by_datagram: dict[Datagram, _Draft] = {}
        self._by_octets: dict[bytes, _Draft] = {}
        self.sees_routing = False

    def take(self, packet: Packet, at: int, why: str, heard: Heard | None = None) -> None:
        """A packet that begins at `at` of its frame."""
        frame = packet.frame
        draft = self._add(frame, at, why)
        if draft is None:
            return
        if heard is not None:
            draft.heard.append(heard)
        self._by_key.update(dict.fromkeys(keys_of(draft.packets[-1], packet), draft))

    def piece(self, packet: Packet, at: int, heard: Heard) -> None:
        """A fragment; all of a datagram are one oddity."""
        key = Datagram(packet.source, packet.destination, packet.protocol, packet.ident)
        draft = self._by_datagram.get(key)
        if draft is not None and packet.frame.at_ns - draft.first.at_ns > PATIENCE_NS:
            draft = None
        draft = self._add(packet.frame, at, FRAGMENTS, draft)
        if draft is not None:
            draft.heard.append(heard)
            self._by_datagram[key] = draft
            self._by_key.update(dict.fromkeys(keys_of(draft.packets[-1], packet), draft))

    def flawed(self, frame: Frame, at: int, flaw: Flaw) -> None:
        """A packet that cannot be read, of which all octets are there."""
        octets = frame.data[at:]
        if flaw.kind not in (Kind.MALFORMED, Kind.TRUNCATED) or len(octets) < _HEADER_OCTETS:
            return
        if octets[0] >> 4 != 4:
            return  # no router takes it for IPv4, nor can it be sent as such
        if self._all and frame.number in self._all[-1].frames:
            return
        key = octets[:8] + octets[9:10] + octets[12:]  # a router changes the others: TTL, checksum
        known = self._by_octets.get(key)
        if known is not None and abs(frame.at_ns - known.first.at_ns) <= WINDOW_NS:
            known.was_routed = known.was_routed or octets[8] < known.packets[0][8]
            return
        draft = self._add(frame, at, flaw.detail)
        if draft is not None:
            self._by_octets[key] = draft
            self._by_key.update(dict.fromkeys(keys_of(octets, None), draft))

    def reply(self, unit: Unit) -> bool:
        """Whether a packet came back on one of them."""
        if not self._by_key:
            return False
        for key in keys_of_reply(unit):
            draft = self._by_key.get(key)
            if draft is not None and 0 <= unit.packet.frame.at_ns - draft.first.at_ns <= PATIENCE_NS:
                draft.replies.add(word(unit))
                return True
        return False

    def finished(self) -> Iterator[Odd]:
        for draft in self._all:
            octets = draft.packets[0]
            lower = any(one.ttl < heard.sights[0].ttl for heard in draft.heard for one in heard.sights)
            yield Odd(
                at_ns=draft.first.at_ns,
                source=IPv4Address(octets[12:16]),
                destination=IPv4Address(octets[16:20]),
                packets=tuple(draft.packets),
                frames=tuple(draft.frames),
                why=draft.why,
                replies=tuple(sorted(draft.replies)),
                was_routed=(lower or draft.was_routed) if self.sees_routing else None,
            )

    def _add(self, frame: Frame, at: int, why: str, draft: _Draft | None = None) -> _Draft | None:
        octets = frame.data[at:]
        if len(frame.data) < frame.wire_bytes:
            return None  # what is cut off cannot be sent again
        source, limits = octets[_SOURCE], self._notes.limits
        count, own_bytes = self._shares.get(source, (0, 0))
        is_full = draft is None and count >= limits.odd - len(self._all)
        if is_full or own_bytes + len(octets) > self._bytes_left:
            self._notes.trouble(frame.number, Kind.TOO_MUCH, "more odd packets than are taken in")
            return None
        if draft is None:
            draft = _Draft(frame, why)
            self._all.append(draft)
            count += 1
        self._shares[source] = count, own_bytes + len(octets)
        self._bytes_left -= len(octets)
        draft.packets.append(octets)
        draft.frames.append(frame.number)
        return draft


def has_odd_flags(flags: int) -> bool:
    """None of SYN, ACK and RST (null, FIN, Christmas tree); SYN or RST beside what contradicts it."""
    return not flags & (SYN | ACK | RST) or (flags & (SYN | FIN | RST)).bit_count() > 1


@remembered.short
def is_query(payload: bytes) -> bool:
    """Whether that, without its ID, has a question that can be read."""
    packet = b"\0\0" + payload
    try:
        wire.read_question(packet, wire.read_header(packet))
    except MalformedDNS:
        return False
    return True


def word(unit: Unit) -> str:
    """What a packet that came back is, in a scenario's outcome."""
    if unit.packet.protocol == TCP:
        return next((text for flags, text in _BY_FLAG if unit.flags & flags == flags), NO_FLAGS)
    if unit.packet.protocol == UDP:
        return ANSWERED
    return f"icmp-{unit.source_port}/{unit.destination_port}"


def keys_of(octets: bytes, packet: Packet | None) -> Iterator[Key]:
    """What a reply to it is known by. `packet`: None where its header is none."""
    if packet is not None and not packet.offset:
        yield ends_of(packet)
    if (datagram := _datagram(octets)).ident:
        yield datagram


def keys_of_reply(unit: Unit) -> Iterator[Key]:
    """Whose reply a packet may be."""
    packet, quoted = unit.packet, unit.payload
    found = about = units.about(unit)
    if found is None:
        ports = unit.destination_port, unit.source_port
        found = About(packet.protocol, packet.destination, ports[0], packet.source, ports[1])
    elif quoted[_OFFSET_AT] & _OFFSET_BITS or quoted[_OFFSET_AT + 1]:
        yield _datagram(quoted)  # a later fragment: what would be its ports is somebody's octets
        return
    yield found if found.protocol in _WITH_PORTS else found._replace(source_port=0, destination_port=0)
    if about is not None:
        yield _datagram(quoted)


def _datagram(octets: bytes) -> Datagram:
    """By an IPv4 header, whatever is wrong with it."""
    return Datagram(octets[_SOURCE], octets[16:20], octets[9], int.from_bytes(octets[4:6]))


def ends_of(packet: Packet) -> About:
    """Ports where there are any: not in a later fragment."""
    ports = packet.body[:4] if packet.protocol in _WITH_PORTS and not packet.offset else b""
    mine, theirs = (ports[:2], ports[2:]) if len(ports) == 4 else (b"\0\0", b"\0\0")
    return About(
        packet.protocol, packet.source, int.from_bytes(mine), packet.destination, int.from_bytes(theirs)
    )
