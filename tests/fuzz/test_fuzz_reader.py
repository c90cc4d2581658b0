"""The reader against bytes that mean harm: no crash, no stall, no growth, and read as dnspython reads them.

In CI always the same messages; `ACNS_FUZZ_INPUTS=1000000` tries that many that nobody has seen, under the
seed `ACNS_FUZZ_SEED` (else a random one, which is printed). `invoke test.fuzz` goes on for as long as it is
told to.
"""

from __future__ import annotations

import gc
import os
import random
import struct
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acns.dns import message, name, wire
from acns.dns.message import MalformedDNS
from acns.fqdn import gate
from acns.resolver.framing import Frames, framed

from . import messages, nasty, oracle, readers
from .oracle import Agreed, Understood
from .search import Finding, search, smallest
from .steps import TooManySteps, steps

pytestmark = pytest.mark.timeout(900)  # of a machine that is busy with other things
ASKED_FOR = int(os.environ.get("ACNS_FUZZ_INPUTS", "0"))
INPUTS = ASKED_FOR or 50_000
SHARE = 0.15
STEPS_PER_OCTET, STEPS_AT_LEAST = 30, 40_000  # the latter for 16 DNAMEs on each of 64 names

QUESTION = b"\3wWw\1x\0\0\1\0\1"


def made(*records: bytes, flags: int = 0x8180, question: bytes = QUESTION, counts: str = "answers") -> bytes:
    where = {"answers": (len(records), 0, 0), "extra": (0, 0, len(records))}[counts]
    return struct.pack("!6H", 7, flags, 1, *where) + question + b"".join(records)


def record(kind: int, rdata: bytes, owner: bytes = b"\xc0\x0c", rclass: int = 1) -> bytes:
    return owner + wire.record_tail(kind, rclass, 60, rdata)


def hops(count: int) -> bytes:
    """An answer with a name in it that follows so many pointers."""
    start = len(made()) + 2 + 10
    chain = b"\1a\0" + b"\1a" + struct.pack("!H", 0xC000 | start)
    chain += b"".join(b"\1a" + struct.pack("!H", 0xC000 | start + 3 + 4 * hop) for hop in range(count - 2))
    owner = struct.pack("!H", 0xC000 | start + len(chain) - 4)
    return made(record(65_280, chain), record(1, bytes(4), owner))


A = record(1, b"\xc0\0\2\1")
OPT = b"\0" + wire.record_tail(wire.TYPE_OPT, 1232, 0, b"")
EXAMPLES: dict[Understood, bytes] = {
    Understood.QUESTIONS: struct.pack("!6H", 7, 0x8180, 2, 0, 0, 0) + QUESTION + QUESTION,
    Understood.QUESTION_POINTER: b"\1a\0\0" + made(question=b"\xc0\0\0\1\0\1")[4:],
    Understood.OPT_POINTER: made(OPT.replace(b"\0", b"\xc0\x12", 1), counts="extra"),
    Understood.RDATA: made(record(1, b"\xc0\0\2")),
    Understood.OWNER: made(record(1, bytes(4), b"\xff\xff"), counts="extra"),
    Understood.HOPS: hops(17),
    Understood.TRAILING: made(A) + b"\0",
    Understood.IN_ANSWERS: made(OPT),
    Understood.MANY: made(*[A] * 17, flags=0x0100, counts="extra"),
}


# --- against dnspython ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seed() -> int:
    random_one = random.SystemRandom().getrandbits(32)
    return int(os.environ.get("ACNS_FUZZ_SEED") or (random_one if ASKED_FOR else 1))


@pytest.fixture(scope="module")
def compared(seed: int) -> Counter[str] | Finding:
    """How the two read so many messages; or the smallest message on which they disagree."""
    print(f"ACNS_FUZZ_SEED={seed}")
    tally: Counter[str] = Counter()

    def compare(packet: bytes) -> None:
        tally[oracle.compare(packet, as_answer=oracle.is_answer(packet))] += 1

    found = search(compare, seed, INPUTS, [*EXAMPLES.values(), *messages.corpus()])
    print("\n".join(f"{count:8} {how}" for how, count in tally.most_common()))
    return found or tally


