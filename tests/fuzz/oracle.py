"""dnspython as judge of our reader: both read a message and agree on what is in it, or both refuse it.

dnspython reads all of a message, ours what it needs, and ours asks for a few things more. Where they differ
for such a reason the difference is one of `Understood`, each with its proof: it is not taken from an error's
wording but found again in the message, by dnspython's own parts or by hand.

The operation code is put to QUERY first: the gate lets no other come as far as the reader, and dnspython
reads updates (RFC 2136) by rules of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from acns.dns import message, wire
from acns.dns.message import MalformedDNS
from acns.dns.wire import RawRecord

_MAX_NAMES = 40
_FLAGS = 2


class Understood(StrEnum):
    """Why one of the two may refuse what the other reads."""

    QUESTIONS = "ours wants exactly one question (RFC 9619); dnspython reads any number"
    QUESTION_POINTER = "ours wants the question's name in full: a pointer could lead only into the header"
    OPT_POINTER = "ours wants the root that owns an OPT record as one octet, not as a pointer to one"
    RDATA = "dnspython reads the data of every record; ours that of aliases only"
    OWNER = "dnspython follows the pointers in every record's name; ours in an answer section only"
    HOPS = "dnspython follows 16 pointers for one name; ours as many as a name can have"
    TRAILING = "octets behind an answer: dnspython refuses them, ours leaves them alone"
    IN_ANSWERS = (
        "an OPT or TSIG record among the answers: dnspython refuses it, ours never looks there for one"
    )
    MANY = "ours wants no more than 16 records in a query, and 64 options; dnspython reads any number"


class Agreed(StrEnum):
    """How they agreed."""

    READ = "both read it"
    REFUSED = "both refuse it"


class Disagreement(AssertionError):
    """Nothing explains the difference."""


def with_opcode_query(packet: bytes) -> bytes:
    """The packet as the reader gets to see it."""
    if len(packet) <= _FLAGS:
        return packet
    return packet[:_FLAGS] + bytes((packet[_FLAGS] & 0x87,)) + packet[_FLAGS + 1 :]


def compare(packet: bytes, *, as_answer: bool) -> Agreed | Understood:
    """How both read `packet`. Raises Disagreement."""
    packet = with_opcode_query(packet)
    ours = _ours(packet, as_answer=as_answer)
    theirs = _theirs(packet)
    if isinstance(ours, MalformedDNS):
        return Agreed.REFUSED if isinstance(theirs, Exception) else _why_ours_refuses(packet, ours)
    if isinstance(theirs, Exception):
        return _why_theirs_refuses(packet, theirs, as_answer=as_answer)
    _compare_contents(packet, ours, theirs)
    return Agreed.READ


def _ours(packet: bytes, *, as_answer: bool) -> message.Query | message.Answer | MalformedDNS:
    try:
        return message.read_answer(packet) if as_answer else message.read_query(packet)
    except MalformedDNS as error:
        return error


def _theirs(packet: bytes) -> dns.message.Message | Exception:
    try:
        # A key that is false: signatures are read, and not verified.
        return dns.message.from_wire(packet, keyring=lambda *_: False, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError) as error:
        return error


# --- one refuses ------------------------------------------------------------------------------------------


def _why_ours_refuses(packet: bytes, error: MalformedDNS) -> Understood:
    header = wire.read_header(packet)
    if header.questions != 1:
        return Understood.QUESTIONS
    if _name_ends_in_pointer(packet, wire.HEADER_OCTETS):
        return Understood.QUESTION_POINTER
    if str(error) in ("more records than a query has", "too many options"):
        return Understood.MANY
    records = _records(packet)
    if any(one.type == wire.TYPE_OPT and packet[one.owner] >= 0xC0 for one in records):
        return Understood.OPT_POINTER
    raise Disagreement(f"ours refuses it ({error}), dnspython reads it")


def _name_ends_in_pointer(packet: bytes, offset: int) -> bool:
    while packet[offset] not in (0, *range(0xC0, 0x100)):
        offset += packet[offset] + 1
    return packet[offset] != 0


def _records(packet: bytes) -> list[RawRecord]:
    header = wire.read_header(packet)
    end = wire.skip_name(packet, wire.HEADER_OCTETS) + 4
    return list(wire.read_records(packet, end, header.answers + header.authorities + header.additionals))


def _why_theirs_refuses(packet: bytes, error: Exception, *, as_answer: bool) -> Understood:
    """The first thing in the message that dnspython cannot like; it has to be one that ours may."""
    answers = wire.read_header(packet).answers
    records = _records(packet)
    for number, record in enumerate(records):
        complaint = _complaint(packet, record, in_answers=number < answers, as_answer=as_answer)
        if complaint:
            return complaint
    if as_answer and isinstance(error, dns.message.TrailingJunk):
        return Understood.TRAILING
    raise Disagreement(f"ours reads it, dnspython does not: {error!r}")


def _complaint(packet: bytes, record: RawRecord, *, in_answers: bool, as_answer: bool) -> Understood | None:
    try:
        dns.name.from_wire(packet, record.owner)
    except dns.name.PointerChainTooLong:
        return Understood.HOPS
    except dns.exception.DNSException as error:
        if as_answer and in_answers:
            raise Disagreement(f"ours read this answer's owner, dnspython does not: {error!r}") from error
        return Understood.OWNER
    if record.type in (wire.TYPE_OPT, wire.TYPE_TSIG) and as_answer and in_answers:
        return Understood.IN_ANSWERS
    try:
        dns.rdata.from_wire(record.rclass, record.type, packet, record.start, record.end - record.start)
    except (dns.exception.DNSException, ValueError):
        return Understood.RDATA
    return None


# --- both read --------------------------------------------------------------------------------------------


def _compare_contents(
    packet: bytes, ours: message.Query | message.Answer, theirs: dns.message.Message
) -> None:
    question = theirs.question[0]
    _same("header", (ours.id, ours.flags), (theirs.id, int(theirs.flags)))
    _same(
        "question",
        (ours.name, ours.qtype, ours.qclass),
        (_labels(question.name), int(question.rdtype), int(question.rdclass)),
    )
    _same("signature", ours.signature == wire.TYPE_TSIG, theirs.had_tsig)
    if isinstance(ours, message.Query):
        _same("EDNS", ours.edns_size, theirs.payload if theirs.edns >= 0 else None)
        return
    _same(
        "answers",
        [(one.owner, one.type, one.rclass, _ttl(one.ttl_s)) for one in ours.records],
        [(_labels(one.name), int(one.rdtype), int(one.rdclass), one.ttl) for one in theirs.answer],
    )
    expected = learnable(theirs)
    if expected is not None:
        _same("learned", set(message.learnable(ours).addresses), expected)


def _same(what: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        raise Disagreement(f"{what}: {ours!r} is ours, {theirs!r} is dnspython's")


def _labels(name: dns.name.Name) -> tuple[bytes, ...]:
    return tuple(name.canonicalize().labels[:-1])


def learnable(answer: dns.message.Message) -> set[bytes] | None:
    """What a walk along the aliases finds: of every address it is asked whether a way leads to it.

    None where DNAMEs multiply each other: that ours ends is promised, not where.
    """
    question = answer.question[0]
    if answer.rcode() != 0 or question.rdclass != dns.rdataclass.IN:
        return set()
    records = [one for one in answer.answer if one.rdclass == dns.rdataclass.IN]
    reached = {question.name.canonicalize()}
    while found := _one_step(records, reached) - reached:
        reached |= found
        if len(reached) > _MAX_NAMES:
            return None
    return {
        rdata.to_wire()
        for one in records
        if one.rdtype == dns.rdatatype.A and one.name.canonicalize() in reached
        for rdata in one
    }


def _one_step(records: Sequence[dns.rrset.RRset], reached: set[dns.name.Name]) -> set[dns.name.Name]:
    found = set()
    for one in records:
        owner = one.name.canonicalize()
        for here in reached:
            if one.rdtype == dns.rdatatype.CNAME and owner == here:
                found.add(one[0].target.canonicalize())
            if one.rdtype == dns.rdatatype.DNAME and here.is_subdomain(owner) and here != owner:
                try:
                    found.add(here.relativize(owner).concatenate(one[0].target).canonicalize())
                except dns.exception.DNSException:
                    continue
    return found


def _ttl(ttl_s: int) -> int:
    """As dnspython reads it (RFC 2181 §8); what ours learns of it is another thing (RFC 8767 §4)."""
    return ttl_s if ttl_s <= 0x7FFF_FFFF else 0


def is_answer(packet: bytes) -> bool:
    """Whether it says so."""
    return len(packet) > _FLAGS and bool(packet[_FLAGS] & 0x80)
