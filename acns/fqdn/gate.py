"""The DNS gate: what becomes of a query, and of the answer to it.

The resolver's loop reads packets, asks here, and does what the verdict says; nothing here waits or sends.

What this module keeps true:
* A query is forwarded only when a rule of its sender names the server, port, protocol and name. The checks
  stand in one order, and each ends in silence, in a reply of our own, or in the next.
* An answer is delivered only to the very question that was asked (bytes, 0x20 case and all); whether it came
  from the right server under the right ID is for the socket's owner to see to, who rewrites IDs.
* What an answer teaches is delivered together with it, so that the caller can commit first and send then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from acns.dns import message
from acns.dns.message import Answer, Header, Learned, MalformedDNS, Query
from acns.fqdn.addresses import is_learnable_address
from acns.fqdn.table import (
    WORLD_IDENTITY,
    DNSRule,
    DNSServer,
    EndpointAddress,
    IdentityPrefix,
    NameRules,
    PolicyTable,
)

__all__ = [
    "WORLD_IDENTITY",
    "AAAAMode",
    "DNSRule",
    "DNSServer",
    "Deliver",
    "DeniedCode",
    "Drop",
    "EndpointAddress",
    "Forward",
    "GateSettings",
    "IdentityPrefix",
    "Ignore",
    "NameRules",
    "PolicyTable",
    "Query",
    "Reason",
    "Reply",
    "Server",
    "Unusable",
    "Verdict",
    "denied",
    "is_learnable_address",
    "judge_answer",
    "judge_query",
    "read_query",
    "stranger",
]


_IPV6 = (message.TYPE_AAAA, message.TYPE_RRSIG)
_TRANSFERS = (message.TYPE_AXFR, message.TYPE_IXFR)
_COUNTS_AT = 4  # of a header, to its end
_BARE_ERRORS = (
    message.RCODE_FORMERR,
    message.RCODE_SERVFAIL,
    message.RCODE_NOTIMP,
    message.RCODE_REFUSED,
)
_LARGE_OCTETS = 2048
"""To read more than this may take milliseconds."""
_BARE_EDNS_ERRORS = (message.RCODE_BADVERS, message.RCODE_BADCOOKIE)


class DeniedCode(StrEnum):
    """What a denied name is answered with."""

    REFUSED = "refused"
    NXDOMAIN = "nxdomain"

    @property
    def rcode(self) -> int:
        return message.RCODE_NXDOMAIN if self is DeniedCode.NXDOMAIN else message.RCODE_REFUSED


class AAAAMode(StrEnum):
    """What becomes of IPv6 addresses in answers."""

    NODATA = "nodata"
    PASSTHROUGH = "passthrough"


class Reason(StrEnum):
    """Why a packet did not simply go on: the vocabulary of metrics and journal."""

    MALFORMED = "malformed"
    NOT_A_QUERY = "not-a-query"
    OPCODE = "opcode"
    NOT_ONE_QUESTION = "not-one-question"
    CLASS = "class"
    ZONE_TRANSFER = "zone-transfer"
    UNKNOWN_SOURCE = "unknown-source"
    DENIED = "denied"
    NOT_AN_ANSWER = "not-an-answer"
    OTHER_QUESTION = "other-question"
    CHAIN_TOO_LONG = "chain-too-long"


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How the gate treats what policy leaves open."""

    denied: DeniedCode = DeniedCode.REFUSED
    """NXDOMAIN where pods use musl, whose resolver gives up its search list on REFUSED."""
    aaaa: AAAAMode = AAAAMode.NODATA
    """NODATA keeps dual-stack clients from waiting for IPv6; PASSTHROUGH is what Cilium's proxy does."""


@dataclass(frozen=True, slots=True)
class Server:
    """The DNS server a pod asked: IPv4 address (four octets), port, IANA protocol number."""

    address: bytes
    port: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Drop:
    """No reply: to answer this would be to answer something that is no question."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of our own; the query goes nowhere."""

    packet: bytes
    reason: Reason


@dataclass(frozen=True, slots=True)
class Forward:
    """On to the server that the pod chose."""

    query: Query
    endpoint_id: int


Verdict = Drop | Reply | Forward


@dataclass(frozen=True, slots=True)
class Ignore:
    """Not the answer: go on waiting for it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unusable:
    """The answer to this question, but nobody can say what it teaches: SERVFAIL. To wait for another would be
    to read what is costly to read as often as its sender likes."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Deliver:
    """For the pod, under the ID that the server's answer has; to be sent once `learned` is committed."""

    packet: bytes
    learned: Learned | None
    rcode: int = message.RCODE_NOERROR
    """With the bits that an OPT record adds to the header's."""


def judge_query(
    table: PolicyTable, source_ip: bytes, server: Server, packet: bytes, settings: GateSettings
) -> Verdict:
    """What becomes of a packet that a pod sent to a DNS server."""
    query = read_query(packet, server.protocol)
    if not isinstance(query, Query):
        return query
    endpoint_id = table.endpoint_of(source_ip)
    if endpoint_id is None:
        return stranger(packet)
    if not table.names_for(endpoint_id, server.address, server.port, server.protocol).allow(query.name):
        return denied(packet, settings)
    return Forward(query, endpoint_id)


