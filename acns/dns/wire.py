"""The frame of a DNS message: header, question, records; RFC 1035 §4.

The readers here find their way through a message and hand out offsets; what a record says is for `message`
and `rewrite`. What this module keeps true: only MalformedDNS is raised, work is linear in the packet's size,
and no count in the header is believed beyond the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from acns.dns.name import MAX_LABEL_OCTETS, MalformedDNS, Name, read_segment

HEADER_OCTETS = 12
MAX_MESSAGE_OCTETS = 65_535
MAX_PLAIN_UDP_OCTETS = 512  # without EDNS: RFC 1035 §2.3.4

TCP, UDP = 6, 17  # IANA protocol numbers: the transport of a message

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_QUERY = 0
CLASS_IN, CLASS_ANY = 1, 255

TYPE_A, TYPE_NS, TYPE_MD, TYPE_MF, TYPE_CNAME, TYPE_SOA = 1, 2, 3, 4, 5, 6
TYPE_MB, TYPE_MG, TYPE_MR, TYPE_PTR, TYPE_MINFO, TYPE_MX = 7, 8, 9, 12, 14, 15
TYPE_TXT, TYPE_RP, TYPE_AFSDB, TYPE_RT, TYPE_SIG, TYPE_PX = 16, 17, 18, 21, 24, 26
TYPE_AAAA, TYPE_NXT, TYPE_SRV, TYPE_NAPTR, TYPE_KX, TYPE_DNAME, TYPE_OPT = 28, 30, 33, 35, 36, 39, 41
TYPE_RRSIG, TYPE_SVCB, TYPE_HTTPS, TYPE_TSIG, TYPE_IXFR, TYPE_AXFR, TYPE_ANY = 46, 64, 65, 250, 251, 252, 255

_MAX_OPTIONS = 64  # each once, of some twenty that there are: 64 KiB have room for 16,000

RCODE_NOERROR, RCODE_FORMERR, RCODE_SERVFAIL = 0, 1, 2
RCODE_NXDOMAIN, RCODE_NOTIMP, RCODE_REFUSED = 3, 4, 5
RCODE_BADVERS, RCODE_BADCOOKIE = 16, 23  # with the bits of an OPT record

_HEADER = struct.Struct("!6H")
_QUESTION_TAIL = struct.Struct("!HH")
_RECORD_TAIL = struct.Struct("!HHIH")


class Header(NamedTuple):
    """The first twelve octets."""

    id: int
    flags: int
    questions: int
    answers: int
    authorities: int
    additionals: int

    @property
    def is_response(self) -> bool:
        return bool(self.flags & QR)

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 0xF

    @property
    def rcode(self) -> int:
        return self.flags & 0xF

    def to_wire(self) -> bytes:
        return _HEADER.pack(*self)


class Question(NamedTuple):
    """The only question of a message; `end` is the offset behind it."""

    name: Name
    qtype: int
    qclass: int
    end: int


class RawRecord(NamedTuple):
    """A record as offsets into its message: the owner's, and the first octet of rdata and the one behind."""

    owner: int
    type: int
    rclass: int
    ttl_s: int
    start: int
    end: int


class Extras(NamedTuple):
    """Of a message's last sections: OPT, the signature over the whole message, the offset behind all."""

    opt: RawRecord | None
    signature: RawRecord | None
    end: int


def read_header(packet: bytes) -> Header:
    """The header. Raises MalformedDNS where there are not twelve octets."""
    if len(packet) < HEADER_OCTETS:
        raise MalformedDNS("shorter than a header")
    return Header._make(_HEADER.unpack_from(packet))


