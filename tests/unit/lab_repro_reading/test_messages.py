"""DNS messages: once each however often they are heard, in fragments, in TCP's segments, cut off."""

from __future__ import annotations

import itertools
import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.repro.reading.evidence import Kind, Limits, Message
from lab.repro.reading.notes import Flaw
from lab.repro.reading.sightings import Heard
from lab.repro.reading.streams import Budget, Stream

from .made import (
    ACK,
    ANSWER,
    FIN,
    MS,
    POD,
    PSH,
    QUERY,
    SERVER,
    SERVICE,
    T0,
    At,
    Talk,
    answered,
    asked,
    ethernet,
    evidence,
    ipv4,
    paced,
    pcap,
    taps,
    udp,
)

COOKED = b"\0\4\0\1\0\6" + bytes(8) + b"\x08\0"


def messages(file: bytes, folder: Path, limits: Limits | None = None) -> tuple[Message, ...]:
    return evidence(file, folder, limits).messages


# --- the same packet more than once -------------------------------------------------------------------------


def test_what_two_taps_heard_is_one_message_with_both_frames_by_the_clock_of_the_clients_tap(
    tmp_path: Path,
) -> None:
    pod = [(T0, asked()), (T0 + 5 * MS, answered(ttl=63))]
    node = [(T0 + 1000, asked(ttl=63)), (T0 + 4 * MS, answered())]
    query, answer = messages(taps(pod, node, names=["pod/eth0", "node/eth0"]), tmp_path)
    assert (query.at_ns, query.tap, query.frames) == (T0, "pod/eth0", (1, 2))
    assert (answer.at_ns, answer.tap, answer.frames) == (T0 + 5 * MS, "pod/eth0", (3, 4))


def test_the_duplicates_of_tcpdump_on_any_are_one_message(tmp_path: Path) -> None:
    frames = [COOKED + one[14:] for one in (asked(), asked(), asked(ttl=63), answered(), answered(ttl=63))]
    found = evidence(pcap(paced(frames, 20_000), link=113), tmp_path)
    assert [one.frames for one in found.messages] == [(1, 2, 3), (4, 5)]
    assert found.counts.duplicates == 3


def test_a_service_is_seen_as_its_client_sees_it_and_the_server_behind_is_known(tmp_path: Path) -> None:
    pod = [(T0, asked(to=SERVICE)), (T0 + 3 * MS, answered(by=SERVICE, ttl=63))]
    node = [(T0 + MS, asked(ttl=63)), (T0 + 2 * MS, answered())]
    for message in messages(taps(pod, node), tmp_path):
        server = message.destination if message.source.port == 40_000 else message.source
        assert (str(server), str(message.translated)) == (f"{SERVICE}:53", f"{SERVER}:53")


def test_a_translated_answer_without_identification_is_one_message(tmp_path: Path) -> None:
    node, pod = [(T0, answered(ident=0))], [(T0 + MS, answered(by=SERVICE, ident=0, ttl=63))]
    (answer,) = messages(taps(pod, node), tmp_path)
    assert (str(answer.source), str(answer.translated)) == (f"{SERVICE}:53", f"{SERVER}:53")


def test_a_masquerade_between_two_taps_is_no_second_message(tmp_path: Path) -> None:
    outside = ethernet(ipv4("192.0.2.1", SERVER, 17, udp(40_000, 53, QUERY), ttl=63))
    (query,) = messages(taps([(T0, asked())], [(T0 + 1000, outside)]), tmp_path)
    assert (str(query.source), query.frames) == (f"{POD}:40000", (1, 2))


@pytest.mark.parametrize(
    "again",
    [
        (T0 + 5_000 * MS, asked(ident=2)),  # the client asks once more
        (T0 + MS, asked(ident=2)),
        (T0 + MS, asked(ident=1)),  # the network doubled it: one tap, the same TTL
        (T0 + MS, asked(ident=1, port=40_001)),
    ],
)
def test_what_was_sent_twice_is_two_messages(tmp_path: Path, again: At) -> None:
    assert len(messages(taps([(T0, asked()), again]), tmp_path)) == 2


