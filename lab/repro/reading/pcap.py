"""The classic capture file: a header, then records (draft-ietf-opsawg-pcap)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from lab.repro.reading.evidence import Kind, Tap
from lab.repro.reading.framing import Frame, Source, sane_time
from lab.repro.reading.notes import Notes

_REST_OF_HEADER: Final = 20
_EMPTY_AT_MOST: Final = 1_000
"""In a row: nobody records such, and of a disk's zeros a small file unpacks to millions."""


class _Magic(NamedTuple):
    """Byte order, nanoseconds in a unit of time, octets of a record's head."""

    order: Literal["<", ">"]
    unit_ns: int
    head: int


MAGICS: Final = {
    b"\xd4\xc3\xb2\xa1": _Magic("<", 1_000, 16),
    b"\xa1\xb2\xc3\xd4": _Magic(">", 1_000, 16),
    b"\x4d\x3c\xb2\xa1": _Magic("<", 1, 16),
    b"\xa1\xb2\x3c\x4d": _Magic(">", 1, 16),
    # Kuznetzov's libpcap of old: an interface, a protocol and a packet type behind each head.
    b"\x34\xcd\xb2\xa1": _Magic("<", 1_000, 24),
    b"\xa1\xb2\xcd\x34": _Magic(">", 1_000, 24),
}


def read(magic: bytes, source: Source, notes: Notes) -> Iterator[Frame]:
    """The frames behind `magic`, which was taken."""
    order, unit_ns, head_octets = MAGICS[magic]
    header = source.take(_REST_OF_HEADER)
    if len(header) < _REST_OF_HEADER:
        notes.trouble(0, Kind.ENDS_EARLY, "the file's header is not whole")
        return
    snap, link = struct.unpack_from(f"{order}II", header, 12)
    link_type = link & 0xFFFF  # above: the length of a checksum behind each frame
    tap = notes.tap(Tap(None, link_type, snap))
    head, number, before_ns, empty = struct.Struct(f"{order}IIII"), 0, 0, 0
    while start := source.take(head_octets):
        number += 1
        if len(start) < head_octets:
            notes.trouble(number, Kind.ENDS_EARLY, "the file ends in the middle of a record")
            return
        seconds, units, kept, wire = head.unpack_from(start)
        if kept > notes.limits.frame_bytes:
            notes.trouble(number, Kind.MALFORMED, "a record longer than any frame: nothing behind is read")
            return
        empty = 0 if kept or wire else empty + 1
        if empty > _EMPTY_AT_MOST:
            notes.trouble(number, Kind.MALFORMED, "one record after another is empty: nothing behind is read")
            return
        data = source.take(kept)
        if len(data) < kept:
            notes.trouble(number, Kind.ENDS_EARLY, "the file ends in the middle of a record")
        before_ns = sane_time(seconds * 1_000_000_000 + units * unit_ns, before_ns)
        notes.heard(tap)
        yield Frame(number, before_ns, tap, link_type, data, max(wire, kept))
