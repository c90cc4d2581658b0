"""The TCP connection to a DNS server that stands behind one TCP connection of a pod.

Made at the first query, made again when the server has closed it meanwhile (RFC 7766 section 6.2.4: servers
close idle connections, so a query sent into a closing one is sent once more). Queries are pipelined under
random IDs, answers may come in any order. Queries are bounded by the pod's connection, which is not read
while this side does not drain; and this side is not read while the pod does not read.

A connection has one pod's queries at a time, so that one pod cannot hold up another's and each answer is
somebody's. When the pod is gone and nothing is left unanswered, another may have it (`Idle`).

An answer that is the same again, with addresses that are known, goes to the pod's connection without an
object of its own; all else goes through `TCPQuery`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from array import array
from collections.abc import Callable
from functools import partial
from typing import Final

from acns.resolver.flight import ID_BYTES, Ended
from acns.resolver.framing import Frames
from acns.resolver.intercept import Server
from acns.resolver.judged import Case
from acns.resolver.query import kept_id
from acns.resolver.sockets import Sockets
from acns.resolver.stream import Stream, errno_name
from acns.resolver.tcp_query import Client, Waiting

MAX_IDLE: Final = 64
MAX_IDLE_S: Final = 2.0
"""Servers keep connections longer: RFC 7766 section 6.2.3 has "a few seconds" as the least."""
_HEAD: Final = struct.Struct("!HH")  # a frame's length, and its message's ID
_RANDOM_BYTES: Final = 4_096
_drawn: Final[array[int]] = array("H")
_IN_PROGRESS: Final = frozenset((0, errno.EINPROGRESS))
_new: Final = tuple.__new__
"""Makes a named tuple in a third of the time that its own constructor takes."""


class Idle:
    """Connections that no pod uses, each to be used again by one, the latest first."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._kept: dict[socket.socket, tuple[Server, float]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, server: Server, connection: socket.socket) -> None:
        """Watched: one that the server closes, or says something on, is closed."""
        if len(self._kept) >= MAX_IDLE:
            self._drop(next(iter(self._kept)))
        self._kept[connection] = server, self._sockets.loop.time()
        self._sockets.add(connection.fileno(), partial(self._said, connection))

    def take(self, server: Server) -> socket.socket | None:
        for connection, (there, _) in reversed(self._kept.items()):
            if there == server:
                self._forget(connection)
                return connection
        return None

    def sweep(self, now: float) -> None:
        """Close those that nobody has wanted for a while."""
        for connection, (_, since) in list(self._kept.items()):
            if since + MAX_IDLE_S > now:
                return
            self._drop(connection)

    def close(self) -> None:
        for connection in list(self._kept):
            self._drop(connection)

    def _said(self, connection: socket.socket, events: int, now: float) -> None:
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        self._sockets.remove(connection.fileno())
        del self._kept[connection]