def test_our_reader_and_dnspython_read_alike_or_refuse_alike(compared: Counter[str] | Finding) -> None:
    if isinstance(compared, Finding):
        pytest.fail(str(compared), pytrace=False)


def test_the_messages_compared_were_of_every_kind(compared: Counter[str] | Finding) -> None:
    if isinstance(compared, Finding):
        pytest.skip("they ended with a disagreement")
    assert compared.total() == INPUTS
    assert min(compared[Agreed.READ], compared[Agreed.REFUSED]) >= SHARE * INPUTS
    assert set(Understood) - compared.keys() == set()  # none is listed that no longer occurs


@pytest.mark.parametrize("why", Understood, ids=lambda why: why.name)
def test_the_differences_that_are_understood_are_these(why: Understood) -> None:
    packet = EXAMPLES[why]
    assert oracle.compare(packet, as_answer=oracle.is_answer(packet)) is why


def test_the_differences_that_are_understood_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "fuzzing.md").read_text()
    table = text.partition("| kind | difference |\n|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [f"| `{why.name}` | {why.value} |" for why in Understood]


def test_a_disagreement_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: a reader that forgets to fold case is found."""
    monkeypatch.setattr(name.NameReader, "_folded", lambda self, labels: tuple(labels))

    def compare(packet: bytes) -> None:
        oracle.compare(packet, as_answer=oracle.is_answer(packet))

    found = search(compare, 1, 2_000, [])
    assert found
    assert "answers: " in str(found)


# --- harm -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_no_bytes_harm_a_reader(packet: bytes) -> None:
    readers.take_everything(packet)


@settings(max_examples=500)
@given(st.randoms(use_true_random=False))
def test_no_damaged_message_harms_a_reader(chance: random.Random) -> None:
    readers.take_everything(
        messages.mutated(chance.choice((messages.query, messages.answer))(chance), chance)
    )


def test_no_message_of_the_search_so_far_harms_a_reader() -> None:
    for packet in (*messages.corpus(), *EXAMPLES.values()):
        readers.take_everything(packet)


def test_a_message_cut_at_any_octet_is_refused() -> None:
    chance = random.Random(1)
    for _ in range(60):
        for whole, read in ((messages.query, message.read_query), (messages.answer, message.read_answer)):
            packet = whole(chance)
            for end in range(len(packet)):
                readers.take_everything(packet[:end])
                with pytest.raises(MalformedDNS):
                    read(packet[:end])


@pytest.mark.parametrize("kind", nasty.MESSAGES)
def test_no_message_costs_more_than_its_size_allows(kind: str) -> None:
    packet = nasty.MESSAGES[kind]()
    assert len(packet) <= wire.MAX_MESSAGE_OCTETS
    steps(lambda: readers.take_everything(packet), STEPS_PER_OCTET * len(packet) + STEPS_AT_LEAST)


@pytest.mark.parametrize("kind", nasty.QUERIES)
def test_no_query_costs_more_for_being_long(kind: str) -> None:
    packet = nasty.QUERIES[kind]()
    assert len(packet) > 60_000

    def take() -> None:
        judged = gate.read_query(packet, message.TCP)
        assert isinstance(judged, gate.Reply)
        assert judged.packet[3] & 0xF == message.RCODE_FORMERR

    steps(take, 2_000)


def test_no_damaged_message_costs_more_than_its_size_allows() -> None:
    chance = random.Random(1)
    for packet, _ in zip(messages.inputs(chance, messages.corpus()), range(3_000), strict=False):
        allowed = STEPS_PER_OCTET * len(packet) + STEPS_AT_LEAST
        steps(partial(readers.take_everything, packet), allowed)


def test_steps_that_are_too_many_are_seen() -> None:
    with pytest.raises(TooManySteps):
        steps(lambda: name.read(b"\1a" * 100 + b"\0", 0), 100)


def test_readers_keep_nothing_of_what_they_have_read() -> None:
    def take(count: int) -> int:
        policy = readers.table()  # which remembers questions, in bounded number
        for packet, _ in zip(messages.inputs(random.Random(count)), range(count), strict=False):
            readers.take_everything(packet, policy)
        del policy
        gc.collect()
        return sys.getallocatedblocks()

    take(300)
    before = take(500)
    assert take(4_000) - before < 250


# --- frames -----------------------------------------------------------------------------------------------


def test_the_largest_frame_octet_by_octet_is_one_message_and_costs_its_size() -> None:
    packet = nasty.options()
    packet += bytes(wire.MAX_MESSAGE_OCTETS - len(packet))
    frames = Frames()
    taken: list[bytes] = []

    def feed() -> None:
        for octet in framed(packet) + b"\0":
            frames.feed(bytes((octet,)))
            if (whole := frames.take()) is not None:
                taken.append(whole)

    steps(feed, 12 * len(packet))
    assert (taken, len(frames)) == ([packet], 1)


@given(st.lists(st.binary(max_size=50), max_size=20), st.randoms(use_true_random=False))
def test_frames_are_the_same_in_whatever_pieces_they_come(
    packets: list[bytes], chance: random.Random
) -> None:
    stream, frames, taken = b"".join(map(framed, packets)), Frames(), []
    while stream:
        size = chance.randint(1, len(stream))
        frames.feed(stream[:size])
        stream = stream[size:]
        while (whole := frames.take()) is not None:
            taken.append(whole)
    assert (taken, len(frames)) == (packets, 0)


# --- what is not for us -----------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False))
def test_whatever_says_that_it_is_an_answer_gets_no_reply(chance: random.Random) -> None:
    packet = messages.mutated(messages.query(chance), chance)
    if len(packet) > 2:
        packet = packet[:2] + bytes((packet[2] | 0x80,)) + packet[3:]
    verdict = gate.judge_query(readers.TABLE, readers.POD, readers.SERVER, packet, readers.SETTINGS)
    assert isinstance(verdict, gate.Drop)


@given(st.randoms(use_true_random=False), st.integers(1, 15))
def test_no_other_opcode_is_forwarded(chance: random.Random, opcode: int) -> None:
    packet = messages.query(chance)
    packet = packet[:2] + bytes((packet[2] & 0x07 | opcode << 3,)) + packet[3:]
    verdict = gate.judge_query(readers.TABLE, readers.POD, readers.SERVER, packet, readers.SETTINGS)
    assert isinstance(verdict, gate.Reply)
    assert verdict.packet[3] & 0xF == message.RCODE_NOTIMP


@given(st.randoms(use_true_random=False))
def test_what_is_forwarded_has_one_question_and_nothing_behind_its_records(chance: random.Random) -> None:
    packet = next(messages.inputs(chance))
    verdict = gate.judge_query(readers.TABLE, readers.POD, readers.SERVER, packet, readers.SETTINGS)
    if isinstance(verdict, gate.Forward):
        header = wire.read_header(packet)
        assert (header.questions, header.opcode, header.is_response) == (1, 0, False)
        end = wire.HEADER_OCTETS + len(verdict.query.question_wire)
        count = header.answers + header.authorities + header.additionals
        records = list(wire.read_records(packet, end, count))
        assert (records[-1].end if records else end) == len(packet)


def test_a_finding_is_made_as_small_as_it_can_be() -> None:
    def no_seven(packet: bytes) -> None:
        assert 7 not in packet, "a seven"

    assert smallest(no_seven, bytes(range(200))).packet == b"\7"
