"""TCP connections of pods, accepted transparently: their local address is the server that was asked.

A connection may pipeline queries and gets the answers in the order in which they come (RFC 7766). What a pod
can make us hold is bounded: connections in all and per pod, queries in flight per connection (past that it is
not read), answers it does not read (past that neither it nor its server is), the time without a complete
query, the time without reading its answers. A pod past its rate is read more slowly, and refused nothing.
A pod that has closed its half still gets its answers.

What comes in one piece is worked on together, a burst at a time, and what that makes to send leaves in one
piece on either side.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Protocol

from acns.dns import wire
from acns.resolver import keepalive
from acns.resolver.budget import Budget, Share
from acns.resolver.flight import ID_BYTES, Flight
from acns.resolver.framing import Frames, framed
from acns.resolver.handover import Connection
from acns.resolver.intercept import Address, Server
from acns.resolver.judged import Case, CaseKey
from acns.resolver.metrics import TCP, ResolverMetrics
from acns.resolver.overload import Budgeted, Overload
from acns.resolver.proxy import case_prefix
from acns.resolver.query import Asked, Reply
from acns.resolver.rates import Rates
from acns.resolver.settings import ResolverSettings
from acns.resolver.stream import Stream
from acns.resolver.tcp_upstream import Idle, TCPUpstream
from acns.resolver.transparent import Transparency
from acns.telemetry.journal import Journal

BURST: Final = 8  # queries taken from one connection, and connections accepted, before others get their turn
SWEEP_INTERVAL_S: Final = 0.1
SHORTEST_PAUSE_S: Final = 0.01
NO_DESCRIPTORS_PAUSE_S: Final = 0.1


class Gate(Protocol):
    """Where queries go, and what they are measured by."""

    metrics: ResolverMetrics
    rates: Rates
    overload: Overload

    journal: Journal

    def let_through(self) -> None: ...

    def receive(self, asked: Asked, forward: Callable[[Flight], None], reply: Reply) -> None: ...

    def remembered(self) -> Mapping[CaseKey, Case]: ...

    def take_on(self, case: Case, packet: bytes, now: float, reply: Reply) -> Flight | None: ...


class TCPClients:
    """All TCP connections of pods."""

    def __init__(self, settings: ResolverSettings, gate: Gate, transparency: Transparency) -> None:
        self.settings = settings
        self.transparency = transparency
        self.gate = gate
        self.budget = Budget(settings.max_tcp_connections, settings.max_tcp_connections_per_pod)
        self.connections: set[TCPClient] = set()
        self.idle = Idle()
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        """A connection has come to its end, or owes its pod less."""
        self._listener: socket.socket | None = None
        self._accepts = False
        self._sweeper: asyncio.TimerHandle | None = None

    def serve(self, listener: socket.socket) -> None:
        """Accept from `listener`, which is ours from now on."""
        self._listener, self._accepts = listener, True
        self._accept_on(listener)

    def adopt(self, given: Connection) -> None:
        """A connection that another resolver has served until now."""
        if not self.budget.take(share := self.budget.share(given.pod[0])):
            self._refuse(given.socket, "limit")
            return
        connection = TCPClient(self, given.socket, given.pod, given.server, share)
        self.connections.add(connection)
        if self._sweeper is None:
            self._sweep_later()
        connection.go_on(given.unread)

    async def give_up(self, give: Callable[[Connection], Awaitable[None]]) -> None:
        """Read no more; `give` each connection away as soon as it owes its pod nothing."""
        for connection in self.connections:
            connection.leave()
        while self.connections:
            self.changed.clear()
            for connection in list(self.connections):
                if (given := connection.given_up()) is not None:
                    await give(given)
            if self.connections:
                await self.changed.wait()

    def give_up_listener(self) -> socket.socket:
        """Accept no more; somebody else may, from this listener and its queue."""
        assert self._listener, "it is accepted from"
        self._accepts = False
        self.loop.remove_reader(self._listener)
        return self._listener

    def take_back(self) -> None:
        """Accept and read again."""
        if self._listener and not self._accepts:
            self.serve(self._listener)
        for connection in self.connections:
            connection.stay()

    def stop_accepting(self) -> None:
        if self._listener:
            self.loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    @property
    def owes(self) -> bool:
        """Whether an answer waits here for its pod to read."""
        return any(connection.owes for connection in self.connections)

    def close(self) -> None:
        self.stop_accepting()
        if self._sweeper:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.end()
        self.idle.close()

    def forget(self, connection: TCPClient) -> None:
        """It has come to its end."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.budget.give(connection.share)
            self.changed.set()

    # --- new ones -------------------------------------------------------------------------------------

    def _accept_on(self, listener: socket.socket) -> None:
        if listener is self._listener and self._accepts:
            self.loop.add_reader(listener, self._acceptable, listener)

    def _acceptable(self, listener: socket.socket) -> None:
        own = listener.getsockname()
        for _ in range(BURST):
            try:
                made, peer = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # gone before it was accepted
            except OSError:  # no descriptors, no memory: it would be ready again at once
                self.gate.metrics.tcp_refused.add("descriptors")
                self.loop.remove_reader(listener)
                self.loop.call_later(NO_DESCRIPTORS_PAUSE_S, self._accept_on, listener)
                return
            self._accepted(made, peer, own)

    def _accepted(self, made: socket.socket, peer: Address, own: Address) -> None:
        server = made.getsockname()
        if server == own:
            self._refuse(made, "direct")  # not redirected
        elif not self.budget.take(share := self.budget.share(peer[0])):
            self.gate.overload.note(socket.inet_aton(peer[0]), TCP, Budgeted.CONNECTIONS)
            self._refuse(made, "limit")
        else:
            made.setblocking(False)
            self.connections.add(TCPClient(self, made, peer, (socket.inet_aton(server[0]), server[1]), share))
            if self._sweeper is None:
                self._sweep_later()

    def _refuse(self, made: socket.socket, reason: str) -> None:
        self.gate.metrics.tcp_refused.add(reason)
        Stream(made, _NOBODY, self.loop).reset()

    # --- time -----------------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        self._sweeper = self.loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        """One timer for all connections; none where there are none."""
        now = self.loop.time()
        for connection in list(self.connections):
            connection.sweep(now)
        self.idle.sweep(now)
        self._sweeper = None
        if self.connections or len(self.idle):
            self._sweep_later()


