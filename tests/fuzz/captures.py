"""Capture files that mean harm, and what must hold of each, whatever is in it.

Files are put together from frames of all kinds, in both formats, then damaged: in the file's own structure,
and in the frames' headers. What holds: `Evidence` or `InputError`, work in proportion to the file, and
nothing in the result that is not in the file.
"""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.errors import InputError
from lab.repro.importing import importer
from lab.repro.importing.given import Given
from lab.repro.reading import capture
from lab.repro.reading.evidence import Evidence, Limits
from lab.repro.showing import building, page, text

from . import messages
from .steps import steps

LIMITS = Limits(
    file_bytes=1 << 20,
    frame_bytes=1 << 16,
    messages=500,
    message_bytes=1 << 18,
    flows=200,
    stream_bytes=1 << 14,
    waiting_bytes=1 << 16,
    troubles=50,
    names=50,
    comments=100,
    comment_bytes=1 << 14,
)
STEPS_PER_OCTET, STEPS_AT_LEAST = 60, 20_000
LINKS = (0, 1, 12, 101, 108, 113, 228, 252, 276, 999)
_INTERESTING = (0, 1, 3, 4, 7, 8, 12, 0x7F, 0x80, 0xFF)
_scratch = tempfile.TemporaryDirectory(prefix="fuzz-captures-")


def corpus() -> list[bytes]:
    """Files that are in order: those of others that are kept as test data, the small ones."""
    folder = Path(__file__).parents[1] / "data" / "captures"
    files = sorted(folder.glob("*/*.pcap"))
    return [path.read_bytes() for path in files if path.stat().st_size < 4_000]


