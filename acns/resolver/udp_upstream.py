"""Queries to DNS servers over UDP: from one of 16 random ports, under a random ID (RFC 5452 section 4).

An answer counts only if it comes to the socket the query left from, from the very address and port that was
asked, under that ID; whether it answers the question is for the gate to say. All else is counted by kind and
ignored, and the query goes on waiting: an early forgery must not shut the real answer out. ICMP errors come
through the sockets' error queues, so that a server that is not there fails its query at once.

A port that never changed would be found out in time. So every other second a new socket takes the place of
the oldest, which stays open for the answers that it still waits for, and for as long again, at most a minute
in all: those are late.

To ask again is the pod's business, as it is without a proxy: its repetition goes out under the same ID.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from array import array
from typing import Final, NamedTuple

from acns.dns.message import with_id
from acns.resolver import icmp
from acns.resolver.flight import DUPLICATE, ID_BYTES, LATE, UNKNOWN_ID
from acns.resolver.intercept import RECEIVE_BUFFER_BYTES, Address
from acns.resolver.judged import Case
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.query import Query, kept_id
from acns.resolver.udp_loop import UDPLoop
from acns.resolver.udp_query import ANSWERED, GIVEN_UP, UNUSED, Clients, Key, Port, Waiting, packet_of

SOCKETS: Final = 16
SWEEP_INTERVAL_S: Final = 0.1
RENEWED_EVERY_S: Final = 2.0
MOST_RETIRED_S: Final = 60.0
"""A socket is listened to for so long after it was retired, unless a query waits on it for longer: each takes
a descriptor."""
AGAIN_AFTER_S: Final = 1.0
"""A pod's repetition before that is not sent on: the answer is on its way."""
_ATTEMPTS: Final = 16  # to find a free (socket, ID); one in two is free when half of them are taken
_RANDOM_BYTES: Final = 65_536
_RANDOM_BYTES_EACH: Final = 4
_FEW: Final = 8_192  # drawn numbers; between two sweeps as many may be used
NO_ID: Final = -1

_ENDED: Final = {UNUSED: UNKNOWN_ID, ANSWERED: DUPLICATE, GIVEN_UP: LATE}


class _Retired(NamedTuple):
    """A socket that nothing is sent from any more, and since when."""

    port: Port
    at: float


