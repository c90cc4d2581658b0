"""The TCP connection to a DNS server that stands behind one TCP connection of a pod.

Made at the first query, made again when the server has closed it meanwhile (RFC 7766 section 6.2.4: servers
close idle connections, so a query sent into a closing one is sent once more). Queries are pipelined under
random IDs, answers may come in any order. Queries are bounded by the pod's connection, which is not read
while this side does not drain.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from acns.dns.message import with_id
from acns.resolver.flight import ID_BYTES, Flight, restored
from acns.resolver.framing import Frames, framed
from acns.resolver.intercept import Server
from acns.telemetry.metrics import Tally

SWEEP_INTERVAL_S: Final = 0.1


@dataclass(slots=True)
class _Waiting:
    flight: Flight
    deadline: float
    again: bool = False
    """Already sent once into a connection that was closed."""


class TCPUpstream:
    """One server's connection and the queries waiting on it. `hold(True)` asks for no more for now."""

    def __init__(
        self, server: Server, timeout_s: float, ignored: Tally, hold: Callable[[bool], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._timeout_s = timeout_s
        self._ignored = ignored
        self._hold = hold
        self._waiting: dict[int, _Waiting] = {}  # by ID, oldest first
        self._connecting: asyncio.Task[None] | None = None
        self._connection: _Connection | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    def send(self, flight: Flight) -> None:
        """Send the query, or queue it until there is a connection; `flight` hears of the outcome."""
        self._add(_Waiting(flight, self._loop.time() + self._timeout_s))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def close(self) -> None:
        """Close the connection: the pod is gone."""
        abandoned, self._waiting = self._waiting, {}
        for waiting in abandoned.values():
            waiting.flight.abandoned()
        if self._sweeper:
            self._sweeper.cancel()
        if self._connecting:
            self._connecting.cancel()
        if self._connection:
            self._connection.transport.abort()
            self._connection = None

    def _add(self, waiting: _Waiting) -> None:
        kept = waiting.flight.kept_id
        if kept is not None and kept in self._waiting:
            waiting.flight.failed("another query has its ID")
            return
        identifier = int.from_bytes(os.urandom(ID_BYTES)) if kept is None else kept
        while identifier in self._waiting:  # a pod's connection has few queries in flight: this ends soon
            identifier = int.from_bytes(os.urandom(ID_BYTES))
        self._waiting[identifier] = waiting
        if self._connection:
            self._write(self._connection, identifier, waiting)
        elif self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    def _write(self, connection: _Connection, identifier: int, waiting: _Waiting) -> None:
        connection.transport.write(framed(with_id(waiting.flight.packet, identifier)))

    async def _connect(self) -> None:
        host, port = socket.inet_ntoa(self._server[0]), self._server[1]
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self._answer, self._lost, self._hold), host, port
                )
        except OSError as error:  # TimeoutError is one
            self._connecting = None
            self._fail(list(self._waiting), errno.errorcode.get(error.errno or 0, "connect failed"))
            return
        self._connecting = None
        if connection.transport.is_closing():
            self._fail(list(self._waiting), "closed by server")
            return
        self._connection = connection
        for identifier, waiting in list(self._waiting.items()):
            self._write(connection, identifier, waiting)

    def _answer(self, packet: bytes) -> None:
        waiting = self._waiting.get(int.from_bytes(packet[:ID_BYTES])) if len(packet) >= ID_BYTES else None
        if waiting is None:
            self._ignored.add("unknown_id" if len(packet) >= ID_BYTES else "malformed")
        elif waiting.flight.answered(restored(packet, waiting.flight.packet)):
            self._waiting.pop(int.from_bytes(packet[:ID_BYTES]), None)

    def _lost(self, connection: _Connection) -> None:
        """The server closed. What it did not answer goes once more, if it had served us before."""
        if connection is not self._connection:
            return
        self._connection = None
        unanswered, self._waiting = self._waiting, {}
        for waiting in unanswered.values():
            if connection.answers and not waiting.again:
                waiting.again = True
                self._add(waiting)
            else:
                waiting.flight.failed("closed by server")
        self._hold(False)

    def _fail(self, identifiers: list[int], reason: str) -> None:
        for identifier in identifiers:
            if waiting := self._waiting.pop(identifier, None):
                waiting.flight.failed(reason)

    def _sweep(self) -> None:
        now = self._loop.time()
        for identifier in [key for key, waiting in self._waiting.items() if waiting.deadline <= now]:
            self._waiting.pop(identifier).flight.silent()
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep) if self._waiting else None


class _Connection(asyncio.Protocol):
    """The transport's side: bytes to answers, pauses to `hold`."""

    transport: asyncio.Transport

    def __init__(
        self,
        answer: Callable[[bytes], None],
        lost: Callable[[_Connection], None],
        hold: Callable[[bool], None],
    ) -> None:
        self._answer = answer
        self._lost = lost
        self._hold = hold
        self._frames = Frames()
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)
        while (packet := self._frames.take()) is not None:
            self.answers += 1
            self._answer(packet)

    def pause_writing(self) -> None:
        self._hold(True)

    def resume_writing(self) -> None:
        self._hold(False)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self)
