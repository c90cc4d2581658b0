"""Capture files that mean harm: evidence or a refusal, never a crash, a stall, or much memory.

In CI always the same files; `ACNS_FUZZ_CAPTURES=100000` tries that many that nobody has seen, and
`invoke test.fuzz --captures` goes on for as long as it is told to.
"""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from pathlib import Path

import pytest

from lab.repro.reading import capture
from lab.repro.reading.evidence import Kind, Limits

from . import captures
from .search import search

pytestmark = pytest.mark.timeout(900)  # of a machine that is busy with other things
ASKED_FOR = int(os.environ.get("ACNS_FUZZ_CAPTURES", "0"))
INPUTS = ASKED_FOR or 500


def test_no_file_does_harm() -> None:
    seed = random.SystemRandom().getrandbits(32) if ASKED_FOR else 1
    found = search(captures.check, seed, INPUTS, captures.corpus(), captures.inputs)
    assert found is None, f"seed {seed}: {found}"


def test_of_each_file_a_timeline_and_a_scenario_are_made_or_refused() -> None:
    seed = random.SystemRandom().getrandbits(32) if ASKED_FOR else 1
    found = search(captures.use, seed, INPUTS, captures.corpus(), captures.inputs)
    assert found is None, f"seed {seed}: {found}"


def test_what_is_tried_is_read_as_often_as_it_is_refused(tmp_path: Path) -> None:
    """Else the search would go no further than the first octets."""
    made, path = captures.inputs(random.Random(1), captures.corpus()), tmp_path / "x"
    messages = flows = 0
    kinds: set[Kind] = set()
    for _ in range(300):
        path.write_bytes(next(made))
        try:
            found = capture.read(path, captures.LIMITS)
        except captures.InputError:
            continue
        messages, flows = messages + bool(found.messages), flows + bool(found.flows)
        kinds |= {one.kind for one in found.troubles}
    assert messages > 100
    assert flows > 100
    assert kinds >= {Kind.TRUNCATED, Kind.MALFORMED, Kind.INCOMPLETE, Kind.UNSUPPORTED, Kind.ENDS_EARLY}


# --- files that ask for memory ------------------------------------------------------------------------------

LIMITS = Limits(waiting_bytes=1 << 20, message_bytes=1 << 20, stream_bytes=1 << 16, flows=500, messages=1_000)
MOST_MIB = 12


def ip(
    protocol: int, body: bytes, *, size: int = 0, ident: int = 0, fragment: int = 0, source: int = 1
) -> bytes:
    head = struct.pack(
        "!BBHHHBBH", 0x45, 0, size or 20 + len(body), ident & 0xFFFF, fragment, 64, protocol, 0
    )
    return bytes(12) + b"\x08\0" + head + struct.pack("!II", source, 2) + body


def segment(port: int, seq: int, payload: bytes = b"", *, flags: int = 0x18, size: int = 0) -> bytes:
    return ip(
        6, struct.pack("!HHIIBBHHH", port, 53, seq, 0, 0x50, flags, 9, 0, 0) + payload, size=size, ident=seq
    )


def hostile(kind: str) -> list[bytes]:
    many = range(6_000)
    match kind:
        case "first fragments":
            return [ip(17, bytes(2_000), ident=one, source=one, fragment=0x2000) for one in many]
        case "segments behind a gap, an octet each":
            return [segment(1, 0, flags=2), *(segment(1, 10 + 2 * one, b"x") for one in many)]
        case "messages that never end, which are in the file by their length only":
            return [segment(one, 1, b"\xff\xff", size=60_000) for one in range(3_000)]
        case "connections":
            return [segment(one, 5, flags=2) for one in many]
        case "long frames":
            return [ip(99, bytes(60_000)) for _ in range(300)]
        case "segments backwards":
            return [segment(1, 0, flags=2), *(segment(1, 12_000 - one, b"x") for one in many)]
        case _:
            return [ip(17, struct.pack("!HHHH", one, 53, 1_008, 0) + bytes(1_000), ident=one) for one in many]


@pytest.mark.parametrize(
    "kind",
    [
        "first fragments",
        "segments behind a gap, an octet each",
        "messages that never end, which are in the file by their length only",
        "connections",
        "long frames",
        "segments backwards",
        "messages",
    ],
)
def test_what_waits_or_is_kept_is_bounded_whatever_a_file_asks_for(tmp_path: Path, kind: str) -> None:
    path, frames = tmp_path / "x", hostile(kind)
    with path.open("wb") as stream:
        stream.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for number, frame in enumerate(frames):
            # Far apart, so that the memory for what was heard a moment ago does not count here; fragments not
            # so far that they would be too old to wait.
            at = divmod(number, 1_000) if "fragments" in kind else (number, 0)
            stream.write(struct.pack("<IIII", at[0], at[1] * 1_000, len(frame), 65_535) + frame)
    del frames
    tracemalloc.start()
    try:
        found = capture.read(path, LIMITS)
        held_mib = tracemalloc.get_traced_memory()[1] / (1 << 20)
    finally:
        tracemalloc.stop()
    assert held_mib < MOST_MIB
    assert found.counts.frames >= 300