def inputs(chance: random.Random, known: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Without end."""
    while True:
        whole = chance.choice(known) if known and chance.random() < 0.2 else made(chance)
        yield damaged(whole, chance) if chance.random() < 0.8 else whole


def check(file: bytes) -> None:
    """Raises where the file does harm."""
    path = Path(_scratch.name, "x")
    path.write_bytes(file)
    most = STEPS_AT_LEAST + STEPS_PER_OCTET * len(file)
    steps(lambda: _read(path), most, "lab.repro.")


def _read(path: Path) -> None:
    try:
        found = capture.read(path, LIMITS)
    except InputError:
        return
    _check(found, path.stat().st_size)


def use(file: bytes) -> None:
    """What a person does with it: a timeline, a scenario. Raises where that is neither made nor refused."""
    path = Path(_scratch.name, "x")
    path.write_bytes(file)
    try:
        found = capture.read(path, LIMITS)
    except InputError:
        return
    shown = building.timeline(found, "x")
    page.page(shown)
    assert all(len(line) <= text.NARROWEST for line in text.lines(shown, 0))
    try:
        importer.from_evidence(found, Given(), "x")
    except InputError:
        return


def _check(found: Evidence, size: int) -> None:
    counts = found.counts
    assert counts.ipv4 + counts.ipv6 + counts.other <= counts.frames <= size // 12 + 1
    assert sum(len(one.payload) for one in found.messages) <= size
    assert [one.at_ns for one in found.messages] == sorted(one.at_ns for one in found.messages)
    for message in found.messages:
        assert len(message.payload) <= message.size <= 1 << 20
        assert all(0 < frame <= counts.frames for frame in message.frames)
    for flow in found.flows:
        assert 0 < flow.packets <= counts.frames
        assert flow.first_ns <= flow.last_ns
        assert flow.bytes_sent + flow.bytes_received <= flow.packets << 20
    assert len(found.troubles) <= 2 * LIMITS.troubles
    assert sum(map(len, found.names.values())) <= LIMITS.names
    assert sum(len(one.text) for one in found.decisions) <= LIMITS.comment_bytes


# --- files --------------------------------------------------------------------------------------------------


def made(chance: random.Random) -> bytes:
    link = chance.choice(LINKS) if chance.random() < 0.3 else 1
    packets = [_linked(packet, link, chance) for packet in _packets(chance)]
    return (_pcapng if chance.random() < 0.5 else _pcap)(packets, link, chance)


def _pcap(frames: Sequence[bytes], link: int, chance: random.Random) -> bytes:
    order, magic = chance.choice("<>"), chance.choice((0xA1B2C3D4, 0xA1B23C4D))
    snap = chance.choice((65_535, 60, 100))
    file = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snap, link)
    for number, frame in enumerate(frames):
        kept = frame[:snap]
        file += struct.pack(f"{order}IIII", 1_700_000_000, number * 1000, len(kept), len(frame)) + kept
    return file


def _pcapng(frames: Sequence[bytes], link: int, chance: random.Random) -> bytes:
    order = chance.choice("<>")

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack(f"{order}I", len(body) + 12)
        return struct.pack(f"{order}I", kind) + length + body + length

    def options(*given: tuple[int, bytes]) -> bytes:
        chosen = [one for one in given if chance.random() < 0.5]
        parts = [
            struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)
            for code, value in chosen
        ]
        return b"".join(parts) + bytes(4 * bool(parts))

    start = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    file = block(0x0A0D0D0A, start + options((1, b"about"), (4, b"acns-lab 0.1.0")))
    for number in range(chance.randrange(1, 4)):
        unit = (9, chance.choice((b"\x09", b"\x06", b"\x8a", b"\xff")))
        file += block(1, struct.pack(f"{order}HHI", link, 0, 0) + options((2, b"tap%d" % number), unit))
    for number, frame in enumerate(frames):
        at = 1_700_000_000_000_000 + number * 1000
        head = struct.pack(f"{order}IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(frame), len(frame))
        padded = frame + bytes(-len(frame) % 4)
        file += block(
            6, head + padded + options((1, b"egress dropped"), (2, b"\1\0\0\0"), (4, bytes(7) + b"\1"))
        )
    names = struct.pack(f"{order}HH", 1, 12) + b"\x0a\0\0\1" + b"pod\0pod\0" + bytes(4)
    return (
        file
        + block(4, names)
        + block(5, struct.pack(f"{order}III", 0, 0, 0) + options((5, bytes(7) + b"\2")))
    )


def damaged(file: bytes, chance: random.Random) -> bytes:
    wrong = bytearray(file)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not wrong:
            break
        kind, place = chance.randrange(6), chance.randrange(len(wrong))
        if kind < 2:
            wrong[place] = chance.choice((*_INTERESTING, chance.randrange(256)))
        elif kind == 2:
            wrong[place : place + 4] = struct.pack(
                "<I", chance.choice((0, 1, 12, 0xFFFFFFFF, len(wrong), 0x7FFFFFFC))
            )
        elif kind == 3:
            del wrong[place : place + chance.randrange(1, 20)]
        elif kind == 4:
            start = chance.randrange(len(wrong))
            wrong[place:place] = wrong[start : start + chance.randrange(200)]
        elif chance.random() < 0.2:
            del wrong[place:]
    return bytes(wrong)


# --- frames -------------------------------------------------------------------------------------------------


def _linked(packet: bytes, link: int, chance: random.Random) -> bytes:
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0"
    tag = b"\x81\0\0\7" * chance.choice((0, 0, 0, 1, 5))
    heads = {
        1: bytes(12) + tag + kind,
        113: bytes(14) + kind,
        276: kind + bytes(18),
        0: b"\2\0\0\0",
        108: b"\0\0\0\2",
    }
    return heads.get(link, b"") + packet


def _packets(chance: random.Random) -> list[bytes]:
    """Of a few pods and servers, so that they meet: queries, answers, connections, errors, fragments."""
    found: list[bytes] = []
    for _ in range(chance.randrange(1, 12)):
        found += chance.choice((_datagrams, _connection, _connection, _error, _again))(chance, found)
    return found


def _datagrams(chance: random.Random, before: Sequence[bytes]) -> list[bytes]:
    payload = chance.choice((messages.query, messages.answer))(chance)
    port = chance.choice((53, 53, 443))
    body = struct.pack("!HHHH", 40_000 + chance.randrange(3), port, 8 + len(payload), 0) + payload
    if chance.random() < 0.3:
        return _fragments(body, chance)
    return [_ip(17, body, chance)]


def _fragments(body: bytes, chance: random.Random) -> list[bytes]:
    size, ident = 8 * chance.randrange(1, 8), chance.randrange(5)
    starts = range(0, len(body), size)
    parts = [
        _ip(
            17,
            body[at : at + size],
            chance,
            ident=ident,
            fragment=at // 8 | (0x2000 if at + size < len(body) else 0),
        )
        for at in starts
    ]
    chance.shuffle(parts)
    return parts


def _connection(chance: random.Random, before: Sequence[bytes]) -> list[bytes]:
    port = chance.choice((53, 53, 443))
    payload = messages.query(chance)
    stream = (struct.pack("!H", len(payload)) + payload) * chance.randrange(1, 4)
    start = chance.choice((1, 0xFFFFFFF0, 0x7FFFFFFF))
    found = [_tcp(2, start - 1, b"", port, chance)] if chance.random() < 0.8 else []
    at = 0
    while at < len(stream):
        size = chance.randrange(1, 60)
        found.append(_tcp(0x18, start + at, stream[at : at + size], port, chance))
        at += chance.choice((size, size, size, size // 2 + 1, size + 7, 70_000))
    if chance.random() < 0.3:
        chance.shuffle(found)
    return [*found, _tcp(chance.choice((4, 0x11, 0x14)), start + at, b"", port, chance)]


def _tcp(flags: int, seq: int, payload: bytes, port: int, chance: random.Random) -> bytes:
    ports = (40_000, port)
    head = struct.pack("!HHIIBBHHH", *ports, seq & 0xFFFFFFFF, chance.randrange(3), 0x50, flags, 9, 0, 0)
    return _ip(6, head + payload, chance, fixed=True)


def _error(chance: random.Random, before: Sequence[bytes]) -> list[bytes]:
    inner = chance.choice(before) if before else b""
    return [_ip(1, bytes((chance.choice((3, 11, 8)), chance.randrange(16))) + bytes(6) + inner[:60], chance)]


def _again(chance: random.Random, before: Sequence[bytes]) -> list[bytes]:
    return [chance.choice(before)] * chance.randrange(4) if before else []


def _ip(
    protocol: int,
    body: bytes,
    chance: random.Random,
    *,
    ident: int = -1,
    fragment: int = 0,
    fixed: bool = False,
) -> bytes:
    number = 0 if fixed or fragment or ident >= 0 else chance.randrange(2)
    ends = (b"\x0a\0\0\1", b"\x0a\0\0\2") if number == 0 else (b"\x0a\0\0\2", b"\x0a\0\0\1")
    if chance.random() < 0.1:
        return (
            struct.pack("!IHBB", 6 << 28, len(body), protocol, 9)
            + b"".join(bytes(12) + one for one in ends)
            + body
        )
    given = chance.randrange(1 << 16) if ident < 0 else ident
    head = struct.pack(
        "!BBHHHBBH", 0x45, 0, 20 + len(body), given, fragment, chance.choice((63, 64)), protocol, 0
    )
    return head + b"".join(ends) + body
