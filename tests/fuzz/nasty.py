"""Large messages made to cost as much as can be: the worst we know of each kind, of up to 65,535 octets."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

from acns.dns import wire

_QUESTION = b"\1x\0\0\1\0\1"
_ROOM = 65_500


def _answer(records: bytes, count: int, flags: int = 0x8180) -> bytes:
    return struct.pack("!6H", 7, flags, 1, count, 0, 0) + _QUESTION + records


def _filled(record: Callable[[int], bytes], behind: bytes = b"", already: int = 0) -> bytes:
    """As many records as there is room for; `record` is told its number."""
    records, count = bytearray(behind), already
    while len(records) + len(one := record(count)) <= _ROOM:
        records += one
        count += 1
    return _answer(bytes(records), count)


def _query(record: bytes) -> bytes:
    """One with as many such records as there is room for."""
    count = _ROOM // len(record)
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, count) + _QUESTION + record * count


def _pointer(offset: int) -> bytes:
    return struct.pack("!H", 0xC000 | offset)


def _record(owner: bytes, kind: int, rdata: bytes) -> bytes:
    return owner + wire.record_tail(kind, wire.CLASS_IN, 60, rdata)


_START = 12 + len(_QUESTION)
_HOPS = 120
_MINFO = 14


def long_ways() -> bytes:
    """Thousands of owners, each with an entry of its own into one long chain of pointers."""
    first = _START + 11  # rdata of the first record
    chain = b"\1a\0" + b"".join(
        b"\1a" + _pointer(first + (3 + 4 * (hop - 1) if hop else 0)) for hop in range(_HOPS)
    )
    last = first + 3 + 4 * (_HOPS - 1)
    entries = _pointer(last) * 3_000
    head = _record(b"\0", 16, chain + entries)
    places = first + len(chain)
    return _filled(lambda number: _record(_pointer(places + 2 * (number % 3_000)), 1, bytes(4)), head, 1)


def long_names() -> bytes:
    """Thousands of owners and targets that are the longest name there is, by pointer."""
    longest = b"\1a" * 126 + b"\0"
    head = _record(b"\0", 16, longest)
    place = _pointer(_START + 11)
    return _filled(lambda number: _record(place, wire.TYPE_CNAME, place), head, 1)


_LONGEST = (b"\1a" * 126 + b"\0") * 64


def _entry(number: int, start: int) -> bytes:
    """A pointer to one of all the labels of `_LONGEST`, those that most come behind first."""
    label, name = divmod(number % (126 * 64), 64)
    return _pointer(start + 253 * name + 2 * label)


def entries() -> bytes:
    """Thousands of owners, each the end of one of the longest names, from another label on."""
    head = _record(b"\0", 10, _LONGEST)
    return _filled(lambda number: _record(_entry(number, _START + 11), 1, bytes(4)), head, 1)


def ipv6_and_entries() -> bytes:
    """The same thrice in each record, and all is written anew."""
    head = _record(_pointer(12), wire.TYPE_AAAA, bytes(16)) + _record(b"\0", 10, _LONGEST)
    start = _START + 2 + 10 + 16 + 11

    def three(number: int) -> bytes:
        owner, first, second = (_entry(3 * number + each, start) for each in range(3))
        return _record(owner, _MINFO, first + second)

    return _filled(three, head, 2)


def dnames() -> bytes:
    """Thousands of DNAMEs, all of them above every name, which grows with each."""
    return _filled(lambda number: _record(b"\0", wire.TYPE_DNAME, b"\1a\0"))


def few_dnames() -> bytes:
    """As many DNAMEs as are looked at, between thousands of other records."""
    head = b"".join(_record(b"\0", wire.TYPE_DNAME, bytes((1, 97 + number)) + b"\0") for number in range(16))
    return _filled(lambda number: _record(_pointer(12), 1, number.to_bytes(4)), head, 16)


def dnames_of_all_ancestors() -> bytes:
    """Thousands of DNAMEs, of all that is above a long name, which has as many aliases as are followed."""
    labels = 126
    question = b"".join(bytes((1, 33 + number % 64)) for number in range(labels)) + b"\0\0\1\0\1"
    siblings = [_pointer(12), *(bytes((1, 100 + number)) + _pointer(14) for number in range(62))]
    records = [_record(one, wire.TYPE_CNAME, other) for one, other in pairwise(siblings)]
    for number in range(4_500):
        records.append(_record(_pointer(14 + 2 * (number % (labels - 1))), wire.TYPE_DNAME, _pointer(12)))
    return struct.pack("!6H", 7, 0x8180, 1, len(records), 0, 0) + question + b"".join(records)


def aliases() -> bytes:
    """Thousands of aliases of the question."""
    return _filled(lambda number: _record(_pointer(12), 5, b"\4" + number.to_bytes(4) + b"\0"))


def chain() -> bytes:
    """One long chain of aliases."""

    def link(number: int) -> bytes:
        owner = _pointer(12) if number == 0 else b"\2" + number.to_bytes(2) + b"\0"
        return _record(owner, 5, b"\2" + (number + 1).to_bytes(2) + b"\0")

    return _filled(link)


def addresses() -> bytes:
    """Thousands of addresses of one name."""
    return _filled(lambda number: _record(_pointer(12), 1, number.to_bytes(4)))


def ipv6_and_names() -> bytes:
    """One AAAA record, so that all is written anew, and thousands of names to compress behind it."""
    head = _record(_pointer(12), wire.TYPE_AAAA, bytes(16))

    def pair(number: int) -> bytes:
        label = b"\2" + number.to_bytes(2)
        return _record(
            label + b"\1b" * 20 + b"\0", wire.TYPE_SOA, label + b"\0" + b"\1c" * 20 + b"\0" + bytes(20)
        )

    return _filled(pair, head, 1)


def ipv6_and_long_names() -> bytes:
    """The same with names that grow beyond what a message holds once they are written out."""
    head = _record(_pointer(12), wire.TYPE_AAAA, bytes(16)) + _record(b"\0", 16, b"\1a" * 126 + b"\0")
    place = _pointer(_START + 2 + 10 + 16 + 11)
    return _filled(lambda number: _record(place, wire.TYPE_SRV, bytes(6) + place), head, 2)


def options() -> bytes:
    """A query whose OPT record is thousands of empty options."""
    rdata = b"\xfd\xe9\0\0" * 16_000
    head = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1) + _QUESTION
    return head + b"\0" + wire.record_tail(wire.TYPE_OPT, 1232, 0, rdata)


def roots() -> bytes:
    """As many records as fit: each of the root, of no data."""
    return _filled(lambda number: _record(b"\0", 65_280, b""))


def lies() -> bytes:
    """Counts of 65,535 each, and nothing there."""
    return struct.pack("!6H", 7, 0x8180, 1, 0xFFFF, 0xFFFF, 0xFFFF) + _QUESTION


def zeros() -> bytes:
    return struct.pack("!6H", 7, 0x8180, 1, 0xFFFF, 0, 0) + bytes(_ROOM)


def labels() -> bytes:
    """One name that never ends."""
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\1a" * 32_000


MESSAGES: dict[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (
        long_ways,
        long_names,
        entries,
        ipv6_and_entries,
        dnames,
        few_dnames,
        dnames_of_all_ancestors,
        aliases,
        chain,
        addresses,
        ipv6_and_names,
        ipv6_and_long_names,
        options,
        roots,
        lies,
        zeros,
        labels,
    )
}


def records_of_query() -> bytes:
    """Thousands of records that no query has."""
    return _query(_record(b"\0", 1, b""))


def options_of_query() -> bytes:
    """Thousands of options, all of them empty."""
    return _query(_record(b"\0", wire.TYPE_OPT, bytes(_ROOM - 500)))


QUERIES: dict[str, Callable[[], bytes]] = {
    made.__name__: made for made in (records_of_query, options_of_query)
}
