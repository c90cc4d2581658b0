"""Records as a line of text, `NAME TTL TYPE DATA`, and as octets; pure.

What a scenario says of an answer has to be read by people and sent octet for octet. Types whose data is an
address or a name have a form of their own; all others are `\\# HEX` (RFC 3597 section 5, without the length).
Names are compressed as servers do it: each against all that stands before, in the case it is written in.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from acns.dns import name as names
from acns.dns import types
from acns.dns.name import MalformedDNS
from lab.repro.reading import remembered

Labels = tuple[bytes, ...]

_TYPES: Final = types.NUMBERS
_COMPRESSED: Final = (_TYPES["NS"], _TYPES["CNAME"], _TYPES["PTR"])
_PLAIN_NAME: Final = (_TYPES["DNAME"],)
_PIECE: Final = re.compile(rb"\\([0-9]{3})|\\([^0-9])|([^\\.])|(\.)", re.DOTALL)
_TAIL: Final = struct.Struct("!HHIH")
_IN: Final = 1
_IPV4_HINT: Final = 4
_HINTING: Final = (_TYPES["SVCB"], _TYPES["HTTPS"])
_MAX_POINTER: Final = 0x3FFF


@dataclass(frozen=True, slots=True)
class Record:
    """`rclass` is the UDP size where it is an OPT."""

    owner: Labels
    type: int
    rclass: int
    ttl_s: int
    data: bytes | Labels
    """A name, of types that have one."""


@remembered.short
def labels_of(text: str) -> Labels:
    """The labels of a name as written, case kept. Raises ValueError."""
    names.from_text(text)  # what is wrong with it is said there
    if text == ".":
        return ()
    labels: list[bytes] = []
    label = bytearray()
    for piece in _PIECE.finditer(text.encode("ascii")):
        if piece[4]:
            labels.append(bytes(label))
            label.clear()
        else:
            label.append(int(piece[1]) if piece[1] else ord(piece[2] or piece[3]))
    return (*labels, bytes(label)) if label else tuple(labels)


def name_text(labels: Sequence[bytes]) -> str:
    """Without the dot at its end, but for the root."""
    return names.to_text(tuple(labels)).removesuffix(".") or "."


@remembered.short
def parse(line: str) -> Record:
    """Raises ValueError."""
    words = line.split(" ", 3)
    if len(words) < 3 or not words[1].isdecimal():
        raise ValueError(f"'{line}' is no record: NAME TTL TYPE DATA")
    owner, ttl, kind, *rest = words
    number, data = types.number(kind), rest[0].strip() if rest else ""
    if int(ttl) > 0xFFFFFFFF:
        raise ValueError(f"{ttl} is no TTL")
    rclass = _IN
    if number == _TYPES["OPT"]:
        size, _, data = data.partition(" ")
        rclass = int(size)
    return Record(labels_of(owner), number, rclass, int(ttl), _data(number, data))


def text(record: Record) -> str:
    """The inverse of `parse`. Raises ValueError for what has no text here."""
    if record.type == _TYPES["OPT"]:
        shown = f"{record.rclass} {_data_text(record)}"
    elif record.rclass == _IN:
        shown = _data_text(record)
    else:
        raise ValueError(f"class {record.rclass}")
    return f"{name_text(record.owner)} {record.ttl_s} {types.text(record.type)} {shown}".rstrip()


class Writer:
    """Octets of a message, names compressed against what is there."""

    def __init__(self, header: bytes) -> None:
        self.octets = bytearray(header)
        self._known: dict[Labels, int] = {}

    def question(self, labels: Labels, tail: bytes) -> None:
        self._name(labels)
        self.octets += tail

    def record(self, record: Record) -> None:
        self._name(record.owner)
        at = len(self.octets) + _TAIL.size
        self.octets += _TAIL.pack(record.type, record.rclass, record.ttl_s, 0)
        if isinstance(record.data, bytes):
            self.octets += record.data
        elif record.type in _COMPRESSED:
            self._name(record.data)
        else:
            self.octets += names.to_wire(record.data)
        struct.pack_into("!H", self.octets, at - 2, len(self.octets) - at)

    def _name(self, labels: Labels) -> None:
        for begin in range(len(labels)):
            if (place := self._known.get(labels[begin:])) is not None:
                self.octets += struct.pack("!H", 0xC000 | place)
                return
            if len(self.octets) <= _MAX_POINTER:
                self._known[labels[begin:]] = len(self.octets)
            self.octets += bytes((len(labels[begin]),)) + labels[begin]
        self.octets.append(0)


def read(packet: bytes, offset: int, count: int) -> tuple[list[Record], int]:
    """So many records from `offset`, and the offset behind them. Raises MalformedDNS."""
    found = []
    for _ in range(count):
        owner, offset = names.read_labels(packet, offset)
        if offset + _TAIL.size > len(packet):
            raise MalformedDNS("a record runs past the end")
        kind, rclass, ttl_s, length = _TAIL.unpack_from(packet, offset)
        offset += _TAIL.size
        if offset + length > len(packet):
            raise MalformedDNS("a record runs past the end")
        found.append(Record(tuple(owner), kind, rclass, ttl_s, _read_data(packet, kind, offset, length)))
        offset += length
    return found, offset


def _read_data(packet: bytes, kind: int, offset: int, length: int) -> bytes | Labels:
    if kind in (*_COMPRESSED, *_PLAIN_NAME):
        labels, end = names.read_labels(packet, offset)
        if end == offset + length:
            return tuple(labels)
    return packet[offset : offset + length]


def addresses(found: Sequence[Record]) -> Iterator[str]:
    """Of the A records."""
    for record in found:
        if record.type == _TYPES["A"] and isinstance(record.data, bytes) and len(record.data) == 4:
            yield socket.inet_ntoa(record.data)


def hints(found: Sequence[Record]) -> Iterator[str]:
    """The addresses that HTTPS and SVCB records hint at (ipv4hint: RFC 9460 section 7.3)."""
    for record in found:
        if record.type in _HINTING and isinstance(record.data, bytes):
            with contextlib.suppress(MalformedDNS, struct.error):
                _, place = names.read_labels(record.data, 2)
                yield from _ipv4_hints(record.data, place)


def _ipv4_hints(data: bytes, place: int) -> Iterator[str]:
    while place + 4 <= len(data):
        key, length = struct.unpack_from("!HH", data, place)
        value = data[place + 4 : place + 4 + length]
        if key == _IPV4_HINT:
            yield from (socket.inet_ntoa(value[at : at + 4]) for at in range(0, len(value) - 3, 4))
        place += 4 + length


def _data(number: int, data: str) -> bytes | Labels:
    if data.startswith("\\#"):
        return bytes.fromhex(data[2:])
    if number == _TYPES["A"]:
        return _packed(socket.AF_INET, data)
    if number == _TYPES["AAAA"]:
        return _packed(socket.AF_INET6, data)
    if number in (*_COMPRESSED, *_PLAIN_NAME):
        return labels_of(data)
    if not data:
        return b""
    raise ValueError(f"data of type {types.text(number)} is written as \\# HEX, not '{data}'")


def _packed(family: int, data: str) -> bytes:
    try:
        return socket.inet_pton(family, data)
    except OSError:
        raise ValueError(f"'{data}' is no address") from None


def _data_text(record: Record) -> str:
    if not isinstance(record.data, bytes):
        return name_text(record.data)
    if record.type == _TYPES["A"] and len(record.data) == 4:
        return socket.inet_ntoa(record.data)
    if record.type == _TYPES["AAAA"] and len(record.data) == 16:
        return socket.inet_ntop(socket.AF_INET6, record.data)
    return f"\\# {record.data.hex()}" if record.data else ""