def test_two_pods_that_send_the_same_octets_at_once_are_two_messages(tmp_path: Path) -> None:
    other = ethernet(ipv4("10.244.0.6", SERVER, 17, udp(40_000, 53, QUERY)))
    assert len(messages(taps([(T0, asked())], [(T0 + 1000, other)]), tmp_path)) == 2


def test_an_icmp_error_is_known_with_the_query_that_it_is_about(tmp_path: Path) -> None:
    about = asked()[14:][:28]
    error = ethernet(ipv4(SERVER, POD, 1, b"\3\3" + bytes(6) + about))
    query, _ = messages(pcap(paced([asked(), error, asked(port=40_001)])), tmp_path)
    assert query.icmp == (3, 3)


# --- fragments ----------------------------------------------------------------------------------------------

LONG = ANSWER + bytes(range(256)) * 8
PARTS = [(start, udp(53, 40_000, LONG)[start : start + 800]) for start in range(0, len(LONG) + 8, 800)]


def fragments(ident: int = 7) -> list[bytes]:
    last = PARTS[-1][0]
    return [
        ethernet(
            ipv4(SERVER, POD, 17, part, ident=ident, fragment=start // 8 | (0x2000 if start < last else 0))
        )
        for start, part in PARTS
    ]


def test_fragments_in_any_order_and_twice_are_one_message(tmp_path: Path) -> None:
    for seed in range(5):
        frames = fragments() + fragments()[:1]
        random.Random(seed).shuffle(frames)
        (message,) = messages(pcap(paced(frames)), tmp_path)
        assert (message.payload, message.size) == (LONG, len(LONG))
        assert len(message.frames) >= len(PARTS)


def test_a_fragment_that_is_missing_is_told_and_nothing_is_made_up(tmp_path: Path) -> None:
    found = evidence(pcap(paced(fragments()[:1] + fragments()[2:])), tmp_path)
    assert (found.messages, [one.kind for one in found.troubles]) == ((), [Kind.INCOMPLETE])


def test_fragments_that_overlap_are_refused(tmp_path: Path) -> None:
    overlapping = ethernet(ipv4(SERVER, POD, 17, PARTS[1][1], ident=7, fragment=0x2000 | 90))
    found = evidence(pcap(paced([fragments()[0], overlapping, *fragments()[2:]])), tmp_path)
    assert (found.messages, Kind.MALFORMED in [one.kind for one in found.troubles]) == ((), True)


def test_fragments_that_wait_forever_are_given_up_for_newer_ones(tmp_path: Path) -> None:
    lone = [fragments(ident)[0] for ident in range(1, 101)]
    found = evidence(pcap(paced([*lone, *fragments(200)])), tmp_path, Limits(waiting_bytes=20_000))
    assert [one.payload for one in found.messages] == [LONG]
    assert (found.troubles[0].kind, found.troubles[0].count) == (Kind.INCOMPLETE, 100)


# --- cut off by the snap length -----------------------------------------------------------------------------


def test_of_a_message_cut_off_what_is_known_is_told_and_how_long_it_was(tmp_path: Path) -> None:
    found = evidence(pcap(paced([asked(), answered()]), snap=14 + 28 + 20), tmp_path)
    assert [(one.payload, one.size, one.is_whole) for one in found.messages] == [
        (QUERY[:20], len(QUERY), False),
        (ANSWER[:20], len(ANSWER), False),
    ]
    assert [(one.kind, one.count) for one in found.troubles] == [(Kind.TRUNCATED, 2)]


def test_frames_cut_off_within_their_headers_are_troubles_each_of_its_kind(tmp_path: Path) -> None:
    details = set()
    for snap in range(1, 14 + 20 + 6):
        found = evidence(pcap([(T0, asked())], snap=snap), tmp_path)
        assert found.messages == ()
        details |= {one.detail for one in found.troubles}
    assert len(details) == 3


# --- TCP ----------------------------------------------------------------------------------------------------


def framed(*payloads: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(one)) + one for one in payloads)