class TCPClient:
    """One connection. `_in_flight` queries of it wait for an answer."""

    def __init__(
        self, clients: TCPClients, made: socket.socket, peer: Address, server: Server, share: Share
    ) -> None:
        self.share = share
        self.pod = peer[0]
        self._peer = peer
        self._clients = clients
        self._gate = clients.gate
        self._loop = clients.loop
        self._source = socket.inet_aton(peer[0])
        self._server = server
        self._prefix = case_prefix(self._source, server)
        self._frames = Frames()
        self._next: bytes | None = None  # taken from the frames, and not yet within the pod's rate
        self._in_flight = 0
        self._paced = False  # the pod is past its rate
        self._ended = False  # the pod has closed its half
        self._leaving = False  # another resolver will go on with it
        self._due = False  # `_work` is to be called soon
        self._working = False  # it flushes when it is through
        self._active_at = self._loop.time()
        self._upstream: TCPUpstream | None = None
        self._stream = Stream(made, self, self._loop)
        self._stream.resume()

    # --- what the stream tells ------------------------------------------------------------------------

    def received(self, stream: Stream, data: bytes) -> None:
        self._frames.feed(data)
        self._work()

    def ended(self, stream: Stream) -> None:
        self._ended = True
        self._work()

    def wrote(self, stream: Stream) -> None:
        self._active_at = self._loop.time()
        if not stream.stuck:
            self._clients.changed.set()
            self._work()

    def lost(self, stream: Stream, reason: str) -> None:
        self.end()

    # --- work -----------------------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Whether an answer waits here for the pod to read."""
        return self._stream.unsent

    @property
    def _full(self) -> bool:
        return (
            self._paced
            or self._leaving
            or self._in_flight >= self._clients.settings.max_tcp_pipeline
            or self._stream.stuck
            or (self._upstream is not None and self._upstream.stuck)
        )

    def _work(self) -> None:
        """Take queries while there is room; read on, wait or close as that leaves it."""
        self._due = False
        if self._stream.closed:
            return
        self._working = True
        try:
            more = bool(self._next or len(self._frames)) and self._take()
        finally:
            self._working = False
            self._flush()
            self._gate.journal.nudge()
            self._gate.let_through()
        if self._leaving:
            self._clients.changed.set()  # what it owed may be sent by now
        if self._stream.closed:
            return
        if more:
            self._work_soon()
        if more or self._full:
            self._stream.pause()
        elif self._ended and not self._in_flight and not self._stream.unsent:
            self.end()
        elif not self._ended:
            self._stream.resume()

    def _take(self) -> bool:
        """A burst of queries, each ended or on its way when this returns; whether there may be more."""
        gate = self._gate
        gate.journal.burst()
        cases = gate.remembered()
        for _ in range(BURST):
            if self._full or (packet := self._next or self._frames.take()) is None:
                return False
            now = self._loop.time()
            if not self._gate.rates.take(self._source, now):
                self._pace(packet, now)
                return False
            self._next = None
            self._active_at = now
            case = cases.get(self._prefix + packet[ID_BYTES:])
            flight = gate.take_on(case, packet, now, self._reply) if case else None
            if flight is not None:
                self._in_flight += 1
                self._forward(flight, now)
                continue
            self._ask(packet, now)
            if not _may_be_query(packet):
                self._gate.metrics.tcp_refused.add("garbage")
                self.end()
                return False
        return True

    def _ask(self, packet: bytes, now: float) -> None:
        self._in_flight += 1
        asked = Asked(packet, self._source, self._server, TCP)
        forwarded = False

        def forward(flight: Flight) -> None:
            nonlocal forwarded
            forwarded = True
            if self._stream.closed:  # while its policy was waited for
                flight.abandoned()
                return
            self._forward(flight, self._loop.time())
            if not self._working:  # long after it came: nobody else flushes
                self._work_soon()

        def reply(answer: bytes | None) -> None:
            if answer is not None and not forwarded and keepalive.is_asked(packet):
                answer = keepalive.with_timeout(answer, self._clients.settings.tcp_idle_timeout_ms)
            self._reply(answer)

        self._gate.receive(asked, forward, reply)

    def _pace(self, packet: bytes, now: float) -> None:
        """Leave the pod's queries where they are until it may ask again."""
        self._next, self._paced = packet, True
        self._gate.overload.note(self._source, TCP, Budgeted.RATE)
        wait_s = max(SHORTEST_PAUSE_S, self._gate.rates.wait_s(self._source, now))
        self._loop.call_later(wait_s, self._paced_enough)

    def _paced_enough(self) -> None:
        self._paced = False
        self._work()

    def _work_soon(self) -> None:
        """Once, however many ask for it: a pod can send 100,000 frames in one piece."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._work)

    def _forward(self, flight: Flight, now: float) -> None:
        if self._upstream is None:
            timeout_s = self._clients.settings.upstream_timeout_ms / 1000
            ignored = self._gate.metrics.ignored
            transparency = self._clients.transparency
            as_pod = transparency.applies(self._server)
            self._upstream = TCPUpstream(
                self._server,
                timeout_s,
                ignored,
                self._gate.journal,
                self._work,
                idle=None if as_pod else self._clients.idle,
                as_pod=partial(transparency.pod_socket, socket.SOCK_STREAM, self._peer) if as_pod else None,
            )
        self._upstream.send(flight, now)

    def _reply(self, packet: bytes | None) -> None:
        """One query is done. Called within `_take` too, for what needs no upstream."""
        self._in_flight -= 1
        self._clients.changed.set()
        if self._stream.closed:
            return
        self._active_at = self._loop.time()
        if packet is not None:
            self._stream.write(framed(packet))
        if not (self._working or (self._upstream and self._upstream.answering)):
            self._work_soon()

    # --- from one resolver to the next ----------------------------------------------------------------

    def go_on(self, unread: bytes) -> None:
        """Where another resolver has left off."""
        self._frames.feed(unread)
        self._work_soon()

    def leave(self) -> None:
        """Take no more queries from it."""
        self._leaving = True
        self._stream.pause()

    def stay(self) -> None:
        """Nobody else goes on with it."""
        self._leaving = False
        self._work_soon()

    def given_up(self) -> Connection | None:
        """The connection, for another resolver; None while something of it is under way here."""
        if self._in_flight or self._stream.unsent or self._stream.closed:
            return None
        unread = framed(self._next) if self._next is not None else b""
        given = Connection(self._stream.give_up(), self._peer, self._server, unread + self._frames.unread())
        self.end()
        return given

    def _flush(self) -> None:
        self._stream.flush()
        if self._upstream and not self._stream.closed:
            self._upstream.pause(self._stream.stuck)
            self._upstream.flush()

    def end(self, *, reset: bool = False) -> None:
        """Close, with what is written as far as the kernel takes it; or have it forget all at once."""
        if not reset:
            self._stream.flush()
            self._stream.push()
        if not self._stream.closed:
            self._stream.reset() if reset else self._stream.close()
        self._clients.forget(self)
        upstream, self._upstream = self._upstream, None
        if upstream:
            upstream.close()

    # --- time -----------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Queries in flight have their own time-outs; a pod that does not read has only this one."""
        if self._upstream:
            self._upstream.sweep(now)
        stuck = self._stream.unsent
        if (self._in_flight and not stuck) or self._stream.closed:
            return
        if self._active_at + self._clients.settings.tcp_idle_timeout_ms / 1000 <= now:
            self._gate.metrics.tcp_timeouts.add("stuck" if stuck else "idle")
            self._stream.push()
            self.end(reset=self._stream.unsent)


class _Nobody:
    """Owns connections that are refused."""

    def received(self, stream: Stream, data: bytes) -> None: ...

    def ended(self, stream: Stream) -> None: ...

    def wrote(self, stream: Stream) -> None: ...

    def lost(self, stream: Stream, reason: str) -> None: ...


_NOBODY: Final = _Nobody()


def _may_be_query(packet: bytes) -> bool:
    """A stream with anything else in it is out of step, or is to keep us busy: frames can be two octets."""
    return len(packet) >= wire.HEADER_OCTETS and not packet[2] & wire.QR >> 8
