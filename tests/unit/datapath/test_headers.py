"""Headers of packets that a pod made: read as far as they can be, whatever they say."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.datapath import headers
from acns.datapath.headers import Headers

A, B = IPv4Address("10.244.0.2"), IPv4Address("198.51.100.7")
A6, B6 = IPv6Address("fd00::2"), IPv6Address("2001:db8::7")
SYN_ECE = 0x042


def ipv4(protocol: int, rest: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    length = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | length // 4, 0, length + len(rest), 1, fragment, 64, protocol, 0)
    return head + A.packed + B.packed + options + rest


def ipv6(protocol: int, rest: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(rest), protocol, 64) + A6.packed + B6.packed + rest


def tcp(flags: int = SYN_ECE) -> bytes:
    return struct.pack("!HHIIHHHH", 40000, 443, 7, 0, 5 << 12 | flags, 1024, 0, 0)


UDP = struct.pack("!HHHH", 5353, 53, 8, 0)


def test_tcp_over_ipv4_with_options_is_read_behind_them() -> None:
    expected = Headers(A, B, headers.TCP, 40000, 443, SYN_ECE)
    assert headers.parse(ipv4(6, tcp())) == expected
    assert headers.parse(ipv4(6, tcp(), options=bytes(40))) == expected


def test_udp_and_icmp_are_read() -> None:
    assert headers.parse(ipv4(17, UDP + b"a name of some length")) == Headers(A, B, headers.UDP, 5353, 53)
    assert headers.parse(ipv4(1, bytes([8, 3, 0, 0]))) == Headers(A, B, 1, icmp_type=8, icmp_code=3)


def test_the_ninth_flag_of_tcp_is_read() -> None:
    found = headers.parse(ipv4(6, tcp(0x1FF)))
    assert found is not None
    assert found.tcp_flags == 0x1FF


def test_ports_are_not_read_out_of_later_fragments() -> None:
    assert headers.parse(ipv4(17, UDP, fragment=1)) == Headers(A, B, headers.UDP)
    assert headers.parse(ipv4(17, UDP, fragment=0x2000)) == Headers(A, B, headers.UDP, 5353, 53)  # the first


def test_ipv6_is_read_behind_its_extension_headers() -> None:
    expected = Headers(A6, B6, headers.TCP, 40000, 443, SYN_ECE)
    assert headers.parse(ipv6(6, tcp())) == expected
    hop_by_hop = bytes([60, 1, *[0xFF] * 14])
    destination = bytes([44, 0, *bytes(6)])
    first_fragment = bytes([6, 0, 0, 1, 0, 0, 0, 9])
    assert headers.parse(ipv6(0, hop_by_hop + destination + first_fragment + tcp())) == expected
    later_fragment = bytes([6, 0, 0, 8, 0, 0, 0, 9])
    assert headers.parse(ipv6(44, later_fragment + tcp())) == Headers(A6, B6, headers.TCP)


def test_extension_headers_without_end_are_not_followed_for_ever() -> None:
    chain = bytes([0, 0, *bytes(6)]) * 1_000 + bytes([6, 0, *bytes(6)])
    assert headers.parse(ipv6(0, chain + tcp())) == Headers(A6, B6, 0)


@pytest.mark.parametrize("packet", [b"", b"\x45", bytes(19), bytes(60), b"\x60" + bytes(38), b"\x50" * 40])
def test_what_is_no_ip_packet_has_no_headers(packet: bytes) -> None:
    assert headers.parse(packet) is None


@pytest.mark.parametrize("cut", range(20, 40))
def test_what_is_cut_off_is_missing_and_nothing_else(cut: int) -> None:
    found = headers.parse(ipv4(6, tcp())[:cut])
    assert found is not None
    assert (found.source_port is None) == (cut < 24)
    assert (found.tcp_flags is None) == (cut < 34)


def test_a_header_that_claims_to_be_shorter_than_it_can_be_has_no_ports() -> None:
    packet = bytearray(ipv4(6, tcp()))
    packet[0] = 0x41
    assert headers.parse(bytes(packet)) == Headers(A, B, headers.TCP)


def test_icmp_without_its_code_is_not_guessed_at() -> None:
    assert headers.parse(ipv4(1, b"\x08")) == Headers(A, B, headers.ICMP)


@given(st.sampled_from([b"", b"\x45", b"\x4f", b"\x60"]), st.binary(max_size=200))
def test_no_bytes_make_reading_fail(start: bytes, rest: bytes) -> None:
    headers.parse(start + rest)
