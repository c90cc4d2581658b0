"""Queries and the answers to them.

An answer belongs to the last query without one that has its ends, its ID and its question; what belongs to
none is shown by itself, since a late or forged answer is what people look for. A query for what the same
client has asked before, in vain so far, is a retransmission: at once where all of it is the same, else when
so much later as a client waits, since programs of one pod may ask for one name at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from acns.dns import message as dns
from acns.dns import name as names
from acns.dns import types, wire
from acns.dns.message import MalformedDNS
from lab.repro.reading.evidence import Address, Endpoint, Message

_PATIENCE_NS: Final = 60_000_000_000
"""An answer that comes later than this answers nobody."""
_RETRY_NS: Final = 500_000_000
"""No stub resolver asks again sooner: glibc's shortest time-out is a second."""
_RCODES: Final = {0: "no error", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class Read:
    """What a message says. `name` as it is printed, in lower case; "" where it cannot be read."""

    is_answer: bool
    id: int
    name: str
    type: str
    rcode: int = 0
    is_cut: bool = False
    """TC: there is more over TCP."""
    addresses: tuple[IPv4Address, ...] = ()
    ttl_s: int = 0
    records: int = 0

    @property
    def rcode_name(self) -> str:
        return _RCODES.get(self.rcode, f"RCODE {self.rcode}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A query with its answer, or one of them. `again`: it was asked before, in vain."""

    client: Address
    query: Message | None
    answer: Message | None
    asked: Read | None
    answered: Read | None
    again: bool = False

    @property
    def at_ns(self) -> int:
        return (self.query or self.either).at_ns

    @property
    def either(self) -> Message:
        found = self.query or self.answer
        assert found is not None
        return found


class _Key(NamedTuple):
    transport: str
    client: Endpoint
    server: Endpoint
    id: int
    name: str
    type: str


def read(message: Message) -> Read | None:
    """None for what is no DNS message; as much as there is of one that was cut off."""
    packet = message.payload
    try:
        header = wire.read_header(packet)
    except MalformedDNS:
        return None
    try:
        question = wire.read_question(packet, header)
        name, qtype = names.to_text(question.name), types.text(question.qtype)
    except MalformedDNS:
        name, qtype = "", ""
    found = Read(header.is_response, header.id, name, qtype, header.rcode, bool(header.flags & wire.TC))
    return _with_answer(found, packet, header.answers) if header.is_response and name else found


def _with_answer(found: Read, packet: bytes, records: int) -> Read:
    try:
        learned = dns.learnable(dns.read_answer(packet))
    except MalformedDNS:
        learned = dns.Learned((), 0)
    addresses = tuple(IPv4Address(one) for one in learned.addresses)
    return Read(
        True, found.id, found.name, found.type, found.rcode, found.is_cut, addresses, learned.ttl_s, records
    )


def exchanges(messages: Iterable[Message]) -> list[Exchange]:
    """In the order of their times."""
    return sorted(_paired(messages), key=lambda one: one.at_ns)


def _paired(messages: Iterable[Message]) -> Iterator[Exchange]:
    waiting: dict[_Key, list[tuple[Message, Read]]] = defaultdict(list)
    asked_at: dict[tuple[Address, str, str], int] = {}
    again: set[int] = set()
    for message in messages:
        found = read(message)
        if found is None:
            yield Exchange(message.source.address, message, None, None, None)
        elif not found.is_answer:
            what = (message.source.address, found.name, found.type)
            waits_ns = message.at_ns - asked_at.setdefault(what, message.at_ns)
            same = waiting[_key(message, found)]
            if same or _RETRY_NS <= waits_ns < _PATIENCE_NS:
                again.add(id(message))
            if waits_ns >= _PATIENCE_NS:
                asked_at[what] = message.at_ns
            same.append((message, found))
        elif pending := waiting.get(_key(message, found)):
            query, asked = pending.pop()
            asked_at.pop((query.source.address, asked.name, asked.type), None)
            yield Exchange(query.source.address, query, message, asked, found, id(query) in again)
        else:
            yield Exchange(message.destination.address, None, message, None, found)
    for left in waiting.values():
        for query, asked in left:
            yield Exchange(query.source.address, query, None, asked, None, id(query) in again)


def _key(message: Message, found: Read) -> _Key:
    client, server = message.source, message.destination
    if found.is_answer:
        client, server = server, client
    return _Key(message.transport, client, server, found.id, found.name, found.type)
