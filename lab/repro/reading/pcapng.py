"""The newer capture file: blocks, in sections that may differ in byte order (draft-ietf-opsawg-pcapng).

What is true: no block is believed longer than the limits let, no option longer than its block, and a block
that lies about its length ends the reading, since nothing behind it can be found.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from lab.repro.reading.evidence import Kind, Tap
from lab.repro.reading.framing import Frame, Source, sane_time
from lab.repro.reading.notes import Flaw, Notes

SECTION_TYPE: Final = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OBSOLETE, _SIMPLE, _NAMES, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
_PASSED_OVER: Final = frozenset({7, 8, 9, 0xA, 0xB, 0xBAD, 0x40000BAD})
"""Standard blocks that say nothing here: keys, the system's journal, what is private."""
_COMMENT, _APPLICATION, _IF_NAME, _IF_UNIT, _IF_FILTER, _IF_OFFSET, _ST_DROPPED = 1, 4, 2, 9, 11, 14, 5
_EPB_DROPPED: Final = 4
_IPV4_NAME, _IPV6_NAME = 1, 2
_NS: Final = 1_000_000_000
_OWN: Final = "acns-lab "
_MAX_COMMENT_CHARS: Final = 4_096
_MAX_COMMENTS_OF_ONE: Final = 16

Order = Literal["<", ">"]


@dataclass(slots=True)
class _Interface:
    """`units`: of time in a second."""

    tap: int
    link_type: int
    snap: int
    units: int = 1_000_000
    offset_s: int = 0


@dataclass(slots=True)
class _Section:
    """What blocks refer to."""

    order: Order
    interfaces: list[_Interface] = field(default_factory=list)


def read(source: Source, notes: Notes) -> Iterator[Frame]:
    """The frames of a file whose first four octets were taken."""
    try:
        yield from _Reader(source, notes).frames()
    except Flaw as flaw:
        notes.trouble(0, flaw.kind, f"{flaw.detail}: nothing behind is read")


