"""DNS messages by the thousand: whole ones of every shape, and ones with something wrong.

A message is made from a `random.Random`, so a seed is a test case. Most of the wrong ones are right but for
one to three places: bytes at random are refused at the first octets and try nothing behind them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Rdata = Callable[["Writer", random.Random], None]

CORPUS = Path(__file__).with_name("corpus.txt")
"""Messages in hex, one a line, each of which took a way of its own through the readers when it was found."""

QR, AA, TC = 0x8000, 0x0400, 0x0200
OPT, TSIG, SIG = 41, 250, 24
_LABELS = (b"www", b"WwW", b"example", b"com", b"a", b"a.b", b"x" * 63, b"\0", b"\xc0\x0c", b"_tcp", b"*")
_QTYPES = (1, 1, 1, 28, 5, 15, 16, 33, 35, 65, 250, 251, 252, 255, 65_280)
_MAX_OCTETS = 65_535


class Writer:
    """A message under construction; names are compressed most of the time, where an earlier one allows it."""

    def __init__(self, chance: random.Random, header: bytes) -> None:
        self.out = bytearray(header)
        self._chance = chance
        self._places: dict[tuple[bytes, ...], int] = {}

    def name(self, labels: Sequence[bytes], *, compress: bool = True) -> None:
        for index in range(len(labels)):
            rest = tuple(labels[index:])
            place = self._places.get(rest)
            if compress and place is not None and self._chance.random() < 0.8:
                self.out += struct.pack("!H", 0xC000 | place)
                return
            if len(self.out) < 0x4000:
                self._places[rest] = len(self.out)
            self.out += bytes((len(labels[index]),)) + labels[index]
        self.out.append(0)

    def record(self, owner: Sequence[bytes], kind: int, rclass: int, ttl: int, rdata: Rdata) -> None:
        self.name(owner)
        self.out += struct.pack("!HHIH", kind, rclass, ttl, 0)
        start = len(self.out)
        rdata(self, self._chance)
        struct.pack_into("!H", self.out, start - 2, len(self.out) - start)


def names(chance: random.Random) -> list[list[bytes]]:
    """A few names with ends in common, as the records of one message have them."""
    known = [[chance.choice(_LABELS) for _ in range(chance.randint(1, 3))]]
    for _ in range(chance.randint(1, 5)):
        end = chance.choice(known)
        known.append([chance.choice(_LABELS), *end[chance.randrange(len(end)) :]])
    return [[], *known] if chance.random() < 0.2 else known


def query(chance: random.Random) -> bytes:
    """A whole query, now and then with more than a question in it."""
    known = names(chance)
    writer = Writer(chance, bytes(12))
    _question(writer, chance, known)
    extra = chance.random()
    counts = [1, 0, 0, 0]
    if extra < 0.1:
        counts[chance.choice((1, 2))] = 1
        _ordinary(writer, chance, known)
    counts[3] = _additional(writer, chance, known, opt=extra < 0.6)
    return _headed(writer, chance, chance.choice((0x0100, 0x0100, 0x0120, 0)), counts)


def answer(chance: random.Random) -> bytes:
    """A whole answer, with records on and off the way that starts at its question."""
    known = names(chance)
    writer = Writer(chance, bytes(12))
    _question(writer, chance, known)
    answers, authorities = chance.randrange(7), chance.choice((0, 0, 1, 2))
    for _ in range(answers + authorities):
        _ordinary(writer, chance, known)
    additionals = _additional(writer, chance, known, opt=chance.random() < 0.6)
    flags = QR | chance.choice((0x0100, 0x0580, 0x0180)) | chance.choice((0, 0, 0, 0, TC, 2, 3))
    return _headed(writer, chance, flags, [1, answers, authorities, additionals])


def mutated(packet: bytes, chance: random.Random, most: int = 6) -> bytes:
    """The packet with a few things wrong: octets, counts, pointers, length."""
    wrong = bytearray(packet)
    for _ in range(chance.randint(1, most)):
        if not wrong:
            break
        _damage(wrong, chance)
    return bytes(wrong[:_MAX_OCTETS])


def inputs(chance: random.Random, corpus: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Messages without end: whole, damaged, and pieces of two put together."""
    while True:
        base = chance.choice(corpus) if corpus and chance.random() < 0.3 else None
        whole = base if base is not None else chance.choice((query, answer))(chance)
        kind = chance.random()
        if kind < 0.4:
            yield whole
        elif kind < 0.9:
            yield mutated(whole, chance, 3)
        elif kind < 0.95:
            other = answer(chance)
            yield whole[: chance.randrange(len(whole) + 1)] + other[chance.randrange(len(other)) :]
        else:
            yield chance.randbytes(chance.randrange(60))


def corpus() -> list[bytes]:
    return [bytes.fromhex(line) for line in CORPUS.read_text().split()]


# --- parts of messages ------------------------------------------------------------------------------------


def _headed(writer: Writer, chance: random.Random, flags: int, counts: Sequence[int]) -> bytes:
    struct.pack_into("!6H", writer.out, 0, chance.getrandbits(16), flags, *counts)
    return bytes(writer.out)


def _question(writer: Writer, chance: random.Random, known: Sequence[Sequence[bytes]]) -> None:
    writer.name(chance.choice(known))
    writer.out += struct.pack("!HH", chance.choice(_QTYPES), 1 if chance.random() < 0.95 else 3)


