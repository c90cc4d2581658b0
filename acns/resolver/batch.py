"""Many datagrams in one system call each way (recvmmsg, sendmmsg), forwarded from where they were received.

One call for each datagram has its price, and so have the address tuples that Python's own socket methods make
and that are only handed back. So datagrams are received into places that lie ready, each laid out so that
what is needed together lies together:

    ID (2) · peer's sockaddr (16) · control data with the sockaddr that was asked (32, at listeners) · rest

One slice is then all that is known of a datagram (`Key` in `udp_query`), another the key of its judgement. To
send it on, its ID, and for an answer its peer, are written over, and its length is said: the headers to send
by lie ready, too, and so do those to answer a query by, to its peer. What this module keeps true: a place is
only read up to what the kernel has just written, and control data that are missing are never those of an
earlier datagram.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import sys
from typing import Final

from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import MAX_MESSAGE_BYTES, Address

DATAGRAMS: Final = 32
"""Received at once; then others get their turn."""
SOCKADDR_BYTES: Final = 16
CONTROL_BYTES: Final = socket.CMSG_SPACE(SOCKADDR_BYTES)
PEER_AT: Final = ID_BYTES
_CONTROL_AT: Final = PEER_AT + SOCKADDR_BYTES
PLACE_AT: Final = _CONTROL_AT + socket.CMSG_LEN(0)
"""Where the sockaddr of the server that was asked is."""
QUERY_AT: Final = _CONTROL_AT + CONTROL_BYTES
"""Where a query goes on behind its ID, at a listener."""
ANSWER_AT: Final = _CONTROL_AT
"""Where an answer goes on, at an upstream socket."""
_STRIDE: Final = MAX_MESSAGE_BYTES + 1 + 2 * 64
"""No multiple of a page: places at the same distance would be in each other's way in the cache."""
_DONTWAIT: Final = int(socket.MSG_DONTWAIT)


class _Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("message", _Message), ("length", ctypes.c_uint32))


_HEADER_BYTES: Final = ctypes.sizeof(_Header)
_WORDS: Final = _HEADER_BYTES // 8
_CONTROL_WORD: Final = _Message.control_length.offset // 8
_HALVES: Final = _HEADER_BYTES // 4
_LENGTH_HALF: Final = _Header.length.offset // 4

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Batch:
    """Room for `DATAGRAMS`, and the headers to receive them and to send them on. `control`: as at listeners.

    `starts` are the beginnings of the places in `memory`; `lengths` is what is sent of each behind its ID, at
    every second number.
    """

    def __init__(self, *, control: bool) -> None:
        self.memory = mmap.mmap(-1, DATAGRAMS * _STRIDE)  # the kernel gives a page when it is written to
        self.starts: Final = tuple(range(0, DATAGRAMS * _STRIDE, _STRIDE))
        self._control = control
        self._rest_at = QUERY_AT if control else ANSWER_AT
        base = _address(self.memory)
        # What is received is sent on to the server that was asked, or to the peer that is written over.
        to_at = PLACE_AT if control else PEER_AT
        self._parts_in, self._parts_out = (self._parts(base) for _ in range(2))
        incoming = self._headers(base, self._parts_in, PEER_AT, control=control)
        self._outgoing = self._headers(base, self._parts_out, to_at, control=False)
        self._returning = self._headers(base, self._parts_out, PEER_AT, control=False)
        self._fresh = bytes(incoming)
        self._used = 0
        """Headers that the kernel has written to, from the first."""
        self._incoming = incoming
        self._view = memoryview(incoming).cast("B")
        self._halves, self._words = self._view.cast("I"), self._view.cast("Q")
        self._in_at, self._out_at = ctypes.addressof(incoming), ctypes.addressof(self._outgoing)
        self._back_at = ctypes.addressof(self._returning)
        self.lengths = memoryview(self._parts_out).cast("B").cast("Q")[3::4]

    def receive(self, descriptor: int) -> list[int]:
        """The lengths of what has come, with IDs; empty where nothing has, or an error was reported."""
        used = self._used * _HEADER_BYTES
        self._view[:used] = self._fresh[:used]
        count = self._used = max(0, _recvmmsg(descriptor, self._in_at, DATAGRAMS, _DONTWAIT, None))
        if not count:
            return []
        lengths = self._halves[_LENGTH_HALF : count * _HALVES : _HALVES].tolist()
        if self._control and self._words[_CONTROL_WORD : count * _WORDS : _WORDS].tolist() != _WHOLE[:count]:
            self._clear_control(count)
        return lengths

    def send(self, descriptor: int, first: int, end: int) -> int:
        """Send datagrams on, as far as that goes at once. Raises OSError when the first cannot be sent."""
        return _send(descriptor, self._out_at + first * _HEADER_BYTES, end - first)

    def send_back(self, descriptor: int, first: int, end: int) -> int:
        """The same, to their peers: from a listener, back to who asked."""
        return _send(descriptor, self._back_at + first * _HEADER_BYTES, end - first)

    def put(self, number: int, rest: bytes) -> None:
        """Something else than what came, behind the ID."""
        at = self.starts[number] + self._rest_at
        self.memory[at : at + len(rest)] = rest
        self.lengths[number] = len(rest)

    def packet(self, number: int, length: int) -> bytes:
        """A datagram as it came."""
        start = self.starts[number]
        rest = start + self._rest_at
        return (self.memory[start : start + ID_BYTES] + self.memory[rest : rest + length - ID_BYTES])[:length]

    def peer(self, number: int) -> Address:
        """Whom it came from."""
        at = self.starts[number] + PEER_AT
        return address_of(self.memory[at : at + SOCKADDR_BYTES])

    def _parts(self, base: int) -> ctypes.Array[_Part]:
        made = (_Part * (2 * DATAGRAMS))()
        for number, start in enumerate(self.starts):
            made[2 * number] = _Part(base + start, ID_BYTES)
            made[2 * number + 1] = _Part(base + start + self._rest_at, MAX_MESSAGE_BYTES - ID_BYTES)
        return made

    def _headers(
        self, base: int, parts: ctypes.Array[_Part], name_at: int, *, control: bool
    ) -> ctypes.Array[_Header]:
        made = (_Header * DATAGRAMS)()
        for number, start in enumerate(self.starts):
            message = made[number].message
            message.name, message.name_length = base + start + name_at, SOCKADDR_BYTES
            message.parts = ctypes.addressof(parts) + 2 * number * ctypes.sizeof(_Part)
            message.part_count = 2
            if control:
                message.control, message.control_length = base + start + _CONTROL_AT, CONTROL_BYTES
        return made

    def _clear_control(self, count: int) -> None:
        """Where the kernel has written none, or part of it."""
        for number in range(count):
            if self._words[number * _WORDS + _CONTROL_WORD] != CONTROL_BYTES:
                at = self.starts[number] + _CONTROL_AT
                self.memory[at : at + CONTROL_BYTES] = bytes(CONTROL_BYTES)


_WHOLE: Final = [CONTROL_BYTES] * DATAGRAMS


def _send(descriptor: int, headers_at: int, count: int) -> int:
    sent = int(_sendmmsg(descriptor, headers_at, count, _DONTWAIT))
    if sent < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return sent


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def address_of(sockaddr: bytes) -> Address:
    """Address and port, as Python's own sockets have them."""
    return socket.inet_ntoa(sockaddr[4:8]), int.from_bytes(sockaddr[2:4])


def sockaddr_of(address: bytes, port: int) -> bytes:
    """As the kernel writes it."""
    return socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2) + address + bytes(8)
