"""DNS messages as the resolver needs them: who asks what, and which addresses an answer teaches.

Hand-written on bytes because it stands on the path of every query, and because a general library refuses
labels that are odd but legal. What is not needed is not read: records come as offsets into their packet.

What this module keeps true:
* Reading raises MalformedDNS or succeeds; hostile bytes can neither crash nor stall it.
* Only records on the CNAME/DNAME chain that starts at the question teach an address. Cilium's proxy does not
  look at owner names; a server that can be made to add a record must not be able to open an address with it.
* Replies of our own echo ID, opcode, RD, CD and the question's very bytes (0x20 case), with an OPT record
  where the query had one (RFC 6891 §6.1.1, RFC 3225 §3 for the DO bit).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from acns.dns import name as names
from acns.dns.name import MalformedDNS, Name
from acns.dns.rewrite import TooLong, truncated, with_id, without_aaaa
from acns.dns.wire import (
    CD,
    CLASS_IN,
    HEADER_OCTETS,
    MAX_MESSAGE_OCTETS,
    MAX_PLAIN_UDP_OCTETS,
    OPCODE_QUERY,
    QR,
    RA,
    RCODE_BADCOOKIE,
    RCODE_BADVERS,
    RCODE_FORMERR,
    RCODE_NOERROR,
    RCODE_NOTIMP,
    RCODE_NXDOMAIN,
    RCODE_REFUSED,
    RCODE_SERVFAIL,
    RD,
    TC,
    TCP,
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    TYPE_AXFR,
    TYPE_CNAME,
    TYPE_DNAME,
    TYPE_IXFR,
    TYPE_OPT,
    TYPE_RRSIG,
    TYPE_SIG,
    TYPE_TSIG,
    UDP,
    Header,
    RawRecord,
    check_options,
    read_extras,
    read_header,
    read_question,
    read_records,
    record_tail,
    whole_rcode,
)

__all__ = [
    "CLASS_IN",
    "HEADER_OCTETS",
    "OPCODE_QUERY",
    "RCODE_BADCOOKIE",
    "RCODE_BADVERS",
    "RCODE_FORMERR",
    "RCODE_NOERROR",
    "RCODE_NOTIMP",
    "RCODE_NXDOMAIN",
    "RCODE_REFUSED",
    "RCODE_SERVFAIL",
    "TC",
    "TCP",
    "TYPE_A",
    "TYPE_AAAA",
    "TYPE_ANY",
    "TYPE_AXFR",
    "TYPE_CNAME",
    "TYPE_IXFR",
    "TYPE_RRSIG",
    "TYPE_SIG",
    "TYPE_TSIG",
    "UDP",
    "Answer",
    "ChainTooLong",
    "Header",
    "Learned",
    "MalformedDNS",
    "Query",
    "Record",
    "TooLong",
    "bare_rcode",
    "folded_name",
    "learnable",
    "read_answer",
    "read_header",
    "read_query",
    "reply_with_rcode",
    "truncated",
    "with_id",
    "without_aaaa",
]

OUR_UDP_OCTETS = 1232  # what we say of ourselves in an OPT: fits every path unfragmented (DNS Flag Day 2020)
_DO = 0x8000
_OPCODE_BITS = 0x7800
_MAX_TTL_S = 0x7FFF_FFFF
_MAX_QUERY_RECORDS = 16  # one OPT, one signature, a SOA (RFC 1995): 64 KiB have room for 6,000
_MAX_CHAIN_NAMES = 64  # resolvers follow 16 or fewer; DNAMEs that multiply each other would never end
_MAX_CHAIN_STEPS = 512  # a DNAME may be tried on each name below it: thousands on 64 names take seconds


class ChainTooLong(MalformedDNS):
    """All can be read, but the aliases lead on and on: where they end is not looked for."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query with exactly one question."""

    id: int
    flags: int
    name: Name
    qtype: int
    qclass: int
    question_wire: bytes
    edns_size: int | None
    size_limit: int
    """Octets of the largest answer the asker can take over the transport it asked on."""
    signature: int = 0
    """TYPE_TSIG or TYPE_SIG where the whole message is signed (RFC 8945, RFC 2931), else 0."""

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 0xF

    @property
    def rd(self) -> bool:
        return bool(self.flags & RD)


