"""Answers in the name of a DNS server that is on this very node: its address and port are in use, by itself.

Of two UDP sockets at one address the more particular gets what comes: one of ours at `172.18.0.1:53` would
take the queries that a server at `0.0.0.0:53` is sent, from the resolver and from everybody else. And where
the server has bound that very address, neither of the two can start while the other is there. So these
answers leave by a raw socket, as all of them do in Cilium, which holds no port. It is slower, and for few.

What this module keeps true: nothing is ever read here. A raw socket is given a copy of every datagram that it
may be about, so this one is connected to an address that sends none.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import Final

from acns.datapath.constants import MARK_FROM_PROXY

_NOBODY: Final = "127.255.255.254"
_UDP_HEADER: Final = struct.Struct("!4H")
_PSEUDO_HEADER: Final = struct.Struct("!4s4sxBH")  # RFC 768
_PACKET_INFO: Final = struct.Struct("=i4s4x")  # struct in_pktinfo
_IP_PKTINFO: Final = 8  # linux/in.h; not in Python's socket module before 3.12
_IP_TRANSPARENT: Final = 19  # as `intercept`'s


class NodeReplies:
    """The socket is made when it is needed first."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def send(self, server: tuple[bytes, int], packet: bytes, to: tuple[str, int]) -> None:
        """Raises OSError."""
        address, port = server
        made = self._socket = self._socket or _raw_socket()
        datagram = udp_datagram(address, port, socket.inet_aton(to[0]), to[1], packet)
        source = (socket.SOL_IP, _IP_PKTINFO, _PACKET_INFO.pack(0, address))
        made.sendmsg([datagram], [source], 0, (to[0], 0))

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None


def is_on_node(address: bytes) -> bool:
    """Whether somebody may serve there: the address is this namespace's. Where anything may be bound
    (`ip_nonlocal_bind`) the answer is yes to all, and answers leave the slower way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((socket.inet_ntoa(address), 0))
        except OSError:
            return False
        return True


def udp_datagram(source: bytes, source_port: int, target: bytes, target_port: int, payload: bytes) -> bytes:
    """With the checksum that RFC 768 wants."""
    length = _UDP_HEADER.size + len(payload)
    header = _UDP_HEADER.pack(source_port, target_port, length, 0)
    pseudo = _PSEUDO_HEADER.pack(source, target, socket.IPPROTO_UDP, length)
    checksum = _checksum(pseudo + header + payload) or 0xFFFF  # 0 would mean that there is none
    return _UDP_HEADER.pack(source_port, target_port, length, checksum) + payload


def _checksum(octets: bytes) -> int:
    """RFC 1071: it may be summed in any byte order, if it is put back in the same."""
    total = sum(memoryview(octets + bytes(len(octets) % 2)).cast("H"))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int.from_bytes((total ^ 0xFFFF).to_bytes(2, sys.byteorder))


def _raw_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
    with contextlib.ExitStack() as on_error:
        on_error.callback(made.close)
        made.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_FROM_PROXY)
        made.connect((_NOBODY, 0))
        on_error.pop_all()
    return made
