"""Netlink by struct: requests and dumps, and the attributes they are made of.

No event loop and no import worth a name: the agents call this from inside theirs, which pyroute2's sockets
refuse to work in. What a socket keeps true: when a call returns, the kernel has answered it; lost messages
(ENOBUFS) and dumps that changed midway (EINTR) are noticed, never guessed over.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator

from acns.errors import EnvironmentFault, PeerError

NETFILTER, ROUTE = 12, 0
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
ERROR, DONE = 2, 3
NESTED = 0x8000

_KIND_MASK = 0x3FFF
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER_BYTES = 4 << 20
_READ_BYTES = 1 << 18
_TRIES = 20
_PATIENCE_S = 30  # commits wait for each other, a large ruleset takes part of a second

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")

Attributes = dict[int, bytes]


class Refused(PeerError):
    """The kernel answered with an errno."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what}: {os.strerror(number)} ({errno.errorcode.get(number, number)})")
        self.number = number


class Lost(PeerError):
    """Answers were lost: what became of the request is not known."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def nested(kind: int, value: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, value)


def text(kind: int, value: str) -> bytes:
    """A name."""
    return attribute(kind, value.encode() + b"\0")


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """All attributes in order."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _KIND_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += length + (-length % 4)


def attributes(data: bytes) -> Attributes:
    """Kind → value; of repeated kinds the last."""
    return dict(walk(data))


def name(value: bytes) -> str:
    """The text of a name attribute."""
    return value.rstrip(b"\0").decode("utf-8", "replace")


def packed(message_type: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message with its header."""
    return _HEADER.pack(_HEADER.size + len(body), message_type, flags, sequence, 0) + body


def error_number(body: bytes) -> int:
    """The errno in an error message; 0 is an acknowledgement."""
    return -int(struct.unpack_from("=i", body)[0])


class NetlinkSocket:
    """A netlink socket in the namespace of the thread that makes it. Blocking; for one thread."""

    def __init__(self, protocol: int, *, groups: int = 0) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self.socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        except OSError as error:
            hint = "the kernel needs CONFIG_NF_TABLES" if protocol == NETFILTER else ""
            raise EnvironmentFault(f"no netlink socket: {error}", hint=hint) from error
        self._sequence = itertools.count(1)
        self._enlarge(_SO_SNDBUFFORCE, socket.SO_SNDBUF)
        self._enlarge(_SO_RCVBUFFORCE, socket.SO_RCVBUF)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _PATIENCE_S, 0))
        self.socket.bind((0, groups))

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def next_sequence(self) -> int:
        """A number for the next message."""
        return next(self._sequence)

    def request(self, message_type: int, flags: int, body: bytes, what: str) -> None:
        """One acknowledged change. Raises Refused."""
        sequence = self.next_sequence()
        self.send(packed(message_type, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, body), what)
        for kind, number, _, answer in self.replies(what):
            if kind == ERROR and number == sequence:
                return self._check(answer, what)
        return None

    def dump(self, message_type: int, body: bytes, what: str) -> list[bytes]:
        """The bodies of all objects, from a dump that nothing changed meanwhile. Raises Refused or Lost."""
        for _ in range(_TRIES):
            try:
                return self._dump_once(message_type, body, what)
            except InterruptedError:
                continue
        raise Lost(f"{what}: it never stood still", hint="another program rewrites it in a loop")

    def send(self, data: bytes, what: str) -> None:
        """Send, forgetting answers to requests that were given up on."""
        self._drop_leftovers()
        try:
            self.socket.sendto(data, (0, 0))
        except OSError as error:
            raise EnvironmentFault(f"{what}: {error}", hint="large batches need CAP_NET_ADMIN") from error

    def replies(self, what: str) -> Iterator[tuple[int, int, int, bytes]]:
        """Message type, sequence, flags and body of all that comes; the caller knows which is the last."""
        while True:
            data = self._receive(what)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, message_type, flags, sequence, _ = _HEADER.unpack_from(data, offset)
                yield message_type, sequence, flags, data[offset + _HEADER.size : offset + length]
                offset += length + (-length % 4)

    def _dump_once(self, message_type: int, body: bytes, what: str) -> list[bytes]:
        sequence = self.next_sequence()
        self.send(packed(message_type, NLM_F_REQUEST | NLM_F_DUMP, sequence, body), what)
        found, interrupted = [], False
        for kind, number, flags, answer in self.replies(what):
            if number != sequence:
                continue
            interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
            if kind in (ERROR, DONE):
                self._check(answer, what)
                break
            found.append(answer)
        if interrupted:
            raise InterruptedError(errno.EINTR, what)
        return found

    @staticmethod
    def _check(body: bytes, what: str) -> None:
        number = error_number(body)
        if number == errno.EINTR:
            raise InterruptedError(number, what)
        if number:
            raise Refused(number, what)

    def _receive(self, what: str) -> bytes:
        try:
            return self.socket.recv(_READ_BYTES)
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.EAGAIN):
                raise Lost(f"{what}: netlink answers were lost") from error
            raise EnvironmentFault(f"{what}: {error}") from error

    def _drop_leftovers(self) -> None:
        while True:
            try:
                self.socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise EnvironmentFault(f"netlink: {error}") from error

    def _enlarge(self, force: int, fallback: int) -> None:
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, force, _BUFFER_BYTES)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, fallback, _BUFFER_BYTES)
