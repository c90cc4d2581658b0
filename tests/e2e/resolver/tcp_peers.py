"""The ends of a TCP connection through the resolver: a pod, and the DNS server that it asks."""

from __future__ import annotations

import socket
import struct

from .resolver_world import SERVER, WAIT_S, Bench


def pod_connection(bench: Bench, address: str = SERVER) -> socket.socket:
    return bench.keep(bench.world.pod.connect(address))


def listening(bench: Bench) -> socket.socket:
    return bench.keep(bench.world.dns.listen(SERVER, 53))


def accepted(bench: Bench, listener: socket.socket) -> socket.socket:
    stream = bench.keep(listener.accept()[0])
    stream.settimeout(WAIT_S)
    return stream


def closed_by_peer(stream: socket.socket) -> bool:
    try:
        return stream.recv(1) == b""
    except ConnectionResetError:
        return True


def small_window() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(WAIT_S)
    made.connect((SERVER, 53))
    return made


def long_answer(asked: bytes, octets: int = 65_535) -> bytes:
    """So many, 65,535 at most: strings in a TXT record."""
    head = asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked[12 : asked.index(b"\0\x00\x10\0\x01", 12) + 5]
    room = octets - len(head) - 12
    strings = (b"\xff" + b"x" * 255) * (room // 256) + bytes((room % 256 - 1,)) + b"y" * (room % 256 - 1)
    return head + b"\xc0\x0c\0\x10\0\x01\0\0\x01\x2c" + struct.pack("!H", len(strings)) + strings