class _Reader:
    """One file."""

    def __init__(self, source: Source, notes: Notes) -> None:
        self._source = source
        self._notes = notes
        self._section = _Section("<")
        self._number = 0
        self._before_ns = 0
        self._comments_left = notes.limits.comments
        self._comment_bytes_left = notes.limits.comment_bytes

    def frames(self) -> Iterator[Frame]:
        kind_octets = SECTION_TYPE
        while kind_octets:
            kind, body = self._block(kind_octets)
            if found := self._take(kind, body):
                yield found
            kind_octets = self._source.take(4)

    def _block(self, kind_octets: bytes) -> tuple[int, bytes]:
        """Its type and what is in it. Raises Flaw."""
        head = self._whole(kind_octets + self._source.take(4), 8)
        start = b""
        if kind_octets == SECTION_TYPE:
            start = self._whole(self._source.take(4), 4)
            self._section = _Section(_byte_order(start))
        kind, length = struct.unpack(f"{self._section.order}II", head)
        if length % 4 or not 12 + len(start) <= length <= self._notes.limits.frame_bytes:
            raise Flaw(Kind.MALFORMED, f"a block that says it has {length} bytes")
        rest = length - 8 - len(start)
        tail = self._whole(self._source.take(rest), rest)
        if tail[-4:] != head[4:]:
            raise Flaw(Kind.MALFORMED, "a block whose two lengths differ")
        return kind, start + tail[:-4]

    def _whole(self, data: bytes, count: int) -> bytes:
        if len(data) < count:
            raise Flaw(Kind.ENDS_EARLY, "the file ends in the middle of a block")
        return data

    def _take(self, kind: int, body: bytes) -> Frame | None:
        """A block that cannot be read is noted and passed over."""
        try:
            if kind == _PACKET:
                return self._enhanced(body)
            if kind in (_SIMPLE, _OBSOLETE):
                return self._simple(body) if kind == _SIMPLE else self._obsolete(body)
            self._take_other(kind, body)
        except struct.error:
            self._notes.trouble(self._number, Kind.MALFORMED, "a block too short for what it is")
        except Flaw as flaw:
            self._notes.flaw(self._number, flaw)
        return None

    def _take_other(self, kind: int, body: bytes) -> None:
        match kind:
            case 0x0A0D0D0A:
                self._begin_section(body)
            case 1:
                self._interface(body)
            case 4:
                self._names(body)
            case 5:
                self._statistics(body)
            case _ if kind not in _PASSED_OVER:
                self._notes.trouble(self._number, Kind.UNSUPPORTED, "blocks of a type that is not known")

    # --- packets --------------------------------------------------------------------------------------------

    def _enhanced(self, body: bytes) -> Frame:
        self._number += 1
        number, high, low, kept, wire = struct.unpack_from(f"{self._section.order}IIIII", body)
        return self._packet(number, high << 32 | low, body, 20, kept, wire)

    def _obsolete(self, body: bytes) -> Frame:
        self._number += 1
        number, _, high, low, kept, wire = struct.unpack_from(f"{self._section.order}HHIIII", body)
        return self._packet(number, high << 32 | low, body, 20, kept, wire)

    def _simple(self, body: bytes) -> Frame:
        """It has no time: that of the frame before it."""
        self._number += 1
        (wire,) = struct.unpack_from(f"{self._section.order}I", body)
        interface = self._of(0)
        kept = min(wire, len(body) - 4, interface.snap or wire)
        self._notes.trouble(self._number, Kind.UNSUPPORTED, "packets without a time: they get the one before")
        self._notes.heard(interface.tap)
        data = body[4 : 4 + kept]
        return Frame(self._number, self._before_ns, interface.tap, interface.link_type, data, wire)

    def _packet(self, number: int, units: int, body: bytes, start: int, kept: int, wire: int) -> Frame:
        interface = self._of(number)
        if kept > len(body) - start:
            raise Flaw(Kind.MALFORMED, "a packet longer than its block")
        at_ns = units * _NS // interface.units + interface.offset_s * _NS
        self._before_ns = sane_time(at_ns, self._before_ns)
        self._notes.heard(interface.tap)
        end = start + kept
        tail = end + -kept % 4
        comments = self._comments(body, tail) if tail < len(body) else ()
        link_type, data = interface.link_type, body[start:end]
        return Frame(self._number, self._before_ns, interface.tap, link_type, data, max(wire, kept), comments)

    def _of(self, number: int) -> _Interface:
        if number >= len(self._section.interfaces):
            raise Flaw(Kind.MALFORMED, "a packet of an interface that is not described")
        return self._section.interfaces[number]

    def _comments(self, body: bytes, start: int) -> tuple[str, ...]:
        found: list[str] = []
        try:
            for code, value in self._options(body, start):
                if code == _COMMENT and len(found) < _MAX_COMMENTS_OF_ONE:
                    found.append(self._comment(value))
                elif code == _EPB_DROPPED and len(value) == 8 and (lost := self._number_in(value)):
                    self._notes.trouble(self._number, Kind.DROPPED, "lost before a packet", lost)
        except Flaw as flaw:
            self._notes.flaw(self._number, flaw)
        return tuple(found)

    def _comment(self, value: bytes) -> str:
        self._comments_left -= 1
        self._comment_bytes_left -= len(value)
        if self._comments_left < 0 or self._comment_bytes_left < 0:
            raise Flaw(Kind.TOO_MUCH, "more comments than are taken in")
        return _text(value)

    # --- the rest -------------------------------------------------------------------------------------------

    def _begin_section(self, body: bytes) -> None:
        self._notes.own = False
        for code, value in self._options(body, 16):
            if code == _COMMENT:
                self._notes.about(_text(value))
            elif code == _APPLICATION:
                self._notes.own = _text(value).startswith(_OWN)

    def _interface(self, body: bytes) -> None:
        link_type, _, snap = struct.unpack_from(f"{self._section.order}HHI", body)
        options = dict(self._options(body, 8))
        name = _text(options.get(_IF_NAME, b"")) or None
        tap = Tap(name, link_type, snap, _text(options.get(_IF_FILTER, b"")[1:]))
        interface = _Interface(self._notes.tap(tap), link_type, snap)
        if unit := options.get(_IF_UNIT):
            interface.units = 1 << (unit[0] & 0x7F) if unit[0] & 0x80 else 10 ** unit[0]
        if len(offset := options.get(_IF_OFFSET, b"")) == 8:
            (interface.offset_s,) = struct.unpack(f"{self._section.order}q", offset)
        self._section.interfaces.append(interface)

    def _names(self, body: bytes) -> None:
        """Records up to an end, each an address with names."""
        at, head = 0, struct.Struct(f"{self._section.order}HH")
        while at + 4 <= len(body):
            kind, length = head.unpack_from(body, at)
            value, at = body[at + 4 : at + 4 + length], at + 4 + length + -length % 4
            if kind == 0:
                return
            if len(value) < length:
                raise Flaw(Kind.MALFORMED, "a name record longer than its block")
            octets = {_IPV4_NAME: 4, _IPV6_NAME: 16}.get(kind, 0)
            if octets and length > octets:
                self._called(value[:octets], value[octets:])

    def _called(self, packed: bytes, names: bytes) -> None:
        address = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
        for name in names.split(b"\0")[:64]:
            if name:
                self._notes.name(address, _text(name[:1_024]))

    def _statistics(self, body: bytes) -> None:
        (number,) = struct.unpack_from(f"{self._section.order}I", body)
        interface = self._of(number)
        for code, value in self._options(body, 12):
            if code == _ST_DROPPED and len(value) == 8:
                self._notes.dropped(interface.tap, self._number_in(value))

    def _options(self, body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        head = struct.Struct(f"{self._section.order}HH")
        while at + 4 <= len(body):
            code, length = head.unpack_from(body, at)
            if code == 0:
                return
            if at + 4 + length > len(body):
                raise Flaw(Kind.MALFORMED, "an option longer than its block")
            yield code, body[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4

    def _number_in(self, value: bytes) -> int:
        (number,) = struct.unpack(f"{self._section.order}Q", value)
        return int(number)


def _byte_order(magic: bytes) -> Order:
    if magic == b"\x4d\x3c\x2b\x1a":
        return "<"
    if magic == b"\x1a\x2b\x3c\x4d":
        return ">"
    raise Flaw(Kind.MALFORMED, "a section without byte order")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")[:_MAX_COMMENT_CHARS]
