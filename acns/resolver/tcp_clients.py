"""TCP connections of pods, accepted transparently: their local address is the server that was asked.

A connection may pipeline queries and gets the answers in the order in which they come (RFC 7766). What a pod
can make us hold is bounded: connections in all and per pod, queries in flight per connection (past that it is
not read), the time without a complete query, the time without reading its answers. A pod that has closed its
half still gets its answers.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from acns.dns import wire
from acns.resolver.budget import Budget
from acns.resolver.flight import Flight
from acns.resolver.framing import Frames, framed
from acns.resolver.intercept import Server
from acns.resolver.metrics import TCP, ResolverMetrics
from acns.resolver.query import Asked, Reply
from acns.resolver.settings import ResolverSettings
from acns.resolver.tcp_upstream import TCPUpstream

BURST: Final = 16  # queries taken from one connection before others get their turn

Receiver = Callable[[Asked, Callable[[Flight], None], Reply], None]


class TCPClients:
    """All TCP connections of pods."""

    def __init__(self, settings: ResolverSettings, receive: Receiver, metrics: ResolverMetrics) -> None:
        self.settings = settings
        self.receive = receive
        self.metrics = metrics
        self.budget = Budget(settings.max_tcp_connections, settings.max_tcp_connections_per_pod)
        self.connections: set[TCPClient] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, listener: socket.socket) -> None:
        """Accept from `listener`, which is ours from now on."""
        own = listener.getsockname()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: TCPClient(self, own), sock=listener, backlog=1024)

    def stop_accepting(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    def close(self) -> None:
        self.stop_accepting()
        for connection in list(self.connections):
            connection.transport.abort()


class TCPClient(asyncio.Protocol):
    """One connection. `_in_flight` queries of it wait for an answer."""

    transport: asyncio.Transport

    def __init__(self, clients: TCPClients, own: tuple[str, int]) -> None:
        self._clients = clients
        self._own = own
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._in_flight = 0
        self._held = False  # the upstream does not drain
        self._stuck = False  # the pod does not read
        self._ended = False  # the pod has closed its half
        self._due = False  # `_work` is to be called soon
        self._active_at = self._loop.time()
        self._upstream: TCPUpstream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._source = b""

    # --- the transport's calls ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        server = transport.get_extra_info("sockname")
        peer = transport.get_extra_info("peername")
        # A peer may be gone before it is accepted; one that dialled our own port was not redirected.
        reason = "gone" if peer is None or server is None else "direct" if server == self._own else ""
        if not reason and not self._clients.budget.take(peer[0]):
            reason = "limit"
        if reason:
            self._clients.metrics.tcp_refused.add(reason)
            transport.abort()
            return
        self._peer = peer[0]
        self._source = socket.inet_aton(peer[0])
        self._server: Server = (socket.inet_aton(server[0]), server[1])
        self._clients.connections.add(self)
        self._arm(self._idle_limit_s)

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)
        self._work()

    def eof_received(self) -> bool:
        self._ended = True
        self._work()
        return True  # keep the other half for what is still to be answered

    def pause_writing(self) -> None:
        self._stuck = True
        self._active_at = self._loop.time()
        self._work()

    def resume_writing(self) -> None:
        self._stuck = False
        self._work()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._upstream:
            self._upstream.close()
        if self in self._clients.connections:
            self._clients.connections.discard(self)
            self._clients.budget.give(self._peer)

    # --- work -----------------------------------------------------------------------------------------

    @property
    def _idle_limit_s(self) -> float:
        return self._clients.settings.tcp_idle_timeout_ms / 1000

    @property
    def _full(self) -> bool:
        return self._held or self._stuck or self._in_flight >= self._clients.settings.max_tcp_pipeline

    def _work(self) -> None:
        """Take queries while there is room; read on, wait or close as that leaves it."""
        self._due = False
        if self.transport.is_closing() or not self._source:
            return
        more = self._take()
        if more:
            self._work_soon()
        if more or self._full:
            self.transport.pause_reading()
        elif self._ended and not self._in_flight:
            self.transport.close()
        elif not self._ended:
            self.transport.resume_reading()

    def _take(self) -> bool:
        """A burst of queries, each ended or on its way when this returns; whether there may be more."""
        for _ in range(BURST):
            if self._full or (packet := self._frames.take()) is None:
                return False
            self._active_at = self._loop.time()
            self._in_flight += 1
            asked = Asked(packet, self._source, self._server, TCP)
            self._clients.receive(asked, self._forward, self._reply)
            if not _may_be_query(packet):
                self._clients.metrics.tcp_refused.add("garbage")
                self.transport.abort()
                return False
        return True

    def _work_soon(self) -> None:
        """Once, however many ask for it: a pod can send 100,000 frames in one piece."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._work)

    def _forward(self, flight: Flight) -> None:
        if self._upstream is None:
            settings, metrics = self._clients.settings, self._clients.metrics
            self._upstream = TCPUpstream(
                self._server, settings.upstream_timeout_ms / 1000, metrics.ignored, self._hold
            )
        self._upstream.send(flight)

    def _reply(self, packet: bytes | None) -> None:
        """One query is done. Called within `_take` too, for what needs no upstream."""
        self._in_flight -= 1
        if self.transport.is_closing():
            return
        self._active_at = self._loop.time()
        if packet is not None:
            self.transport.write(framed(packet))
        self._work_soon()

    def _hold(self, hold: bool) -> None:
        self._held = hold
        self._work()

    # --- time -----------------------------------------------------------------------------------------

    def _arm(self, delay_s: float) -> None:
        self._timer = self._loop.call_later(delay_s, self._check_idle)

    def _check_idle(self) -> None:
        """Queries in flight have their own time-outs; a pod that does not read has only this one."""
        left_s = self._active_at + self._idle_limit_s - self._loop.time()
        if self._in_flight and not self._stuck:
            self._arm(self._idle_limit_s)
        elif left_s > 0:
            self._arm(left_s)
        else:
            self._clients.metrics.tcp_timeouts.add("stuck" if self._stuck else "idle")
            self.transport.abort() if self._stuck else self.transport.close()


def _may_be_query(packet: bytes) -> bool:
    """A stream with anything else in it is out of step, or is to keep us busy: frames can be two octets."""
    return len(packet) >= wire.HEADER_OCTETS and not packet[2] & wire.QR >> 8