class Record(NamedTuple):
    """One record of an answer section; its rdata is `packet[start:end]`."""

    owner: Name
    type: int
    rclass: int
    ttl_s: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with one question, and its answer section."""

    packet: bytes
    id: int
    flags: int
    rcode: int
    """With the bits that an OPT record adds (RFC 6891 §6.1.3)."""
    name: Name
    qtype: int
    qclass: int
    question_wire: bytes
    records: tuple[Record, ...]
    signature: int = 0
    """As a query's."""

    @property
    def qr(self) -> bool:
        return bool(self.flags & QR)

    @property
    def tc(self) -> bool:
        return bool(self.flags & TC)


@dataclass(frozen=True, slots=True)
class Learned:
    """What an answer teaches under its question's name: IPv4 addresses, four octets each, without repeats."""

    addresses: tuple[bytes, ...]
    ttl_s: int


def read_query(packet: bytes, protocol: int = UDP) -> Query:
    """The query in `packet`, which came over `protocol`. Raises MalformedDNS; judges no QR, no opcode."""
    header = read_header(packet)
    if _records_of_query(header) > _MAX_QUERY_RECORDS:
        raise MalformedDNS("more records than a query has")
    question = read_question(packet, header)
    before = header.answers + header.authorities
    extras = read_extras(packet, question.end, before, header.additionals)
    if extras.end != len(packet):
        raise MalformedDNS("octets behind the last record")  # nobody has judged them
    reader = names.NameReader(packet)
    for record in read_records(packet, question.end, before + header.additionals):
        reader.read(record.owner)
    if extras.opt:
        check_options(packet, extras.opt)
    edns_size = extras.opt.rclass if extras.opt else None
    udp_limit = max(MAX_PLAIN_UDP_OCTETS, edns_size or 0)  # RFC 6891 §6.2.3: below 512 means 512
    return Query(
        id=header.id,
        flags=header.flags,
        name=question.name,
        qtype=question.qtype,
        qclass=question.qclass,
        question_wire=packet[HEADER_OCTETS : question.end],
        edns_size=edns_size,
        size_limit=MAX_MESSAGE_OCTETS if protocol == TCP else udp_limit,
        signature=extras.signature.type if extras.signature else 0,
    )


def read_answer(packet: bytes) -> Answer:
    """The response in `packet`; all sections are walked. Raises MalformedDNS. QR is not judged."""
    header = read_header(packet)
    question = read_question(packet, header)
    reader = names.NameReader(packet)
    records: list[Record] = []
    offset = question.end
    for raw in read_records(packet, offset, header.answers):
        records.append(Record(reader.read(raw.owner)[0], *raw[1:]))
        offset = raw.end
    extras = read_extras(packet, offset, header.authorities, header.additionals)
    return Answer(
        packet=packet,
        id=header.id,
        flags=header.flags,
        rcode=whole_rcode(header, extras),
        name=question.name,
        qtype=question.qtype,
        qclass=question.qclass,
        question_wire=packet[HEADER_OCTETS : question.end],
        records=tuple(records),
        signature=extras.signature.type if extras.signature else 0,
    )


def bare_rcode(packet: bytes) -> int:
    """The code of a response that has no question, and one record. Raises MalformedDNS, also where there is
    more."""
    header = read_header(packet)
    extras = read_extras(packet, HEADER_OCTETS, 0, 1)
    if extras.end != len(packet):
        raise MalformedDNS("octets behind the last record")
    return whole_rcode(header, extras)


def learnable(answer: Answer) -> Learned:
    """The A records on the chain from the question, with the smallest TTL on the way. Raises MalformedDNS,
    of which ChainTooLong where the chain's end would not be known.

    Records may stand in any order. An owner with several aliases (illegal, seen) has all of them followed.
    """
    if answer.rcode != RCODE_NOERROR or answer.qclass != CLASS_IN:
        return Learned((), 0)
    by_owner, dnames = _by_owner(answer.records)
    depths = {len(owner) for owner in dnames}
    reader = names.NameReader(answer.packet)
    addresses: dict[bytes, None] = {}
    ttls: list[int] = []
    chain = _Chain(answer.name)
    while (owner := chain.next()) is not None:
        chain.step(len(depths))
        for record in [*by_owner.get(owner, ()), *_covering(owner, dnames, depths)]:
            ttls.append(_ttl_s(record))
            if record.type == TYPE_A:
                addresses[answer.packet[record.start : record.end]] = None
            else:
                chain.step()
                chain.lead_to(_target(reader, record, owner))
    return Learned(tuple(addresses), min(ttls) if addresses else 0)


