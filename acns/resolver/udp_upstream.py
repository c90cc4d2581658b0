"""Queries to DNS servers over UDP: from one of 16 random ports, under a random ID (RFC 5452 section 4).

An answer counts only if it comes to the socket the query left from, from the very address and port that was
asked, under that ID; whether it answers the question is for the gate to say. All else is counted by kind and
ignored, and the query goes on waiting: an early forgery must not shut the real answer out. ICMP errors come
through the sockets' error queues, so that a server that is not there fails its query at once.

One datagram, one attempt: to ask again is the pod's business, as it is without a proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from acns.dns.message import with_id
from acns.resolver.flight import ID_BYTES, Flight, restored
from acns.resolver.intercept import MAX_MESSAGE_BYTES, RECEIVE_BUFFER_BYTES, Address
from acns.telemetry.metrics import Tally

SOCKETS: Final = 16
BURST: Final = 64  # datagrams read from one socket before others get their turn
SWEEP_INTERVAL_S: Final = 0.1
_ATTEMPTS: Final = 16  # to find a free (socket, ID); one in two is free when half of them are taken

IP_RECVERR: Final = 11  # linux/in.h
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # struct sock_extended_err
_UNREACHABLE: Final = frozenset(
    (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT)
)


@dataclass(slots=True)
class _Waiting:
    flight: Flight
    server: Address
    deadline: float


class UDPUpstream:
    """A pool of sockets and the queries that wait for an answer on them. For use on one event loop."""

    def __init__(self, timeout_s: float, ignored: Tally) -> None:
        self._timeout_s = timeout_s
        self._ignored = ignored
        self._sockets: list[socket.socket] = []
        self._waiting: dict[int, _Waiting] = {}  # socket << 16 | ID, oldest first
        self._sweeper: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Open the sockets, on ports that the kernel chooses at random, and read from them."""
        self._loop = asyncio.get_running_loop()
        for index in range(SOCKETS):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets.append(made)
            made.setsockopt(socket.SOL_IP, IP_RECVERR, 1)
            with contextlib.suppress(OSError):
                made.setsockopt(
                    socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), RECEIVE_BUFFER_BYTES
                )
            made.bind(("", 0))
            self._loop.add_reader(made, self._readable, index, made)

    def close(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            one.flight.abandoned()
        for made in self._sockets:
            self._loop.remove_reader(made)
            made.close()
        self._sockets.clear()
        if self._sweeper:
            self._sweeper.cancel()

    def send(self, flight: Flight) -> None:
        """Send the query; `flight` hears of the outcome, of a failure to send before this returns."""
        key = self._free_key(flight.kept_id)
        if key is None:
            flight.failed("no free message ID")
            return
        server = (socket.inet_ntoa(flight.server[0]), flight.server[1])
        try:
            self._send(self._sockets[key >> 16], with_id(flight.packet, key & 0xFFFF), server)
        except OSError as error:
            flight.failed(errno.errorcode.get(error.errno or 0, "send failed"))
            return
        self._waiting[key] = _Waiting(flight, server, self._loop.time() + self._timeout_s)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _send(self, sender: socket.socket, packet: bytes, server: Address) -> None:
        """An ICMP error for an *earlier* query is reported by the next call, so try twice."""
        try:
            sender.sendto(packet, server)
        except BlockingIOError:
            raise
        except OSError:
            sender.sendto(packet, server)

    def _free_key(self, kept_id: int | None) -> int | None:
        for _ in range(_ATTEMPTS):
            key = int.from_bytes(os.urandom(3)) & (SOCKETS << 16) - 1
            if kept_id is not None:
                key = key & ~0xFFFF | kept_id
            if key not in self._waiting:
                return key
        return None

    # --- answers --------------------------------------------------------------------------------------

    def _readable(self, index: int, receiver: socket.socket) -> None:
        received, errors = 0, False
        for _ in range(BURST):
            try:
                packet, source = receiver.recvfrom(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                errors = True  # an ICMP error; what it is about is in the error queue
                continue
            received += 1
            self._answer(index, packet, source)
        if errors or not received:  # woken for nothing to read: for the error queue, then
            self._read_errors(index, receiver)

    def _answer(self, index: int, packet: bytes, source: Address) -> None:
        if len(packet) < ID_BYTES:
            self._ignored.add("malformed")
            return
        key = index << 16 | int.from_bytes(packet[:ID_BYTES])
        waiting = self._waiting.get(key)
        if waiting is None:
            self._ignored.add("unknown_id")
        elif waiting.server != source:
            self._ignored.add("wrong_server")
        elif waiting.flight.answered(restored(packet, waiting.flight.packet)):
            del self._waiting[key]

    def _read_errors(self, index: int, receiver: socket.socket) -> None:
        for _ in range(BURST):
            try:
                packet, ancillary, _, server = receiver.recvmsg(512, 256, socket.MSG_ERRQUEUE)
            except OSError:  # BlockingIOError: no more of them
                return
            reason = _unreachable(ancillary)
            key = index << 16 | int.from_bytes(packet[:ID_BYTES])
            waiting = self._waiting.get(key)
            if reason and waiting and waiting.server == server and len(packet) >= ID_BYTES:
                del self._waiting[key]
                waiting.flight.failed(reason)

    def _sweep(self) -> None:
        """All wait equally long, so the first that is not due ends the search."""
        now = self._loop.time()
        due = []
        for key, waiting in self._waiting.items():
            if waiting.deadline > now:
                break
            due.append(key)
        for key in due:
            self._waiting.pop(key).flight.silent()
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep) if self._waiting else None


def _unreachable(ancillary: list[tuple[int, int, bytes]]) -> str | None:
    """The error's name when the ancillary data say that the datagram had nowhere to go."""
    for level, kind, data in ancillary:
        if level == socket.SOL_IP and kind == IP_RECVERR:
            number = int(_EXTENDED_ERROR.unpack_from(data)[0])
            return errno.errorcode[number] if number in _UNREACHABLE else None
    return None
