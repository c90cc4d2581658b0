"""Packets under other addresses: right checksums stay right, wrong ones wrong, those left out are made."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet, Raw

from lab.repro.scenario import packets

POD, PLACE, SERVER, SERVER_PLACE = "10.3.1.5", "10.244.0.2", "172.20.0.10", "10.96.0.10"
PLACES = {IPv4Address(a).packed: IPv4Address(b).packed for a, b in ((POD, PLACE), (SERVER, SERVER_PLACE))}
TRANSPORTS = [UDP(sport=4_000, dport=53), TCP(sport=4_000, dport=443, flags="SF", seq=7)]


def sent(transport: Packet, payload: bytes = b"abc", **more: int) -> bytes:
    return bytes(IP(src=POD, dst=SERVER, id=9, **more) / transport / Raw(payload))


def as_scapy_does(octets: bytes) -> bytes:
    """With all checksums made anew."""
    made = IP(octets)
    del made.chksum
    del made[1].chksum
    return bytes(made)


def checksum(octets: bytes, at: int) -> int:
    return int.from_bytes(octets[at : at + 2])


def wrong(octets: bytes, at: int) -> bytes:
    return octets[:at] + ((checksum(octets, at) + 0x1234) % 0xFFFF).to_bytes(2) + octets[at + 2 :]


@pytest.mark.parametrize("transport", TRANSPORTS)
@given(payload=st.binary(max_size=40))
def test_right_checksums_are_right_under_other_addresses(transport: Packet, payload: bytes) -> None:
    made = packets.moved(sent(transport, payload), PLACES)
    assert (IP(made).src, IP(made).dst) == (PLACE, SERVER_PLACE)
    assert made == as_scapy_does(made)


@pytest.mark.parametrize(("transport", "at"), [(TRANSPORTS[0], 26), (TRANSPORTS[1], 36), (TRANSPORTS[0], 10)])
def test_a_wrong_checksum_is_as_wrong_under_other_addresses(transport: Packet, at: int) -> None:
    bad, good = (packets.moved(one, PLACES) for one in (wrong(sent(transport), at), sent(transport)))
    assert (checksum(bad, at) - checksum(good, at)) % 0xFFFF == 0x1234


def test_a_datagram_without_a_checksum_stays_without() -> None:
    assert packets.moved(sent(UDP(sport=1, dport=2, chksum=0)), PLACES)[26:28] == b"\0\0"


@pytest.mark.parametrize(("transport", "at"), [(TRANSPORTS[0], 26), (TRANSPORTS[1], 36)])
def test_what_was_left_to_the_network_card_is_finished_and_nothing_else_is(
    transport: Packet, at: int
) -> None:
    right = sent(transport)
    pseudo = right[12:20] + bytes((0, right[9])) + (len(right) - 20).to_bytes(2)
    words = sum(int.from_bytes(pseudo[place : place + 2]) for place in range(0, len(pseudo), 2))
    left = right[:at] + ((words & 0xFFFF) + (words >> 16)).to_bytes(2) + right[at + 2 :]
    assert packets.finished(left) == right == packets.finished(right)
    assert packets.finished(wrong(right, at)) == wrong(right, at)


def test_a_later_fragment_has_no_checksum_to_change() -> None:
    piece = sent(TRANSPORTS[0], bytes(16), frag=3)
    assert packets.moved(piece, PLACES)[20:] == piece[20:]


@given(octets=st.binary(max_size=80))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        parsed = packets.parse(octets.hex())
    except ValueError:
        return
    packets.unit(parsed)
    assert len(packets.moved(packets.finished(parsed), PLACES)) == len(parsed)
