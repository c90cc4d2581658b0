"""Capture filters: an expression in pcap-filter(7)'s language, compiled by the system's libpcap.

The program that comes out is attached to a packet socket (SO_ATTACH_FILTER), so what is not wanted costs no
copy. Its return value is how much of a packet is kept: a ring that must hold as long as possible keeps DNS
whole and of everything else the beginning.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from ctypes.util import find_library
from typing import Final

from lab.errors import EnvironmentFault, InputError

WHOLE_BYTES: Final = 1 << 18
_DLT_EN10MB: Final = 1
_RETURN_CONSTANT: Final = 0x06
_SO_ATTACH_FILTER: Final = 26
_ERROR_BYTES: Final = 256
_INSTRUCTION: Final = struct.Struct("HBBI")
_PROGRAM: Final = struct.Struct("HxxxxxxP")

# Later fragments have no ports; ICMP tells why something failed.
_WHOLE: Final = "port 53 or (ip[6:2] & 0x1fff != 0) or icmp or icmp6 or arp"
START_BYTES: Final = 640
"""Ethernet to TCP options, and a TLS greeting with the name in it."""


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_uint), ("instructions", ctypes.c_void_p))


def compiled(expression: str, keep_bytes: int = WHOLE_BYTES) -> bytes:
    """The instructions of a filter that keeps so much of what it matches. Raises InputError where libpcap
    does not understand it, EnvironmentFault where there is no libpcap."""
    pcap = _libpcap()
    handle = ctypes.c_void_p(pcap.pcap_open_dead(_DLT_EN10MB, keep_bytes))
    program = _Program()
    try:
        if pcap.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, 0xFFFFFFFF) != 0:
            said = ctypes.cast(pcap.pcap_geterr(handle), ctypes.c_char_p).value or b""
            raise InputError(
                f"'{expression}' is no capture filter: {said.decode(errors='replace')}",
                hint="as in --filter 'udp port 53 or host 198.51.100.10'; man pcap-filter has the language",
            )
        size = program.count * _INSTRUCTION.size
        octets = ctypes.string_at(program.instructions, size) if size else b""
        pcap.pcap_freecode(ctypes.byref(program))
        return octets
    finally:
        pcap.pcap_close(handle)


def beginnings() -> bytes:
    """DNS, fragments and ICMP whole; of everything else the first `START_BYTES`."""
    found = _INSTRUCTION.iter_unpack(compiled(_WHOLE))
    return b"".join(
        _INSTRUCTION.pack(code, yes, no, START_BYTES if code == _RETURN_CONSTANT and value == 0 else value)
        for code, yes, no, value in found
    )


def attach(opened: socket.socket, program: bytes) -> None:
    """Let only what the program keeps come in from now on."""
    buffer = ctypes.create_string_buffer(program, len(program))
    count = len(program) // _INSTRUCTION.size
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(count, ctypes.addressof(buffer)))


def _libpcap() -> ctypes.CDLL:
    try:
        pcap = ctypes.CDLL("libpcap.so.0.8")
    except OSError:
        try:
            pcap = ctypes.CDLL(find_library("pcap") or "libpcap.so")
        except OSError as error:
            raise EnvironmentFault(
                "there is no libpcap to compile a capture filter", hint="apt install libpcap0.8"
            ) from error
    pcap.pcap_open_dead.restype = pcap.pcap_geterr.restype = ctypes.c_void_p
    return pcap
