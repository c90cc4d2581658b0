"""Capture filters: what libpcap makes of them, and what is said of those it does not understand."""

from __future__ import annotations

import struct

import pytest

from lab.capture import bpf
from lab.errors import InputError


def kept(program: bytes, datagram: bytes, port: int) -> int:
    """How much of a frame with this datagram the program keeps: run by hand, as the kernel would."""
    udp = struct.pack("!HHHH", 40000, port, 8 + len(datagram), 0) + datagram
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    return run(program, bytes(12) + b"\x08\x00" + ip + udp)


def run(program: bytes, frame: bytes) -> int:
    """A classic BPF machine, as far as these programs need one (Linux' filter.rst)."""
    code = list(struct.iter_unpack("HBBI", program))
    at = accumulator = index = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        match operation:
            case 0x28:
                accumulator = int.from_bytes(frame[value : value + 2], "big")
            case 0x30:
                accumulator = frame[value]
            case 0x48:
                accumulator = int.from_bytes(frame[index + value : index + value + 2], "big")
            case 0xB1:
                index = 4 * (frame[value] & 0xF)
            case 0x15:
                at += yes if accumulator == value else no
            case 0x45:
                at += yes if accumulator & value else no
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"operation {operation:#x} is not known here")


def test_of_everything_but_dns_the_ring_keeps_the_beginning_only() -> None:
    program = bpf.beginnings()
    assert kept(program, b"x" * 2000, 53) >= 65535
    assert kept(program, b"x" * 2000, 443) == bpf.START_BYTES


def test_a_filter_keeps_what_it_names_whole_and_nothing_else() -> None:
    program = bpf.compiled("udp port 4711")
    assert kept(program, b"x", 4711) >= 65535
    assert kept(program, b"x", 4712) == 0


def test_a_filter_that_is_none_is_the_users_mistake_and_is_quoted() -> None:
    with pytest.raises(InputError, match=r"'udp prt 53' is no capture filter: .*syntax error") as caught:
        bpf.compiled("udp prt 53")
    assert "pcap-filter" in caught.value.hint