def over_tcp(segments: list[tuple[int, bytes]]) -> list[bytes]:
    talk = Talk(SERVER, 53)
    return [*talk.handshake(), *(talk.out(PSH | ACK, 1 + at, 5_001, part) for at, part in segments)]


def cut(data: bytes, *at: int) -> list[tuple[int, bytes]]:
    edges = [0, *at, len(data)]
    return [(start, data[start:end]) for start, end in itertools.pairwise(edges)]


SENT = framed(QUERY, LONG, QUERY)


@pytest.mark.parametrize(
    "segments",
    [
        cut(SENT),
        cut(SENT, 1),
        cut(SENT, 1, 2, 3, 40, 700),
        list(reversed(cut(SENT, 10, 500, 900))),
        [*cut(SENT, 10, 500), (5, SENT[5:800]), (0, SENT[:50])],
        [(0, SENT[:100]), (50, SENT[50:300]), (200, SENT[200:])],
    ],
    ids=["one", "length cut", "many", "backwards", "again", "overlapping"],
)
def test_messages_over_tcp_are_found_however_they_are_cut(
    tmp_path: Path, segments: list[tuple[int, bytes]]
) -> None:
    found = evidence(pcap(paced(over_tcp(segments))), tmp_path)
    assert [one.payload for one in found.messages] == [QUERY, LONG, QUERY]
    assert {one.transport for one in found.messages} == {"tcp"}
    assert found.troubles == ()


def test_a_message_has_the_frames_that_brought_it_and_the_time_of_its_last_octet(tmp_path: Path) -> None:
    frames = over_tcp(cut(framed(QUERY, QUERY), 10, 31, 40))
    first, second = messages(pcap(paced(frames)), tmp_path)
    assert (first.frames, second.frames) == ((4, 5, 6), (6, 7))
    assert (first.at_ns, second.at_ns) == (T0 + 5 * MS, T0 + 6 * MS)


def test_sequence_numbers_may_pass_zero(tmp_path: Path) -> None:
    talk = Talk(SERVER, 53, isn=0xFFFFFFFF - 20)
    frames = [*talk.handshake(), *(talk.out(ACK, 1 + at, 5_001, part) for at, part in cut(SENT, 9, 300))]
    assert [one.payload for one in messages(pcap(paced(frames)), tmp_path)] == [QUERY, LONG, QUERY]


def test_of_messages_over_tcp_that_are_cut_off_each_is_known_up_to_there(tmp_path: Path) -> None:
    talk = Talk(SERVER, 53)
    frames = [
        *talk.handshake(),
        talk.out(ACK, 1, 5_001, framed(LONG)),
        talk.out(FIN | ACK, 1 + len(LONG) + 2),
    ]
    (message,) = messages(pcap(paced(frames), snap=200), tmp_path)
    assert (message.size, message.payload) == (len(LONG), LONG[: 200 - 54 - 2])


def test_a_segment_that_is_missing_costs_its_message_and_the_next_one_is_found(tmp_path: Path) -> None:
    parts = cut(framed(LONG, QUERY), 100, 200, len(LONG) + 2)
    found = evidence(pcap(paced(over_tcp([parts[0], *parts[2:]]))), tmp_path)
    assert [one.payload for one in found.messages] == [LONG[:98], QUERY]
    assert found.messages[0].size == len(LONG)