def read_question(packet: bytes, header: Header) -> Question:
    """The question, where there is exactly one (RFC 9619). Raises MalformedDNS."""
    if header.questions != 1:
        raise MalformedDNS(f"{header.questions} questions")
    labels, offset, target = read_segment(packet, HEADER_OCTETS)
    if target is not None:
        # It could lead only into the header, whose first octets change on the way: a name nobody can judge.
        raise MalformedDNS("the question's name is compressed")
    end = offset + _QUESTION_TAIL.size
    if end > len(packet):
        raise MalformedDNS("the question runs past the end")
    qtype, qclass = _QUESTION_TAIL.unpack_from(packet, offset)
    return Question(tuple([label.lower() for label in labels]), qtype, qclass, end)


def read_records(packet: bytes, offset: int, count: int) -> Iterator[RawRecord]:
    """The next `count` records from `offset`; the last one's `end` is the offset behind them."""
    size = len(packet)
    for _ in range(count):
        tail = skip_name(packet, offset)
        start = tail + _RECORD_TAIL.size
        if start > size:
            raise MalformedDNS("a record runs past the end")
        rtype, rclass, ttl_s, length = _RECORD_TAIL.unpack_from(packet, tail)
        end = start + length
        if end > size:
            raise MalformedDNS("a record's data runs past the end")
        yield RawRecord(offset, rtype, rclass, ttl_s, start, end)
        offset = end


def read_extras(packet: bytes, offset: int, before: int, additionals: int) -> Extras:
    """What the records from `offset` on say of the message: `before` of other sections, then the additional.

    Walks, and so checks, all that is there. Raises MalformedDNS.
    """
    opt = last = None
    count = before + additionals
    for number, record in enumerate(read_records(packet, offset, count), start=1):
        last = record
        if record.type not in (TYPE_OPT, TYPE_TSIG):
            continue
        if number <= before or (record.type == TYPE_TSIG and (number != count or record.rclass != CLASS_ANY)):
            raise MalformedDNS("an OPT or TSIG record out of place")  # RFC 6891 §6.1.1, RFC 8945 §5.1
        if record.type == TYPE_OPT:
            if opt or packet[record.owner]:
                raise MalformedDNS("an OPT record too many, or with a name")
            opt = record
    if last is None:
        return Extras(None, None, offset)
    return Extras(opt, last if additionals and is_signature(packet, last) else None, last.end)


def whole_rcode(header: Header, extras: Extras) -> int:
    """With the bits that an OPT record adds (RFC 6891 §6.1.3)."""
    return header.rcode | (extras.opt.ttl_s >> 24 << 4 if extras.opt else 0)


def check_options(packet: bytes, opt: RawRecord) -> None:
    """Whether the options of an OPT record fill it (RFC 6891 §6.1.2), and are not too many. Raises
    MalformedDNS."""
    offset, count = opt.start, 0
    while offset + 4 <= opt.end:
        count += 1
        if count > _MAX_OPTIONS:
            raise MalformedDNS("too many options")
        offset += 4 + int.from_bytes(packet[offset + 2 : offset + 4])
    if offset != opt.end:
        raise MalformedDNS("options that do not fill their OPT record")


def is_signature(packet: bytes, record: RawRecord) -> bool:
    """Whether this record, at the end of a message, signs all of it: TSIG, or SIG(0) (RFC 2931)."""
    covers_nothing = packet[record.start : min(record.start + 2, record.end)] == b"\0\0"
    return record.type == TYPE_TSIG or (record.type == TYPE_SIG and covers_nothing)


def record_tail(rtype: int, rclass: int, ttl_s: int, rdata: bytes) -> bytes:
    """All of a record but its owner, on the wire."""
    return _RECORD_TAIL.pack(rtype, rclass, ttl_s, len(rdata)) + rdata


def skip_name(packet: bytes, offset: int) -> int:
    """The offset behind the name at `offset`; pointers are not followed."""
    size = len(packet)
    while offset < size:
        length = packet[offset]
        if length == 0:
            return offset + 1
        if length > MAX_LABEL_OCTETS:
            if length < 0xC0:
                raise MalformedDNS("unknown label type")
            return offset + 2
        offset += length + 1
    raise MalformedDNS("a name runs past the end")
