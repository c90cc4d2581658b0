"""Answers made smaller: AAAA records taken out, or all records where the asker has no room for them.

Taking a record out of a message moves everything behind it, and names there may be compressed against what
has gone. So the message is written anew: every name that may be compressed (owners, and those inside the
rdata of the types that RFC 3597 §4 lists) is read in full and compressed again, in the case it was sent in;
the rest of the rdata is copied. A message that needs no change is handed back as it is.

What these functions keep true: rcode, aliases, SOA and OPT stay, so an NXDOMAIN stays one and negative
answers stay cacheable; only MalformedDNS is raised.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from acns.dns import wire
from acns.dns.name import MalformedDNS, Name, NameReader, to_wire
from acns.dns.wire import Header, RawRecord

# Octets before the first name, number of names: where names stand in rdata. The first group may be compressed
# by a sender (RFC 1035), the second must not but was, so a receiver undoes it (RFC 3597 §4).
_COMPRESSIBLE = {
    wire.TYPE_NS: (0, 1),
    wire.TYPE_MD: (0, 1),
    wire.TYPE_MF: (0, 1),
    wire.TYPE_CNAME: (0, 1),
    wire.TYPE_SOA: (0, 2),
    wire.TYPE_MB: (0, 1),
    wire.TYPE_MG: (0, 1),
    wire.TYPE_MR: (0, 1),
    wire.TYPE_PTR: (0, 1),
    wire.TYPE_MINFO: (0, 2),
    wire.TYPE_MX: (2, 1),
}
_DECOMPRESSIBLE = {
    wire.TYPE_RP: (0, 2),
    wire.TYPE_AFSDB: (2, 1),
    wire.TYPE_RT: (2, 1),
    wire.TYPE_SIG: (18, 1),
    wire.TYPE_PX: (2, 2),
    wire.TYPE_NXT: (0, 1),
    wire.TYPE_SRV: (6, 1),
    wire.TYPE_KX: (2, 1),
    wire.TYPE_DNAME: (0, 1),
}
_NAPTR_FIXED, _NAPTR_STRINGS = 4, 3
_FIRST_UNREACHABLE = 0x4000  # a pointer has fourteen bits
_MOST_LABELS = 50_000
"""Of all its names, each once. 64 KiB have room for 400,000 in 3,000 names that nobody has."""


class TooLong(MalformedDNS):
    """Written anew it would be longer than a message may be, as names that may not be compressed were; or it
    has too many labels."""


def with_id(packet: bytes, message_id: int) -> bytes:
    """The same message under another ID."""
    return struct.pack("!H", message_id) + packet[2:]


def without_aaaa(packet: bytes) -> bytes:
    """The answer without the AAAA records of its answer section and their signatures. Raises TooLong or
    MalformedDNS."""
    header = wire.read_header(packet)
    offset = wire.read_question(packet, header).end
    count = header.answers + header.authorities + header.additionals
    records = list(wire.read_records(packet, offset, count))
    answers, rest = records[: header.answers], records[header.answers :]
    kept = [record for record in answers if not _concerns_aaaa(packet, record)]
    if len(kept) == len(answers):
        return packet
    # What is left was never signed in this form: it may not claim to be authentic (RFC 4035 §3.2.3).
    smaller = header._replace(flags=header.flags & ~wire.AD, answers=len(kept))
    return _written(packet, smaller, offset, [*kept, *rest])


def truncated(packet: bytes) -> bytes:
    """The answer with TC set and no records but OPT: ask again over TCP. Raises MalformedDNS.

    Only header and question need be readable: some servers cut a message short inside a record.
    """
    header = wire.read_header(packet)
    end = wire.read_question(packet, header).end
    try:
        before = header.answers + header.authorities
        opt = wire.read_extras(packet, end, before, header.additionals).opt
    except MalformedDNS:
        opt = None
    edns = b"" if opt is None else packet[opt.owner : opt.end]
    if opt is not None and end + len(edns) > wire.MAX_PLAIN_UDP_OCTETS:
        edns = b"\0" + wire.record_tail(opt.type, opt.rclass, opt.ttl_s, b"")  # long options have to go too
    smaller = Header(header.id, header.flags | wire.TC, 1, 0, 0, bool(edns))
    return smaller.to_wire() + packet[wire.HEADER_OCTETS : end] + edns


def _concerns_aaaa(packet: bytes, record: RawRecord) -> bool:
    if record.type == wire.TYPE_AAAA:
        return True
    covered = packet[
        record.start : min(record.start + 2, record.end)
    ]  # RFC 4034 §3.1: type covered comes first
    return record.type == wire.TYPE_RRSIG and covered == wire.TYPE_AAAA.to_bytes(2, "big")


def _written(packet: bytes, header: Header, question_end: int, records: Iterable[RawRecord]) -> bytes:
    writer = _Writer(packet, header)
    writer.question(question_end)
    for record in records:
        writer.record(record)
        if len(writer.out) > wire.MAX_MESSAGE_OCTETS:
            raise TooLong("longer than a message may be, once its names are written out")
    return bytes(writer.out)


class _Writer:
    """A message under construction, and where in it each name (from any of its labels on) already stands."""

    def __init__(self, packet: bytes, header: Header) -> None:
        self.out = bytearray(header.to_wire())
        self._packet = packet
        self._names = NameReader(packet, fold=False)
        self._places: dict[bytes, int] = {}
        self._wires: dict[Name, bytes] = {}
        self._labels = 0

    def question(self, end: int) -> None:
        self._name(self._names.read(wire.HEADER_OCTETS)[0])
        self.out += self._packet[end - 4 : end]

    def record(self, record: RawRecord) -> None:
        self._name(self._names.read(record.owner)[0])
        tail = len(self.out)
        self.out += wire.record_tail(record.type, record.rclass, record.ttl_s, b"")
        rdata = len(self.out)
        self._rdata(record)
        struct.pack_into("!H", self.out, tail + 8, len(self.out) - rdata)

    def _name(self, labels: Name, *, compressed: bool = True) -> None:
        whole, position = self._wire(labels), 0
        while length := whole[position]:
            rest = whole[position:]
            place = self._places.get(rest)
            if place is not None and compressed:
                self.out += struct.pack("!H", 0xC000 | place)
                return
            if place is None and len(self.out) < _FIRST_UNREACHABLE:
                self._places[rest] = len(self.out)
            self.out += rest[: length + 1]
            position += length + 1
        self.out.append(0)

    def _wire(self, labels: Name) -> bytes:
        """Made once for each name: thousands of records may have the same, of 126 labels."""
        found = self._wires.get(labels)
        if found is None:
            self._labels += len(labels)
            if self._labels > _MOST_LABELS:
                raise TooLong("too many labels to be written anew")
            found = self._wires[labels] = to_wire(labels)
        return found

    def _rdata(self, record: RawRecord) -> None:
        compressed = record.type in _COMPRESSIBLE
        before, count = _COMPRESSIBLE.get(record.type) or _DECOMPRESSIBLE.get(record.type, (0, 0))
        offset = record.start + before
        if record.type == wire.TYPE_NAPTR:
            offset, count = _behind_strings(self._packet, record), 1
        self.out += self._packet[record.start : offset]
        for _ in range(count):
            name, offset = self._names.read(offset)
            if offset > record.end:
                raise MalformedDNS("a name runs past its record")
            self._name(name, compressed=compressed)
        self.out += self._packet[offset : record.end]


def _behind_strings(packet: bytes, record: RawRecord) -> int:
    """Behind the three strings of a NAPTR record (RFC 3403 §4.1)."""
    offset = record.start + _NAPTR_FIXED
    for _ in range(_NAPTR_STRINGS):
        if offset >= record.end:
            raise MalformedDNS("a NAPTR record is too short")
        offset += 1 + packet[offset]
    return offset