def test_where_a_messages_length_is_missing_the_next_segment_is_hoped_to_begin_with_one(
    tmp_path: Path,
) -> None:
    parts = cut(
        framed(QUERY, LONG, QUERY, QUERY), 50, len(framed(QUERY, LONG)), len(framed(QUERY, LONG, QUERY))
    )
    for lost, left in ((1, [QUERY, LONG[: 50 - len(QUERY) - 4], QUERY, QUERY]), (2, [QUERY, LONG, QUERY])):
        found = evidence(
            pcap(paced(over_tcp([part for number, part in enumerate(parts) if number != lost]))), tmp_path
        )
        assert [one.payload for one in found.messages] == left
    parts = cut(framed(QUERY, LONG, QUERY, QUERY), len(QUERY) + 2, 100, len(framed(QUERY, LONG)), 2_300)
    found = evidence(pcap(paced(over_tcp([parts[0], *parts[3:]]))), tmp_path)
    assert [one.kind for one in found.troubles] == [Kind.INCOMPLETE]
    assert [one.payload for one in found.messages][-1] == QUERY


def test_a_message_whose_end_never_came_is_a_trouble(tmp_path: Path) -> None:
    found = evidence(pcap(paced(over_tcp([(0, SENT[:60])]))), tmp_path)
    assert ([one.payload for one in found.messages], found.troubles[0].kind) == ([QUERY], Kind.INCOMPLETE)


def test_a_connection_from_before_the_capture_is_read_where_a_message_begins_else_told(
    tmp_path: Path,
) -> None:
    assert [one.payload for one in messages(pcap(paced(over_tcp(cut(SENT))[3:])), tmp_path)] == [
        QUERY,
        LONG,
        QUERY,
    ]
    found = evidence(pcap(paced(over_tcp(cut(SENT, 7))[4:])), tmp_path)
    assert (found.messages, found.troubles[0].kind) == ((), Kind.INCOMPLETE)


@given(st.lists(st.binary(max_size=90), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_cutting_shuffling_and_overlapping_of_a_stream_gives_its_messages(
    payloads: list[bytes], chance: random.Random
) -> None:
    sent = framed(*payloads)
    segments = [
        (at, sent[at : at + chance.randrange(1, 40)]) for at in range(0, len(sent), 1 + len(sent) // 9)
    ]
    segments += [(at, sent[at : at + 50]) for at in range(0, len(sent), 50)]
    chance.shuffle(segments)
    start = chance.choice([0, 0xFFFFFFF0])
    budget = Budget(1 << 20, 1 << 20)
    stream = Stream(start, from_the_start=True, budget=budget)
    heard: Heard = object.__new__(Heard)
    found = [
        one.payload
        for at, part in segments
        for one in stream.take(start + at & 0xFFFFFFFF, part, len(part), heard)
    ]
    assert (found, list(stream.finish())) == (payloads, [])
    assert budget.left == 1 << 20


def test_streams_that_wait_for_more_than_may_wait_are_given_up() -> None:
    budget = Budget(10_000, 10_000)
    heard: Heard = object.__new__(Heard)
    streams = [Stream(0, from_the_start=True, budget=budget) for _ in range(50)]
    lost = 0
    for stream in streams:
        try:
            assert list(stream.take(0, b"\xff\xff" + bytes(1_000), 1_002, heard)) == []
        except Flaw as flaw:
            lost += flaw.kind is Kind.TOO_MUCH
    assert lost >= 30
    assert budget.left >= -10_000


def test_dns_on_another_port_is_read_where_one_says_so(tmp_path: Path) -> None:
    frame = ethernet(ipv4(POD, SERVER, 17, udp(40_000, 5_353, QUERY)))
    file = pcap([(T0, frame)])
    assert messages(file, tmp_path) == ()
    assert len(messages(file, tmp_path, replace(Limits(), dns_ports=frozenset({53, 5_353})))) == 1


def test_of_two_that_both_have_the_port_of_dns_the_message_says_who_asked(tmp_path: Path) -> None:
    query = ethernet(ipv4(POD, SERVER, 17, udp(53, 53, QUERY)))
    answer = ethernet(ipv4(SERVER, POD, 17, udp(53, 53, ANSWER)))
    first, second = messages(pcap(paced([query, answer])), tmp_path)
    assert (str(first.destination), str(second.source)) == (f"{SERVER}:53", f"{SERVER}:53")