class TCPUpstream:
    """One server's connection and the queries of one pod's connection that wait on it."""

    def __init__(
        self,
        client: Client,
        server: Server,
        timeout_s: float,
        sockets: Sockets,
        *,
        idle: Idle | None,
        as_pod: Callable[[], socket.socket | None] | None,
    ) -> None:
        """`client` hears what becomes of its queries. `as_pod`: makes a socket to ask as the pod with, if it
        can, on a connection that is nobody else's (no `idle`)."""
        self._sockets = sockets
        self._loop = sockets.loop
        self._client = client
        self._server = server
        self._timeout_s = timeout_s
        self._context = client.transport.context
        self._journal = self._context.journal
        self._ignored = self._context.metrics.ignored
        self._idle = idle
        self._as_pod = as_pod
        self._waiting: dict[int, Waiting] = {}  # by ID, oldest first
        self._connecting: socket.socket | None = None
        self._stream: Stream | None = None
        self._frames = Frames()
        self._ended = Ended()
        self._was_idle = False  # the server has answered others on this connection
        self._answered = False  # and this pod
        self._unanswered = False  # and may yet say something that nobody waits for
        self._paused = False
        self.answering = False
        """The client's `work` is about to be called."""

    @property
    def stuck(self) -> bool:
        """Whether the server reads too little."""
        return self._stream is not None and self._stream.stuck

    def send(self, case: Case, packet: bytes, now: float) -> None:
        """Queue a query that was taken on; it leaves with the next `flush`."""
        stream = self._stream
        if stream is None or not case.is_plain or not _drawn or (ident := _drawn.pop()) in self._waiting:
            self._add(Waiting(case, packet, now))
            return
        self._waiting[ident] = _new(Waiting, (case, packet, now, False))
        stream.pieces += (_HEAD.pack(len(packet), ident), packet[ID_BYTES:])  # as `_write`, without a call

    def flush(self) -> None:
        if self._stream and self._stream.pieces:
            self._stream.flush()

    def pause(self, paused: bool) -> None:
        """Read no answers for now, as the pod does not."""
        if paused is not self._paused:
            self._paused = paused
            if self._stream:
                self._stream.pause() if paused else self._stream.resume()

    def sweep(self, now: float) -> None:
        """End what waits too long. All wait equally long, so the first that is not due ends the search. Where
        the pod does not read, answers may be there in time: then it is the pod's own time that ends."""
        if self._paused and self._stream:
            return
        due = []
        for identifier, waiting in self._waiting.items():
            if waiting.asked_at > now - self._timeout_s:
                break
            due.append(identifier)
        for identifier in due:
            late = self._waiting.pop(identifier, None)
            if late is None:  # the end of one before it was the end of them all
                continue
            self._unanswered = True
            self._ended.given_up(identifier)
            query = self._client.query(late)
            query.failed("ETIMEDOUT") if self._connecting else query.silent()
        if self._connecting and due and not self._waiting:
            self._stop_connecting()

    def close(self) -> None:
        """The pod is gone."""
        abandoned, self._waiting = self._waiting, {}
        for waiting in abandoned.values():
            self._client.query(waiting).abandoned()
        self._stop_connecting()
        if self._stream is None:
            return
        owed = abandoned or self._unanswered or len(self._frames) or self._stream.unsent or self._paused
        if owed or self._idle is None:
            self._stream.close()
        else:
            self._idle.keep(self._server, self._stream.give_up())
        self._stream = None

    # --- out ------------------------------------------------------------------------------------------

    def _add(self, waiting: Waiting) -> None:
        kept = kept_id(waiting.case, waiting.packet)
        if kept is not None and kept in self._waiting:
            self._client.query(waiting).failed("another query has its ID")
            return
        identifier = _drawn_id() if kept is None else kept
        while identifier in self._waiting:  # a pod's connection has few queries in flight: this ends soon
            identifier = _drawn_id()
        self._waiting[identifier] = waiting
        if self._stream is None and self._connecting is None and not self._connect():
            return
        if self._stream:
            self._write(self._stream, identifier, waiting)

    def _write(self, stream: Stream, identifier: int, waiting: Waiting) -> None:
        packet = waiting.packet
        stream.pieces += (_HEAD.pack(len(packet), identifier), packet[ID_BYTES:])

    def _connect(self) -> bool:
        """Have a connection, or begin one; False: that failed, and what waited with it."""
        fresh = any(
            waiting.again for waiting in self._waiting.values()
        )  # another idle one may be gone as well
        kept = self._idle.take(self._server) if self._idle and not fresh else None
        if kept is not None:
            self._start(kept, was_idle=True)
            return True
        try:
            made = self._socket()
        except OSError as error:
            self._fail_all(errno_name(error))
            return False
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = made.connect_ex((socket.inet_ntoa(self._server[0]), self._server[1]))
        if code not in _IN_PROGRESS:
            made.close()
            self._fail_all(errno.errorcode.get(code, "connect failed"))
            return False
        self._connecting = made
        self._loop.add_writer(made.fileno(), self._connected, made)
        return True

    def _socket(self) -> socket.socket:
        if self._as_pod and (made := self._as_pod()):
            return made
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    def _connected(self, made: socket.socket) -> None:
        self._loop.remove_writer(made.fileno())
        self._connecting = None
        if code := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            made.close()
            self._fail_all(errno.errorcode.get(code, "connect failed"))
            self._client.work()
            return
        stream = self._start(made)
        for identifier, waiting in list(self._waiting.items()):
            if self._may_leave(waiting):
                self._write(stream, identifier, waiting)
            else:
                del self._waiting[identifier]
        stream.flush()

    def _start(self, connection: socket.socket, *, was_idle: bool = False) -> Stream:
        self._frames, self._ended, self._unanswered = Frames(), Ended(), False
        self._was_idle, self._answered = was_idle, False
        self._stream = Stream(connection, self, self._sockets)
        if not self._paused:
            self._stream.resume()
        return self._stream

    def _stop_connecting(self) -> None:
        if self._connecting:
            self._loop.remove_writer(self._connecting)
            self._connecting.close()
            self._connecting = None

    # --- in -------------------------------------------------------------------------------------------

    def received(self, stream: Stream, data: bytes) -> None:
        self.answering = True
        self._journal.burst()
        try:
            self._frames.feed(data)
            self._answers(stream, self._loop.time())
        finally:
            self.answering = False
            self._journal.nudge()
            self._client.work()

    def _answers(self, stream: Stream, now: float) -> None:
        """All that are whole, in their order."""
        client, context, journal = self._client, self._context, self._journal
        known, give, took = context.commits.known, context.budget.give, client.transport.took
        waits, answered, take, pieces = self._waiting, self._ended.answered, self._frames.take, client.pieces
        note = journal.pieces.extend if journal.on else None
        passed = 0
        try:
            while stream is self._stream and (packet := take()) is not None:
                if len(packet) < ID_BYTES:
                    self._ignored.add("malformed")
                    continue
                ident = packet[0] << 8 | packet[1]
                waiting = waits.get(ident)
                if waiting is None:
                    self._ignored.add(self._ended.kind(ident))
                    continue
                case, query, asked_at, _ = waiting
                answer = case.question.last
                if (
                    answer is not None
                    and answer.epoch == known.epoch
                    and now < answer.sure_until
                    and not case.was_counted
                    and not journal.full
                    and packet[ID_BYTES:] == case.question.last_rest
                ):
                    took(now - asked_at)
                    give(case.lane, len(query))
                    if note:
                        note((journal.now, case.answer_line, answer.known_line))
                    pieces += (answer.length, query[:ID_BYTES], answer.rest)
                    passed += 1
                    del waits[ident]
                    answered(ident)
                else:
                    self._unusual(waiting, ident, packet[ID_BYTES:], now)
        finally:
            self._answered = self._answered or passed > 0
            client.passed_on(passed, now)

    def _unusual(self, waiting: Waiting, ident: int, rest: bytes, now: float) -> None:
        """An answer that is new, or none."""
        counts = True  # a bug ends the query, too
        try:
            counts = self._client.query(waiting).answered_by(rest, now)
        finally:
            if counts:
                self._answered = True
                self._waiting.pop(ident, None)
                self._ended.answered(ident)

    def wrote(self, stream: Stream) -> None:
        if not stream.stuck:
            self._client.work()

    def ended(self, stream: Stream) -> None:
        """A server that closes its half has said all that it will."""
        stream.close()
        self.lost(stream, "closed by server")

    def lost(self, stream: Stream, reason: str) -> None:
        """The server closed. What it did not answer goes once more where it had served others: it may have
        been closing already; and as often as it has answered some of ours (RFC 7766 section 6.2.4)."""
        if stream is not self._stream:
            return
        self._stream = None
        unanswered, self._waiting = self._waiting, {}
        answered, was_idle = self._answered, self._was_idle
        for waiting in unanswered.values():
            if not (answered or (was_idle and not waiting.again)):
                self._client.query(waiting).failed("closed by server")
            elif self._may_leave(waiting):
                self._add(waiting._replace(again=True))
        self.flush()
        self._client.work()

    def _may_leave(self, waiting: Waiting) -> bool:
        """Whether it still may, now that it does; if not, that is its end."""
        judgements = self._client.transport.judgements
        if (table := self._context.link.table) is not None:
            judgements.use(table)
        if judgements.allow(waiting.case):
            return True
        self._client.query(waiting).failed("its policy has changed")
        return False

    def _fail_all(self, reason: str) -> None:
        failed, self._waiting = self._waiting, {}
        for waiting in failed.values():
            self._client.query(waiting).failed(reason)


def _drawn_id() -> int:
    """A random ID, of many drawn at once."""
    if not _drawn:
        _drawn.frombytes(os.urandom(_RANDOM_BYTES))
    return _drawn.pop()