def _ordinary(writer: Writer, chance: random.Random, known: Sequence[Sequence[bytes]]) -> None:
    """A record of a type that stands in answers and authority."""
    kind = chance.choice(tuple(_RDATA))
    rclass = 1 if chance.random() < 0.95 else chance.choice((3, 255))
    ttl = chance.choice((0, 5, 60, 0x7FFF_FFFF, 0x8000_0000))
    writer.record(chance.choice(known), kind, rclass, ttl, _RDATA[kind](known))


def _additional(writer: Writer, chance: random.Random, known: Sequence[Sequence[bytes]], *, opt: bool) -> int:
    """Glue, OPT, a signature over all: how many records."""
    count = 0
    if chance.random() < 0.2:
        _ordinary(writer, chance, known)
        count += 1
    if opt:
        writer.record((), OPT, chance.choice((0, 512, 1232, 65_535)), chance.choice((0, 0x8000)), _options)
        count += 1
    if chance.random() < 0.1:
        kind = chance.choice((TSIG, SIG))
        writer.record(chance.choice(known), kind, 255, 0, _tsig if kind == TSIG else _sig0)
        count += 1
    return count


def _fixed(length: int) -> Callable[[Sequence[Sequence[bytes]]], Rdata]:
    return lambda known: lambda writer, chance: writer.out.extend(chance.randbytes(length))


def _named(before: int = 0, count: int = 1, behind: int = 0) -> Callable[[Sequence[Sequence[bytes]]], Rdata]:
    """Rdata of octets, names and octets."""

    def made(known: Sequence[Sequence[bytes]]) -> Rdata:
        def write(writer: Writer, chance: random.Random) -> None:
            writer.out += bytes(before)
            for _ in range(count):
                writer.name(chance.choice(known))
            writer.out += chance.randbytes(behind)

        return write

    return made


def _text(known: Sequence[Sequence[bytes]]) -> Rdata:
    def write(writer: Writer, chance: random.Random) -> None:
        for _ in range(chance.randint(1, 3)):
            text = chance.randbytes(chance.randrange(20))
            writer.out += bytes((len(text),)) + text

    return write


def _naptr(known: Sequence[Sequence[bytes]]) -> Rdata:
    def write(writer: Writer, chance: random.Random) -> None:
        writer.out += bytes(4) + b"\1u\7sip+E2U\5!x!y!"
        writer.name(chance.choice(known), compress=False)

    return write


def _https(known: Sequence[Sequence[bytes]]) -> Rdata:
    def write(writer: Writer, chance: random.Random) -> None:
        writer.out += b"\0\1"
        writer.name(chance.choice(known), compress=False)
        writer.out += b"\0\1\0\3\2h2\0\4\0\4" + chance.randbytes(4)

    return write


def _rrsig(known: Sequence[Sequence[bytes]]) -> Rdata:
    def write(writer: Writer, chance: random.Random) -> None:
        writer.out += struct.pack("!HBBIIIH", chance.choice((1, 28)), 8, 2, 60, 2_000_000_000, 1, 1)
        writer.name(chance.choice(known), compress=False)
        writer.out += chance.randbytes(16)

    return write


def _options(writer: Writer, chance: random.Random) -> None:
    for code in chance.sample((10, 12, 65_001), chance.randrange(3)):  # cookie, padding, anybody's
        writer.out += struct.pack("!HH", code, 8) + chance.randbytes(8)


def _tsig(writer: Writer, chance: random.Random) -> None:
    writer.name((b"hmac-sha256",), compress=False)
    writer.out += struct.pack("!HIHH", 0, 1_700_000_000, 300, 32) + chance.randbytes(32)
    writer.out += struct.pack("!HHH", chance.getrandbits(16), 0, 0)


def _sig0(writer: Writer, chance: random.Random) -> None:
    writer.out += bytes(17) + b"\1"
    writer.name((b"key",), compress=False)
    writer.out += chance.randbytes(16)


_RDATA: dict[int, Callable[[Sequence[Sequence[bytes]]], Rdata]] = {
    1: _fixed(4),
    2: _named(),
    5: _named(),
    6: _named(count=2, behind=20),
    12: _named(),
    15: _named(before=2),
    16: _text,
    17: _named(count=2),
    28: _fixed(16),
    33: _named(before=6),
    35: _naptr,
    39: _named(),
    46: _rrsig,
    65: _https,
    65_280: _fixed(9),
}


def _damage(wrong: bytearray, chance: random.Random) -> None:
    kind, place = chance.randrange(6), chance.randrange(len(wrong))
    if kind == 0:
        wrong[place] = chance.choice((0, 1, 0x3F, 0x40, 0xC0, 0xFF, chance.randrange(256)))
    elif kind == 1:
        wrong[place : place + 2] = (0xC000 | chance.randrange(len(wrong) + 3)).to_bytes(2)
    elif kind == 2 and len(wrong) >= 12:
        wrong[4 + chance.randrange(8)] = chance.choice((0, 1, 2, 255))
    elif kind == 3:
        del wrong[place : place + chance.randrange(4)]
    elif kind == 4:
        del wrong[place:]
    else:
        wrong[place:place] = chance.randbytes(chance.randrange(1, 5))