def read_query(packet: bytes, protocol: int) -> Query | Drop | Reply:
    """The query, or what becomes of a packet that is none, whoever sent it. The ID has no part in it."""
    try:
        header = message.read_header(packet)
    except MalformedDNS:
        return Drop(Reason.MALFORMED)
    if header.is_response:
        return Drop(Reason.NOT_A_QUERY)  # a reply to it could make two resolvers talk for ever
    flaw = _flaw(header)
    if flaw:
        return _reply(packet, *flaw)
    try:
        query = message.read_query(packet, protocol)
    except MalformedDNS:
        return _reply(packet, message.RCODE_FORMERR, Reason.MALFORMED)
    if query.qclass != message.CLASS_IN:
        return _reply(packet, message.RCODE_REFUSED, Reason.CLASS)
    if query.qtype in _TRANSFERS:
        # All names of a zone, denied ones too, and many messages for one question (RFC 5936 §2.2).
        return _reply(packet, message.RCODE_REFUSED, Reason.ZONE_TRANSFER)
    return query


def stranger(packet: bytes) -> Reply:
    """For a query from an address that is no endpoint's."""
    return _reply(packet, message.RCODE_SERVFAIL, Reason.UNKNOWN_SOURCE)


def denied(packet: bytes, settings: GateSettings) -> Reply:
    """For a query that no rule of its endpoint allows."""
    return _reply(packet, settings.denied.rcode, Reason.DENIED)


def judge_answer(query: Query, packet: bytes, settings: GateSettings) -> Ignore | Unusable | Deliver:
    """What becomes of a packet that the asked server sent."""
    try:
        header = message.read_header(packet)
        if not header.is_response or header.opcode != query.opcode:
            return Ignore(Reason.NOT_AN_ANSWER)
        if _is_bare_error(header):
            bare = packet[:_COUNTS_AT] + bytes(message.HEADER_OCTETS - _COUNTS_AT)
            return Deliver(bare, None, header.rcode)
        if (rcode := _bare_edns_error(packet, header)) and len(packet) <= query.size_limit:
            return Deliver(packet, None, rcode)
        if header.questions != 1 or not packet.startswith(query.question_wire, message.HEADER_OCTETS):
            return Ignore(Reason.OTHER_QUESTION)
    except MalformedDNS:
        return Ignore(Reason.MALFORMED)
    try:
        return _delivery(query, packet, header, settings)
    except message.ChainTooLong:
        return Unusable(Reason.CHAIN_TOO_LONG)
    except MalformedDNS:
        return (Unusable if len(packet) > _LARGE_OCTETS else Ignore)(Reason.MALFORMED)


def _is_bare_error(header: Header) -> bool:
    """Whether a server says that it could not read the question, and repeats none: some without EDNS do
    (RFC 6891 §7), some with it, in an OPT record that is all there is (§6.1.1). It opens nothing, its pod
    asks otherwise, and it must come from the right place, as any."""
    counts = header.questions, header.answers, header.authorities
    return counts == (0, 0, 0) and header.additionals <= 1 and header.flags & 0xF in _BARE_ERRORS


def _bare_edns_error(packet: bytes, header: Header) -> int | None:
    """The same for a server that does not take the query's EDNS or cookie: its code, most of which is in the
    OPT record. So is the cookie to come with, which has to go on to the pod."""
    counts = header.questions, header.answers, header.authorities, header.additionals
    rcode = message.bare_rcode(packet) if counts == (0, 0, 0, 1) else None
    return rcode if rcode in _BARE_EDNS_ERRORS else None


def _flaw(header: Header) -> tuple[int, Reason] | None:
    """What the header alone shows."""
    if header.opcode != message.OPCODE_QUERY:
        # Not REFUSED: that would say that policy forbids what is not implemented here for anybody.
        return message.RCODE_NOTIMP, Reason.OPCODE
    if header.questions != 1:
        return message.RCODE_FORMERR, Reason.NOT_ONE_QUESTION  # RFC 9619
    return None


def _reply(packet: bytes, rcode: int, reason: Reason) -> Reply:
    return Reply(message.reply_with_rcode(packet, rcode), reason)


def _delivery(query: Query, packet: bytes, header: Header, settings: GateSettings) -> Deliver:
    try:
        answer = message.read_answer(packet)
    except MalformedDNS:
        if not header.flags & message.TC:
            raise
        return Deliver(
            message.truncated(packet), None, header.rcode
        )  # cut off inside a record, as some servers do
    if query.signature and answer.signature:
        # Without what was taken out the signature is wrong, and the pod throws all away (RFC 8945 §5.3).
        return Deliver(packet, _learned(answer), answer.rcode)
    fit = _fitted(query, answer, settings)
    # What the pod is not given it has to ask for again, and it is learned then.
    return Deliver(fit or message.truncated(packet), _learned(answer) if fit else None, answer.rcode)


def _filtered(answer: Answer, settings: GateSettings) -> bytes:
    """The packet as policy lets it pass. AAAA records go whatever was asked: ANY brings them too."""
    if settings.aaaa is AAAAMode.PASSTHROUGH or not any(one.type in _IPV6 for one in answer.records):
        return answer.packet
    return message.without_aaaa(answer.packet)


def _fitted(query: Query, answer: Answer, settings: GateSettings) -> bytes | None:
    try:
        packet = _filtered(answer, settings)
    except message.TooLong:
        return None
    return packet if len(packet) <= query.size_limit else None


def _learned(answer: Answer) -> Learned | None:
    found = message.learnable(answer)
    addresses = tuple([address for address in found.addresses if is_learnable_address(address)])
    return Learned(addresses, found.ttl_s) if addresses else None
