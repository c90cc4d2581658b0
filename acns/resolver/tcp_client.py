"""One TCP connection of a pod, and how much of it is taken when.

It may pipeline queries and gets the answers in the order in which they come (RFC 7766). What comes in one
piece is worked on together, a burst at a time, and what that makes to send leaves in one piece on either
side. A query whose case is remembered goes on without an object of its own; all else goes through the gate.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from acns.dns import wire
from acns.resolver import keepalive
from acns.resolver.budget import Share
from acns.resolver.flight import ID_BYTES
from acns.resolver.framing import Frames, framed
from acns.resolver.handover import Connection
from acns.resolver.idle import Idle
from acns.resolver.intercept import Address, Server
from acns.resolver.judged import Case, CaseKey
from acns.resolver.metrics import TCP, ResolverMetrics
from acns.resolver.overload import Budgeted, Overload
from acns.resolver.proxy import case_prefix
from acns.resolver.query import Asked, Query, Reply, Transport
from acns.resolver.rates import Rates
from acns.resolver.settings import ResolverSettings
from acns.resolver.sockets import Sockets
from acns.resolver.stream import Stream
from acns.resolver.tcp_query import TCPQuery, Waiting
from acns.resolver.tcp_upstream import TCPUpstream
from acns.resolver.transparent import Transparency

BURST: Final = 8
"""Queries taken from one connection before others get their turn."""
SHORTEST_PAUSE_S: Final = 0.01


class Gate(Protocol):
    """Where queries go, and what they are measured by."""

    metrics: ResolverMetrics
    rates: Rates
    overload: Overload

    @property
    def transports(self) -> Mapping[str, Transport]: ...

    def let_through(self) -> None: ...

    def receive(self, asked: Asked, forward: Callable[[Case], None], reply: Reply) -> None: ...

    def remembered(self) -> Mapping[CaseKey, Case]: ...


class Clients(Protocol):
    """All connections: what one of them needs of the others."""

    settings: ResolverSettings
    gate: Gate
    transparency: Transparency
    idle: Idle
    sockets: Sockets
    changed: asyncio.Event
    """A connection has come to its end, or owes its pod less."""

    def forget(self, connection: TCPClient) -> None:
        """It has come to its end."""


class TCPClient:
    """One connection. `_in_flight` queries of it wait for an answer."""

    def __init__(
        self, clients: Clients, made: socket.socket, peer: Address, server: Server, share: Share
    ) -> None:
        self.share = share
        self.transport = clients.gate.transports[TCP]
        self._peer = peer
        self._clients = clients
        self._gate = clients.gate
        self._journal = self.transport.context.journal
        self._loop = clients.sockets.loop
        self._source = socket.inet_aton(peer[0])
        self._server = server
        self._prefix = case_prefix(self._source, server)
        self._frames = Frames()
        self._next: bytes | None = None  # taken from the frames, and not yet within the pod's rate
        self._in_flight = 0
        self._paced = False  # the pod is past its rate
        self._ended = False  # the pod has closed its half
        self._leaving = False  # another resolver will go on with it
        self._due = False  # `work` is to be called soon
        self._working = False  # it flushes when it is through
        self._pipeline = clients.settings.max_tcp_pipeline
        self._active_at = self._loop.time()
        self._upstream: TCPUpstream | None = None
        self._stream = Stream(made, self, clients.sockets)
        self.pieces = self._stream.pieces
        self._stream.resume()

    # --- what the stream tells ------------------------------------------------------------------------

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        self._frames.feed(data)
        self.work_at(now)

    def ended(self, stream: Stream) -> None:
        self._ended = True
        self.work()

    def wrote(self, stream: Stream) -> None:
        self._active_at = self._loop.time()
        if not stream.stuck:
            self._clients.changed.set()
            self.work()

    def lost(self, stream: Stream, reason: str) -> None:
        self.end()

    # --- work -----------------------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Whether an answer waits here for the pod to read."""
        return self._stream.unsent

    @property
    def _room(self) -> int:
        """How many queries more it may have in flight now."""
        if self._paced or self._leaving or self._stream.stuck or (self._upstream and self._upstream.stuck):
            return 0
        return self._pipeline - self._in_flight

    def work(self) -> None:
        """`work_at` now."""
        self.work_at(self._loop.time())

    def work_at(self, now: float) -> None:
        """Take queries while there is room; read on, wait or close as that leaves it."""
        self._due = False
        stream = self._stream
        if stream.closed:
            self._journal.nudge()
            return
        self._working = True
        try:
            more = (self._next is not None or self._frames.has_some) and self._take(now)
        finally:
            self._working = False
            self._flush()
            if self._journal.lines:
                self._journal.nudge()
            self._gate.let_through()
        if self._leaving:
            self._clients.changed.set()  # what it owed may be sent by now
        if stream.closed:
            return
        if more:
            self._work_soon()
        if more or self._room <= 0:
            stream.pause()
        elif not self._ended:
            if not stream.reading:
                stream.resume()
        elif not self._in_flight and not stream.unsent:
            self.end()

    def _take(self, now: float) -> bool:
        """A burst of queries, each ended or on its way when this returns; whether there may be more."""
        journal, within_rate, take = self._journal, self._gate.rates.take, self._frames.take
        journal.burst()
        cases, has_room = self._gate.remembered(), self.transport.context.budget.take
        note = journal.lines.append if journal.on else None
        for _ in range(min(BURST, self._room)):
            packet = take() if self._next is None else self._next
            if packet is None:
                return False
            if not within_rate(self._source, now):
                self._pace(packet, now)
                return False
            self._next, self._active_at = None, now
            case = cases.get(self._prefix + packet[ID_BYTES:])
            if case is not None and case.is_plain and not journal.full and has_room(case.lane):
                if note:
                    note(case.query_line)
                self.transport.forwarded.count += 1
                self._in_flight += 1
                if (upstream := self._upstream) is not None:
                    upstream.send(case, packet, now)
                else:
                    self._forward(case, packet, now)
                continue
            self._ask(packet)
            if not _may_be_query(packet):
                self._gate.metrics.tcp_refused.add("garbage")
                self.end()
                return False
        return self._room > 0

    def _ask(self, packet: bytes) -> None:
        self._in_flight += 1
        asked = Asked(packet, self._source, self._server, TCP)
        self._gate.receive(asked, partial(self._taken_on, packet), partial(self._refused, packet))

    def _taken_on(self, packet: bytes, case: Case) -> None:
        """Its policy may have been waited for meanwhile."""
        now = self._loop.time()
        if self._stream.closed:
            self.query(Waiting(case, packet, now)).abandoned()
            return
        self._forward(case, packet, now)
        if not self._working:  # nobody else flushes
            self._work_soon()

    def _refused(self, packet: bytes, answer: bytes | None) -> None:
        if answer is not None and keepalive.is_asked(packet):
            answer = keepalive.with_timeout(answer, self._clients.settings.tcp_idle_timeout_ms)
        self.reply(answer)

    def _pace(self, packet: bytes, now: float) -> None:
        """Leave the pod's queries where they are until it may ask again. Of several connections that wake one
        may: what was held before is not counted again."""
        if self._next is not packet:
            self._gate.overload.note(self._source, TCP, Budgeted.RATE)
        self._next, self._paced = packet, True
        wait_s = max(SHORTEST_PAUSE_S, self._gate.rates.wait_s(self._source, now))
        self._loop.call_later(wait_s, self._paced_enough)

    def _paced_enough(self) -> None:
        self._paced = False
        self.work()

    def _work_soon(self) -> None:
        """Once, however many ask for it: a pod can send 100,000 frames in one piece."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self.work)

    def _forward(self, case: Case, packet: bytes, now: float) -> None:
        if self._upstream is None:
            self._upstream = self._made_upstream()
        self._upstream.send(case, packet, now)

    def _made_upstream(self) -> TCPUpstream:
        timeout_s = self._clients.settings.upstream_timeout_ms / 1000
        transparency = self._clients.transparency
        as_pod = transparency.applies(self._server)
        return TCPUpstream(
            self,
            self._server,
            timeout_s,
            self._clients.sockets,
            idle=None if as_pod else self._clients.idle,
            as_pod=partial(transparency.pod_socket, socket.SOCK_STREAM, self._peer) if as_pod else None,
        )

    # --- what becomes of queries ----------------------------------------------------------------------

    def query(self, waiting: Waiting) -> Query:
        return TCPQuery(self, waiting)

    def passed_on(self, count: int, now: float) -> None:
        self._in_flight -= count
        self.transport.passed.count += count
        self._active_at = now
        self._clients.changed.set()

    def reply(self, packet: bytes | None) -> None:
        """Called within `_take` too, for what needs no upstream."""
        self._in_flight -= 1
        self._clients.changed.set()
        if self._stream.closed:
            return
        self._active_at = self._loop.time()
        if packet is not None:
            self.pieces.append(framed(packet))
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
        stream, upstream = self._stream, self._upstream
        if self.pieces:
            stream.flush()
        if upstream and not stream.closed:
            if stream.stuck is not upstream.paused:
                upstream.pause(stream.stuck)
            upstream.flush()

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


def _may_be_query(packet: bytes) -> bool:
    """A stream with anything else in it is out of step, or is to keep us busy: frames can be two octets."""
    return len(packet) >= wire.HEADER_OCTETS and not packet[2] & wire.QR >> 8