class UDPUpstream:
    """A pool of sockets. For use on one event loop."""

    def __init__(self, timeout_s: float, metrics: ResolverMetrics) -> None:
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._ignored = metrics.ignored
        self.ports: list[Port] = []
        """Those to send from."""
        self._retired: list[_Retired] = []
        self._renewed_at = 0.0
        self._oldest = 0
        self.random: array[int] = array("H")
        """IDs, drawn beforehand."""
        self._sweeper: asyncio.TimerHandle | None = None

    def open(self, loop: UDPLoop, clients: Clients) -> None:
        """Open the sockets, and read from them. `clients` hear what becomes of their queries."""
        self._udp_loop = loop
        self._clients = clients
        self._loop = asyncio.get_running_loop()
        self.ports[:] = [self._opened() for _ in range(SOCKETS)]
        self._renewed_at = self._loop.time()
        self._sweep()

    def close(self) -> None:
        ports = self._all()
        self._retired.clear()
        for port in ports:
            waiting, port.waiting = port.waiting, {}
            for one in waiting.values():
                self._clients.query(one).abandoned()
            self._close(port)
        if self._sweeper:
            self._sweeper.cancel()

    def port(self) -> Port:
        """One of them, at random."""
        return self.ports[(self.random.pop() if self.random else os.urandom(1)[0]) % SOCKETS]

    def place(self, case: Case, key: Key, now: float) -> Waiting:
        """A port and a free ID for a query. Where there is none, it waits under one that is nobody's."""
        kept = kept_id(case, packet_of(key))
        for _ in range(_ATTEMPTS):
            drawn = int.from_bytes(os.urandom(_RANDOM_BYTES_EACH))
            port, ident = self.ports[drawn % SOCKETS], drawn >> 16 if kept is None else kept
            if ident not in port.waiting:
                return Waiting(case, key, now, port, ident, now)
        return Waiting(case, key, now, port, NO_ID, now)

    def send(self, waiting: Waiting) -> None:
        """Send a query that has its place; it hears of a failure to send before this returns."""
        if waiting.ident == NO_ID:
            self._clients.query(waiting).failed("no free message ID")
            return
        waiting.port.waiting[waiting.ident] = waiting
        try:
            self._send(waiting)
        except OSError as error:
            self.unsent(waiting, error)

    def again(self, waiting: Waiting, now: float) -> Waiting:
        """Send it once more."""
        if waiting.port.waiting.get(waiting.ident) is not waiting:
            return waiting  # it has been answered, and the answer waits for its commit
        with contextlib.suppress(OSError):
            self._send(waiting)
        again = waiting.port.waiting[waiting.ident] = waiting._replace(sent_at=now)
        return again

    def unsent(self, waiting: Waiting, error: OSError) -> None:
        """An ICMP error for an *earlier* query is reported by the next call, so try twice."""
        if not isinstance(error, BlockingIOError):
            try:
                self._send(waiting)
            except OSError as second:
                error = second
            else:
                return
        reason = errno.errorcode.get(error.errno or 0, "send failed")
        self._give_up(waiting.port, waiting.ident).failed(reason)

    def _send(self, waiting: Waiting) -> None:
        waiting.port.send(with_id(packet_of(waiting.key), waiting.ident), waiting.case.address)

    # --- what is no answer ----------------------------------------------------------------------------

    def ignore(self, port: Port, packet: bytes, source: Address) -> None:
        """Count a packet that answers no query, by kind."""
        if len(packet) < ID_BYTES:
            self._ignored.add("malformed")
            return
        ident = packet[0] << 8 | packet[1]
        waiting = port.waiting.get(ident)
        if waiting is None:
            self._ignored.add(_ENDED[port.ended[ident]])
        else:
            self._ignored.add("wrong_port" if waiting.case.address[0] == source[0] else "wrong_server")

    def read_errors(self, port: Port) -> None:
        """The server is not there for all that this endpoint has asked it from this port: hosts tell of a few
        datagrams only, Linux of one a second. From another port a Service's address may lead to another
        backend, and whom a server has had enough of is not everybody."""
        for packet, server, reason in icmp.take_errors(port.socket):
            if len(packet) < ID_BYTES:
                continue
            told = port.waiting.get(packet[0] << 8 | packet[1])
            if told is None or told.case.address != server:
                continue  # of an earlier query, or forged
            for ident in [one.ident for one in port.waiting.values() if one.case.lane is told.case.lane]:
                self._give_up(port, ident).failed(reason)

    def _give_up(self, port: Port, ident: int) -> Query:
        return self._clients.query(port.end(ident, GIVEN_UP))

    # --- time -----------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """All wait equally long, so the first of a port that is not due ends the search."""
        now = self._loop.time()
        for port in self._all():
            due = []
            for ident, one in port.waiting.items():
                if one.asked_at > now - self._timeout_s:
                    break
                due.append(ident)
            for ident in due:
                self._give_up(port, ident).silent()
        self._metrics.upstream_reply_s.fold()
        if now > self._renewed_at + RENEWED_EVERY_S:
            self._renew(now)
        if len(self.random) < _FEW:
            self.random.frombytes(os.urandom(_RANDOM_BYTES))
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    # --- sockets --------------------------------------------------------------------------------------

    def _opened(self) -> Port:
        port = Port(_socket())
        self._udp_loop.add(port.socket, self._clients.ready(port))
        return port

    def _all(self) -> list[Port]:
        return self.ports + [retired.port for retired in self._retired]

    def _renew(self, now: float) -> None:
        """A new socket for the oldest; without one (no descriptors left) all stay as they are."""
        self._renewed_at = now
        self._let_go(now)
        with contextlib.suppress(OSError):
            made = self._opened()
            self._retired.append(_Retired(self.ports[self._oldest], now))
            self.ports[self._oldest] = made
            self._oldest = (self._oldest + 1) % SOCKETS

    def _let_go(self, now: float) -> None:
        """Retired sockets that nobody waits on any more, nor may a late answer come to."""
        since = now - min(2 * self._timeout_s, MOST_RETIRED_S)
        for one in [one for one in self._retired if one.at < since and not one.port.waiting]:
            self._retired.remove(one)
            self._close(one.port)

    def _close(self, port: Port) -> None:
        self._udp_loop.remove(port.socket)
        port.socket.close()


def _socket() -> socket.socket:
    """On a port that the kernel chooses at random. Once it has, our sockets that ask as a pod may have that
    port too, at the pod's address."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    icmp.queue_errors(made)
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), RECEIVE_BUFFER_BYTES)
    made.bind(("", 0))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made
