"""Capture files of every form: the frames, their times, and what the file says of itself."""

from __future__ import annotations

import gzip
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.capture import pcapng as writing
from lab.errors import InputError
from lab.repro.reading import capture
from lab.repro.reading.evidence import Kind, Limits

from .made import (
    ANSWER,
    MS,
    POD,
    QUERY,
    SERVER,
    T0,
    answered,
    asked,
    block,
    enhanced,
    evidence,
    interface,
    ipv4,
    ipv6,
    paced,
    pcap,
    section,
    udp,
)

TWO = paced([asked(), answered()])


def kinds(file: bytes, folder: Path, limits: Limits | None = None) -> list[tuple[int, Kind]]:
    return [(one.frame, one.kind) for one in evidence(file, folder, limits).troubles]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [True, False])
def test_a_pcap_of_either_byte_order_and_unit_has_the_same_in_it(
    tmp_path: Path, order: str, nanoseconds: bool
) -> None:
    found = evidence(pcap(TWO, order=order, nanoseconds=nanoseconds), tmp_path)
    query, answer = found.messages
    assert (query.payload, answer.payload) == (QUERY, ANSWER)
    assert (query.at_ns, answer.at_ns) == (T0, T0 + MS)
    assert [str(one) for one in (query.source, query.destination)] == [f"{POD}:40000", f"{SERVER}:53"]
    assert (query.frames, answer.frames, found.troubles) == ((1,), (2,), ())


def test_a_gzipped_capture_is_read_and_one_that_breaks_off_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = gzip.compress(pcap(TWO))
    assert len(evidence(whole, tmp_path).messages) == 2
    assert Kind.ENDS_EARLY in [kind for _, kind in kinds(whole[:-20], tmp_path)]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"", "is empty"),
        (b"snoop\0\0\0\0\0\0\2", "a snoop file"),
        (b"PK\x03\x04....", "a zip file"),
        (b"#!/bin/sh\n", "is no capture"),
    ],
)
def test_what_is_no_capture_is_refused_by_name(tmp_path: Path, start: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        evidence(start, tmp_path)
    assert "pcapng" in refused.value.hint


def test_a_folder_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "is no file"), (tmp_path / "none", "there is no")):
        with pytest.raises(InputError, match=said):
            capture.read(path)