def folded_name(packet: bytes) -> bytes:
    """The octets of the question's name in lower case, whatever else there is: to know a name again. Not of
    what follows a pointer, or is cut off."""
    at = HEADER_OCTETS
    while at < len(packet) and 0 < packet[at] <= names.MAX_LABEL_OCTETS:
        at += packet[at] + 1
    return packet[HEADER_OCTETS:at].lower()  # no length of a label is a letter


def reply_with_rcode(query_packet: bytes, rcode: int, *, come_by_tcp: bool = False) -> bytes:
    """Our own answer to a query: no records, only a code, and TC for who is to `come_by_tcp`. No more than
    the header need be readable."""
    header = read_header(query_packet)
    question, opt = _readable_parts(query_packet, header)
    flags = QR | header.flags & (_OPCODE_BITS | RD | CD) | RA | rcode | (TC if come_by_tcp else 0)
    edns = b""
    if opt is not None:
        edns = b"\0" + record_tail(TYPE_OPT, OUR_UDP_OCTETS, opt.ttl_s & _DO, b"")
    counts = Header(header.id, flags, bool(question), 0, 0, bool(edns))
    return counts.to_wire() + question + edns


def _readable_parts(packet: bytes, header: Header) -> tuple[bytes, RawRecord | None]:
    """The question's bytes (empty where it cannot be read) and the OPT record (None likewise)."""
    try:
        end = read_question(packet, header).end
    except MalformedDNS:
        return b"", None
    if _records_of_query(header) > _MAX_QUERY_RECORDS:
        return packet[HEADER_OCTETS:end], None
    try:
        before = header.answers + header.authorities
        return packet[HEADER_OCTETS:end], read_extras(packet, end, before, header.additionals).opt
    except MalformedDNS:
        return packet[HEADER_OCTETS:end], None


def _records_of_query(header: Header) -> int:
    return header.answers + header.authorities + header.additionals


class _Chain:
    """The names that aliases lead to, each once. Raises ChainTooLong at too many of them, or of steps:
    aliases tried, and places looked at for some."""

    def __init__(self, first: Name) -> None:
        self._to_visit, self._met = [first], {first}
        self._steps = 0

    def next(self) -> Name | None:
        return self._to_visit.pop() if self._to_visit else None

    def step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps > _MAX_CHAIN_STEPS:
            raise ChainTooLong("a chain of too many aliases to try")

    def lead_to(self, target: Name | None) -> None:
        if target is None or target in self._met:
            return
        self._met.add(target)
        self._to_visit.append(target)
        if len(self._met) > _MAX_CHAIN_NAMES:
            raise ChainTooLong("a chain of too many aliases")


_ByOwner = dict[Name, list[Record]]


def _by_owner(records: Iterable[Record]) -> tuple[_ByOwner, _ByOwner]:
    """The A and CNAME records by owner, and the DNAME records."""
    by_owner: _ByOwner = {}
    dnames: _ByOwner = {}
    for record in records:
        if record.rclass != CLASS_IN:
            continue
        if record.type == TYPE_CNAME or (record.type == TYPE_A and record.end - record.start == 4):
            by_owner.setdefault(record.owner, []).append(record)
        elif record.type == TYPE_DNAME:
            dnames.setdefault(record.owner, []).append(record)
    return by_owner, dnames


def _covering(name: Name, dnames: _ByOwner, depths: Collection[int]) -> list[Record]:
    """The DNAME records that cover `name`: their owner is an ancestor of it, never itself (RFC 6672 §2.2).
    `depths`: how many labels owners have."""
    ancestors = [name[len(name) - depth :] for depth in depths if depth < len(name)]
    return [record for owner in ancestors for record in dnames.get(owner, ())]


def _target(reader: names.NameReader, record: Record, owner: Name) -> Name | None:
    """Where a CNAME or DNAME takes `owner`; None where that would be too long a name."""
    target, end = reader.read(record.start)
    if end != record.end:
        raise MalformedDNS("an alias does not fill its record")
    if record.type == TYPE_CNAME:
        return target
    replaced = owner[: len(owner) - len(record.owner)] + target
    return replaced if sum(map(len, replaced)) + len(replaced) < names.MAX_NAME_OCTETS else None


def _ttl_s(record: Record) -> int:
    return min(record.ttl_s, _MAX_TTL_S)  # RFC 8767 §4: large, whatever RFC 2181 §8 said of the top bit
