"""Packets that no step says are kept with what came of them; what any step says is not."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lab.repro.importing import importer
from lab.repro.importing import odd as odd_packets
from lab.repro.importing.given import Given
from lab.repro.importing.odd import MAX_ODD
from lab.repro.reading.evidence import Evidence, Limits, Odd
from lab.repro.scenario import load

from . import made
from .made import ACK, FIN, MS, POD, RST, SYN, T0, WEB, asked, ethernet, ipv4, paced, tcp

LOOP = made.QUERY[:12] + b"\3api\xc0\x0c\0\1\0\1"


def read(tmp_path: Path, frames: list[bytes], *, step_ns: int = MS, limits: Limits | None = None) -> Evidence:
    path = tmp_path / "x.pcap"
    path.write_bytes(made.pcap(paced(frames, step_ns)))
    return made.capture.read(path, limits or Limits())


def odd(tmp_path: Path, *frames: bytes) -> list[Odd]:
    return list(read(tmp_path, list(frames)).odd)


def segment(flags: int, *, ttl: int = 64, ident: int = 3) -> bytes:
    return ethernet(ipv4(POD, WEB, 6, tcp(50_000, 443, flags, 1_000), ttl=ttl, ident=ident))


def back(flags: int) -> bytes:
    return ethernet(ipv4(WEB, POD, 6, tcp(443, 50_000, flags, 0, 1_001), ident=4))


@pytest.mark.parametrize("flags", [0, FIN, FIN | 0x28, SYN | FIN, SYN | RST, RST | FIN])
def test_flags_that_contradict_each_other_are_kept_octet_by_octet(tmp_path: Path, flags: int) -> None:
    [found] = odd(tmp_path, segment(flags))
    assert found.packets == (segment(flags)[14:],)
    assert (str(found.source), str(found.destination)) == (POD, WEB)


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, SYN | 0xC0])
def test_flags_that_every_tcp_sends_are_not(tmp_path: Path, flags: int) -> None:
    assert odd(tmp_path, segment(flags)) == []


def test_what_came_back_is_told(tmp_path: Path) -> None:
    [found] = odd(tmp_path, segment(SYN | FIN), back(RST | ACK))
    assert found.replies == ("rst",)


def test_an_icmp_error_that_came_back_is_told(tmp_path: Path) -> None:
    error = struct.pack("!BBHI", 3, 13, 0, 0) + segment(SYN | FIN)[14:42]
    [found] = odd(tmp_path, segment(SYN | FIN), ethernet(ipv4("10.244.0.1", POD, 1, error)))
    assert found.replies == ("icmp-3/13",)


def test_what_was_heard_behind_a_router_was_let_through_and_other_packets_were_held(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    frames = [segment(SYN | FIN), segment(SYN | FIN, ttl=63), segment(FIN, ident=5)]
    cooked = [bytes(14) + b"\x08\0" + frame[14:] for frame in frames]
    path.write_bytes(made.pcap(paced(cooked), link=113))
    passed, held = made.capture.read(path).odd
    assert (passed.was_routed, held.was_routed) == (True, False)


def test_a_capture_of_one_side_says_nothing_of_what_was_let_through(tmp_path: Path) -> None:
    [found] = odd(tmp_path, segment(SYN | FIN))
    assert found.was_routed is None


def test_a_query_whose_name_is_a_loop_is_kept_and_a_plain_one_is_not(tmp_path: Path) -> None:
    [found] = odd(tmp_path, asked(), asked(LOOP, ident=9))
    assert found.packets == (asked(LOOP, ident=9)[14:],)


def test_a_datagram_in_fragments_is_one_with_all_its_pieces(tmp_path: Path) -> None:
    whole = made.udp(40_000, 53, made.QUERY)
    pieces = [
        ethernet(ipv4(POD, made.SERVER, 17, whole[:16], ident=5, fragment=0x2000)),
        ethernet(ipv4(POD, made.SERVER, 17, whole[16:], ident=5, fragment=2)),
    ]
    [found] = odd(tmp_path, *pieces)
    assert found.packets == tuple(piece[14:] for piece in pieces)


@pytest.mark.parametrize("spoilt", [b"\x44", b"\x4f"])
def test_a_packet_whose_header_cannot_be_is_kept_once(tmp_path: Path, spoilt: bytes) -> None:
    packet = spoilt + segment(SYN)[15:]
    again = packet[:8] + b"\x3f" + packet[9:]
    [found] = odd(tmp_path, ethernet(packet)[:14] + packet, ethernet(packet)[:14] + again)
    assert found.packets == (packet,)


def test_what_is_left_out_takes_no_room_from_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd_packets, "MAX_OCTETS", 100)
    nowhere = [
        ethernet(ipv4(POD, "224.0.0.9", 6, tcp(50_000, 443, FIN, 1), ident=number)) for number in range(20)
    ]
    (tmp_path / "x.pcap").write_bytes(made.pcap(paced([asked(), *nowhere, segment(FIN)])))
    scenario = importer.imported(tmp_path / "x.pcap", Given())
    assert [step.kind for step in scenario.steps if step.wire] == ["wire"]
    assert any("20 odd packets are left out" in one for one in scenario.assumptions)


@pytest.mark.parametrize("first", [b"\x55", b"\x65", b"\0"])
def test_what_is_of_no_ip_version_is_not_kept(tmp_path: Path, first: bytes) -> None:
    packet = first + segment(SYN)[15:]
    (tmp_path / "x.pcap").write_bytes(made.pcap(paced([asked(), ethernet(packet)[:12] + b"\x08\0" + packet])))
    assert importer.imported(tmp_path / "x.pcap", Given()).steps[1:] == ()
    assert odd(tmp_path, ethernet(packet)[:12] + b"\x08\0" + packet) == []


def test_what_the_snap_length_cut_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(made.pcap([(T0, segment(SYN | FIN))], snap=50))
    assert made.capture.read(path).odd == ()


def test_no_more_are_taken_in_than_the_limits_let(tmp_path: Path) -> None:
    frames = [segment(FIN, ident=number + 10) for number in range(20)]
    found = read(tmp_path, frames, limits=Limits(odd=10))
    assert len(found.odd) == 5
    assert any("odd packets" in one.detail for one in found.troubles)


@pytest.mark.parametrize("limits", [Limits(odd=40), Limits(odd_bytes=40 * 40)], ids=["packets", "octets"])
def test_packets_of_others_take_no_room_from_those_of_a_pod(tmp_path: Path, limits: Limits) -> None:
    others = [
        ethernet(ipv4(f"203.0.113.{number % 3 + 1}", POD, 6, tcp(50_000, 443, FIN, 1), ident=number))
        for number in range(300)
    ]
    found = read(tmp_path, [*others, segment(FIN)], limits=limits, step_ns=1_000).odd
    assert [str(one.source) for one in found].count(POD) == 1
    assert len(found) <= 40


# --- what comes back on fragments ---------------------------------------------------------------------------


def pieces(ident: int = 5, *, protocol: int = 17, port: int = 40_000) -> list[bytes]:
    whole = made.udp(port, 7_000, bytes(24))
    parts = ((whole[:16], 0x2000), (whole[16:], 2))
    return [ethernet(ipv4(POD, WEB, protocol, body, ident=ident, fragment=offset)) for body, offset in parts]


def icmp(about: bytes) -> bytes:
    return ethernet(ipv4("10.244.0.1", POD, 1, struct.pack("!BBHI", 3, 13, 0, 0) + about[14:42], ident=77))


def test_what_comes_from_the_same_place_to_another_port_is_no_reply_to_fragments(tmp_path: Path) -> None:
    other = ethernet(ipv4(WEB, POD, 17, made.udp(7_000, 41_111, b"x"), ident=8))
    reply = ethernet(ipv4(WEB, POD, 17, made.udp(7_000, 40_000, b"x"), ident=9))
    assert odd(tmp_path, *pieces(), other)[0].replies == ()
    assert odd(tmp_path, *pieces(), other, reply)[0].replies == ("answered",)


def test_an_icmp_error_is_the_reply_to_the_datagram_that_it_quotes(tmp_path: Path) -> None:
    first, second = odd(tmp_path, *pieces(5), *pieces(6), icmp(pieces(5)[1]))
    assert (first.replies, second.replies) == (("icmp-3/13",), ())


def test_what_would_be_a_later_fragments_ports_is_not_looked_at(tmp_path: Path) -> None:
    """Its octets are of the sender's choice: they must not name another's packet."""
    first, later = segment(SYN | FIN), struct.pack("!HH", 50_000, 443) + bytes(20)
    stray = ethernet(ipv4(POD, WEB, 6, later, ident=99, fragment=9))
    found = odd(tmp_path, first, stray, icmp(stray))
    assert [one.replies for one in found] == [(), ("icmp-3/13",)]


def test_a_packet_whose_header_cannot_be_has_no_replies_but_errors_that_quote_it(tmp_path: Path) -> None:
    spoilt = ethernet(segment(SYN)[14:])[:14] + b"\x44" + segment(SYN)[15:]
    assert odd(tmp_path, spoilt, back(RST | ACK))[0].replies == ()
    assert odd(tmp_path, spoilt, icmp(spoilt))[0].replies == ("icmp-3/13",)


def test_a_scenario_has_those_of_its_pods_under_the_lab_s_addresses_and_reads_as_the_same(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.pcap"
    frames = [asked(), asked(LOOP, ident=9), segment(SYN | FIN), back(RST)]
    frames += [segment(FIN, ident=number + 10) for number in range(MAX_ODD + 3)]
    path.write_bytes(made.pcap(paced(frames)))
    scenario = importer.imported(path, Given())
    place = scenario.pods[0].address
    assert place is not None
    wired = [step for step in scenario.steps if step.wire]
    assert [step.kind for step in wired[:2]] == ["ask", "wire"]
    assert all(bytes.fromhex(step.wire[0])[12:16] == place.packed for step in wired)
    assert wired[1].outcome == "rst"
    assert len(wired) == MAX_ODD
    assert any("left out: more than" in one for one in scenario.assumptions)
    assert load.loads(load.dumps(scenario), "x") == scenario