def test_sections_of_both_byte_orders_follow_each_other_and_interfaces_count_from_zero_in_each(
    tmp_path: Path,
) -> None:
    file = b""
    for order, name, frame in (("<", b"first", asked()), (">", b"second", answered())):
        file += section(order=order) + interface((2, name), order=order)
        file += enhanced(0, T0 // 1000, frame, order=order)
    found = evidence(file, tmp_path)
    assert [one.tap for one in found.messages] == ["first", "second"]
    assert [(one.name, one.packets) for one in found.taps] == [("first", 1), ("second", 1)]
    assert {one.at_ns for one in found.messages} == {T0}


@pytest.mark.parametrize(
    ("options", "units"),
    [
        ((), T0 // 1000),
        (((9, b"\x09"),), T0),
        (((9, b"\x03"),), T0 // MS),
        (((9, b"\x00"),), T0 // 10**9),
        (((9, b"\x8a"),), T0 // 10**9 * 1024),
        (((9, b"\x09"), (14, struct.pack("<q", T0 // 10**9))), 0),
    ],
)
def test_times_are_in_the_unit_and_from_the_offset_that_the_interface_says(
    tmp_path: Path, options: tuple[tuple[int, bytes], ...], units: int
) -> None:
    found = evidence(section() + interface(*options) + enhanced(0, units, asked()), tmp_path)
    assert found.messages[0].at_ns == T0


def test_obsolete_and_simple_packets_are_read_the_latter_without_a_time(tmp_path: Path) -> None:
    frame = asked()
    head = struct.pack("<HHIIII", 0, 0, *divmod(T0 // 1000, 1 << 32), len(frame), len(frame))
    old = block(2, head + frame)
    simple = block(3, struct.pack("<I", len(answered())) + answered())
    found = evidence(section() + interface() + old + simple, tmp_path)
    assert [(one.at_ns, one.payload) for one in found.messages] == [(T0, QUERY), (T0, ANSWER)]
    assert [one.kind for one in found.troubles] == [Kind.UNSUPPORTED]


def test_what_the_lab_writes_is_read_back_names_comments_losses_and_records(tmp_path: Path) -> None:
    path = tmp_path / "own.pcapng"
    with path.open("wb") as stream:
        writer = writing.Writer(stream, comment="about all", application="acns-lab 0.1.0")
        writer.interface(writing.Interface("frontend/eth0", filter="udp"))
        writer.interface(writing.Interface("node1/shim", link_type=writing.UPPER_PDU))
        writer.names({ip_address(POD).packed: ["frontend"], ip_address("fd00::1").packed: ["six", "sechs"]})
        writer.packet(0, T0, asked(), 900, comments=["query api.example.com A → allowed"])
        writer.packet(1, T0 + 1, writing.upper_pdu("json", b'{"a": 1}'), 24, comments=["shim: committed"])
        writer.statistics(0, writing.Statistics(T0, T0 + 5, delivered=1, dropped=7))
    found = capture.read(path)
    assert found.comment == "about all"
    assert {str(address): names for address, names in found.names.items()} == {
        POD: ("frontend",),
        "fd00::1": ("six", "sechs"),
    }
    assert [(one.text, one.record, one.tap, one.frame) for one in found.decisions] == [
        ("query api.example.com A → allowed", b"", "frontend/eth0", 1),
        ("shim: committed", b'{"a": 1}', "node1/shim", 2),
    ]
    assert found.messages[0].comments == ("query api.example.com A → allowed",)
    assert [(one.name, one.filter, one.dropped) for one in found.taps] == [
        ("frontend/eth0", "udp", 7),
        ("node1/shim", "", None),
    ]
    assert [(one.kind, one.count) for one in found.troubles] == [(Kind.DROPPED, 7)]


def test_comments_of_others_are_comments_and_no_decisions(tmp_path: Path) -> None:
    file = section((4, b"Dumpcap")) + interface() + enhanced(0, 1, asked(), (1, b"look here"))
    found = evidence(file, tmp_path)
    assert (found.messages[0].comments, found.decisions) == (("look here",), ())


# --- what is wrong with a file ------------------------------------------------------------------------------


def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path: Path) -> None:
    for whole in (pcap(TWO), section() + interface() + enhanced(0, 1, asked()) + enhanced(0, 2, answered())):
        found = evidence(whole[:-3], tmp_path)
        assert found.messages[0].payload == QUERY
        assert [one.kind for one in found.troubles if one.kind is not Kind.TRUNCATED] == [Kind.ENDS_EARLY]


def test_a_block_that_lies_about_its_length_ends_the_reading(tmp_path: Path) -> None:
    good = section() + interface() + enhanced(0, 1, asked())
    for length in (0, 4, 11, 13, 0xFFFFFFFC):
        found = evidence(good + struct.pack("<II", 6, length) + bytes(64), tmp_path)
        assert (len(found.messages), [one.kind for one in found.troubles]) == (1, [Kind.MALFORMED])
    assert kinds(good + enhanced(0, 1, answered())[:-4] + b"\1\0\0\0", tmp_path) == [(0, Kind.MALFORMED)]


def test_a_record_that_lies_about_its_length_ends_the_reading(tmp_path: Path) -> None:
    file = pcap(TWO) + struct.pack("<IIII", 1, 1, 0x7FFFFFFF, 60) + bytes(60)
    found = evidence(file, tmp_path)
    assert (len(found.messages), found.troubles[0].frame) == (2, 3)


def test_empty_records_without_end_end_the_reading(tmp_path: Path) -> None:
    """As of a disk's zeros, of which a small file may unpack to millions."""
    found = evidence(pcap(TWO) + bytes(16 * 5_000), tmp_path)
    assert len(found.messages) == 2
    assert found.counts.frames < 1_100
    assert "one record after another is empty" in str(found.troubles[-1])


def test_a_packet_that_is_wrong_in_itself_is_passed_over_and_the_next_is_read(tmp_path: Path) -> None:
    start, good = section() + interface(), enhanced(0, 1, answered())
    longer = block(6, struct.pack("<IIIII", 0, 0, 1, 5_000, 5_000) + bytes(64))
    for wrong in (enhanced(9, 1, asked()), longer, block(6, b"\0" * 8), block(3, b"")):
        found = evidence(start + wrong + good, tmp_path)
        assert [one.payload for one in found.messages] == [ANSWER]
        assert [one.kind for one in found.troubles] == [Kind.MALFORMED]


def test_an_option_longer_than_its_block_costs_the_comments_not_the_packet(tmp_path: Path) -> None:
    frame = asked()
    head = struct.pack("<IIIII", 0, 0, 1, len(frame), len(frame))
    padded = frame + bytes(-len(frame) % 4)
    wrong = block(6, head + padded + struct.pack("<HH", 1, 40_000) + b"abcd")
    found = evidence(section() + interface() + wrong, tmp_path)
    assert ([one.payload for one in found.messages], len(found.troubles)) == ([QUERY], 1)


def test_a_time_that_cannot_be_one_is_that_of_the_frame_before(tmp_path: Path) -> None:
    file = section() + interface((9, b"\x00")) + enhanced(0, T0 // 10**9, asked())
    found = evidence(file + enhanced(0, (1 << 64) - 1, answered()), tmp_path)
    assert [one.at_ns for one in found.messages] == [T0, T0]


def test_the_same_wrong_thing_a_thousand_times_is_one_trouble_with_a_count(tmp_path: Path) -> None:
    (trouble,) = evidence(pcap(paced([b"\0"] * 1_000)), tmp_path).troubles
    assert (trouble.frame, trouble.kind, trouble.count) == (1, Kind.TRUNCATED, 1_000)
    assert str(trouble) == "frame 1: truncated: a frame cut off within its link header (1000 times)"


def test_frames_a_little_out_of_order_are_put_right_and_keep_their_numbers(tmp_path: Path) -> None:
    found = evidence(pcap([TWO[1], TWO[0]]), tmp_path)
    assert [(one.payload, one.frames) for one in found.messages] == [(QUERY, (2,)), (ANSWER, (1,))]


def test_what_goes_past_a_limit_is_a_trouble_or_refused(tmp_path: Path) -> None:
    many = paced([asked(ident=number, port=1024 + number) for number in range(20)], 300 * MS)
    found = evidence(pcap(many), tmp_path, Limits(messages=5))
    assert (len(found.messages), found.troubles[0].kind, found.troubles[0].count) == (5, Kind.TOO_MUCH, 15)
    for limits in (Limits(frames=19), Limits(file_bytes=500)):
        with pytest.raises(InputError, match="more than"):
            evidence(pcap(many), tmp_path, limits)


# --- link types ---------------------------------------------------------------------------------------------

IP = ipv4(POD, SERVER, 17, udp(40_000, 53, QUERY))
IP6 = ipv6("fd00::5", "fd00::2", 17, udp(40_000, 53, QUERY))
HOPS = ipv6("fd00::5", "fd00::2", 17, b"\x11\0" + bytes(6) + udp(40_000, 53, QUERY))
MACS = bytes(12)
LINKS = {
    "vlan": (1, MACS + b"\x81\0\0\x05\x08\0" + IP),
    "vlan in vlan": (1, MACS + b"\x88\xa8\0\1\x81\0\0\2\x08\0" + IP),
    "cooked": (113, b"\0\4\0\1\0\6" + bytes(8) + b"\x08\0" + IP),
    "cooked v2": (276, b"\x08\0\0\0\0\0\0\7\0\1\4\6" + bytes(8) + IP),
    "raw": (101, IP),
    "raw, as BSD numbers it": (12, IP),
    "IPv4 alone": (228, IP),
    "null, little-endian": (0, b"\2\0\0\0" + IP),
    "null, big-endian": (0, b"\0\0\0\2" + IP),
    "loop": (108, b"\0\0\0\2" + IP),
    "IPv6": (1, MACS + b"\x86\xdd" + IP6),
    "IPv6 on macOS's null": (0, b"\x1e\0\0\0" + IP6),
    "IPv6 with a hop-by-hop header": (101, HOPS[:6] + b"\0" + HOPS[7:]),
    "a link checksum's length above the type": (0x2400_0001, MACS + b"\x08\0" + IP + b"fcs!"),
}


@pytest.mark.parametrize("link", LINKS)
def test_the_packet_is_found_behind_each_kind_of_link_header(tmp_path: Path, link: str) -> None:
    number, frame = LINKS[link]
    (message,) = evidence(pcap([(T0, frame)], link=number), tmp_path).messages
    assert (message.payload, message.source.port, message.is_whole) == (QUERY, 40_000, True)


def test_another_link_type_is_named_and_other_packets_are_counted(tmp_path: Path) -> None:
    (trouble,) = evidence(pcap([(T0, bytes(60))], link=105), tmp_path).troubles
    assert (trouble.kind, trouble.detail) == (Kind.UNSUPPORTED, "link type 105")
    arp = MACS + b"\x08\x06" + bytes(28)
    six = MACS + b"\x86\xdd" + IP6
    counts = evidence(pcap(paced([arp, six, asked(), arp])), tmp_path).counts
    assert (counts.frames, counts.ipv4, counts.ipv6, counts.other) == (4, 1, 1, 2)
