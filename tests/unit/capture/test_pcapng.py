"""The writer against two readers: Wireshark's and scapy's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from lab.capture import pcapng
from lab.capture.pcapng import Interface, Statistics, Writer

FRAME = bytes.fromhex(
    "0200000000020200000000010800"  # Ethernet
    "4500001f000100004011668d0a0000010a0000029c40115c000b0000616263"  # IPv4, UDP 40000 → 4444, "abc"
)
TIME_NS = 1_700_000_000_123_456_789


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.pcapng"
    with path.open("wb") as stream:
        writer = Writer(stream, comment="about all", hardware="hard", os="Linux", application="the lab")
        writer.interface(Interface("frontend/eth0", "heard", filter="udp"))
        writer.interface(Interface("node1/shim", link_type=pcapng.UPPER_PDU))
        writer.names({b"\x0a\0\0\1": ["frontend"], b"\x0a\0\0\2": ["api.example.com"]})
        writer.packet(0, TIME_NS, FRAME, 1500, direction=pcapng.OUTBOUND, comments=["first → ü", "second"])
        writer.packet(1, TIME_NS + 1, pcapng.upper_pdu("json", b'{"a": 1}'), 24, comments=["alone"])
        writer.statistics(0, Statistics(TIME_NS, TIME_NS + 5, delivered=1, dropped=7, comment="seven lost"))
    return path


def tshark(path: Path, *arguments: str) -> str:
    done = subprocess.run(["tshark", "-r", str(path), *arguments], capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert (done.returncode, said) == (0, [])
    return done.stdout


def test_tshark_reads_it_without_a_word_and_finds_its_comments(file: Path) -> None:
    fields = ("frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment")
    options = [option for field in fields for option in ("-e", field)]
    found = tshark(file, "-Y", 'frame.comment contains "first → ü"', "-T", "fields", *options)
    name, time_s, length, kept, comments = found.rstrip("\n").split("\t")
    assert (name, length, kept) == ("frontend/eth0", "1500", str(len(FRAME)))
    assert time_s == "1700000000.123456789"
    assert comments == "first → ü,second"


def test_tshark_knows_the_names_and_the_direction(file: Path) -> None:
    assert "frontend → api.example.com" in tshark(file, "-N", "n", "-Y", "udp")
    assert tshark(file, "-Y", "udp", "-T", "fields", "-e", "frame.packet_flags_direction").strip() in (
        "2",
        "0x00000002",
    )


def test_what_an_agent_wrote_is_dissected_as_json(file: Path) -> None:
    (packet,) = json.loads(tshark(file, "-Y", 'frame.comment contains "alone"', "-T", "json"))
    layers = packet["_source"]["layers"]
    assert layers["frame"]["frame.interface_id_tree"]["frame.interface_name"] == "node1/shim"
    assert "json" in layers


def test_capinfos_says_what_the_whole_is_and_that_it_is_nanoseconds(file: Path) -> None:
    said = subprocess.run(["capinfos", str(file)], capture_output=True, text=True, check=True).stdout
    for wanted in (
        "nanoseconds (9)",
        "about all",
        "the lab",
        "Name = frontend/eth0",
        "Number of stat entries = 1",
    ):
        assert wanted in said


def test_scapy_reads_the_same_packet(file: Path) -> None:
    from scapy.utils import RawPcapNgReader

    with RawPcapNgReader(str(file)) as reader:
        data, metadata = next(iter(reader))
    assert data == FRAME
    assert (metadata.tshigh << 32 | metadata.tslow, metadata.wirelen) == (TIME_NS, 1500)
    assert metadata.comments == ["first → ü".encode(), b"second"]


def test_a_comment_without_end_is_cut_between_characters(tmp_path: Path) -> None:
    path = tmp_path / "long.pcapng"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.interface(Interface("i"))
        writer.packet(0, TIME_NS, FRAME, len(FRAME), comments=["→" * 30_000])
    assert tshark(path, "-T", "fields", "-e", "frame.comment").strip("\n").strip("→") == ""


def test_an_address_with_more_names_than_a_record_holds_has_several_and_none_is_lost(tmp_path: Path) -> None:
    names = [f"{number:05}.many.example.com" for number in range(4_000)]
    path = tmp_path / "many.pcapng"
    with path.open("wb") as stream:
        writer = Writer(stream, comment="", hardware="", os="", application="")
        writer.names({b"\x0a\0\0\1": [*names, "x" * 70_000]})
    written = path.read_bytes()
    assert [name for name in names if name.encode() + b"\0" not in written] == []
