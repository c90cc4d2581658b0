"""The TCP connection to a DNS server that stands behind one TCP connection of a pod.

Made at the first query, made again when the server has closed it meanwhile (RFC 7766 section 6.2.4: servers
close idle connections, so a query sent into a closing one is sent once more; and some close after an answer,
so what waits behind it is sent some times). Queries are pipelined under random IDs, answers may come in any
order. Queries are bounded by the pod's connection, which is not read while this side does not drain; and this
side is not read while the pod does not read.

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
from collections.abc import Callable, Iterable
from typing import Final

from acns.resolver.budget import LARGE_OCTETS
from acns.resolver.flight import DUPLICATE, ID_BYTES, Ended
from acns.resolver.framing import Frames
from acns.resolver.idle import Idle
from acns.resolver.intercept import Server
from acns.resolver.judged import Case
from acns.resolver.metrics import PORT
from acns.resolver.query import Query, kept_id
from acns.resolver.sockets import Sockets
from acns.resolver.stream import Stream, errno_name
from acns.resolver.tcp_query import Client, Waiting

AGAIN_AT_MOST: Final = 8
"""So often a query is sent once more, where each connection has answered some before it closed: a pod may
have many wait, and each time all of them leave again. A large one goes once more."""
_HEAD: Final = struct.Struct("!HH")  # a frame's length, and its message's ID
_RANDOM_BYTES: Final = 4_096
_drawn: Final[array[int]] = array("H")
_IN_PROGRESS: Final = frozenset((0, errno.EINPROGRESS))
_new: Final = tuple.__new__
"""Makes a named tuple in a third of the time that its own constructor takes."""


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
        self.paused = False
        """It reads no answers, as the pod does not."""
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
        self._waiting[ident] = _new(Waiting, (case, packet, now, 0))
        stream.pieces += (_HEAD.pack(len(packet), ident), packet[ID_BYTES:])  # as `_write`, without a call

    def flush(self) -> None:
        if self._stream and self._stream.pieces:
            self._stream.flush()

    def pause(self, paused: bool) -> None:
        """Read no answers for now, as the pod does not."""
        if paused is not self.paused:
            self.paused = paused
            if self._stream:
                self._stream.pause() if paused else self._stream.resume()

    def sweep(self, now: float) -> None:
        """End what waits too long. All wait equally long, so the first that is not due ends the search. Where
        the pod does not read, answers may be there in time: then it is the pod's own time that ends."""
        if self.paused and self._stream:
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
        owed = abandoned or self._unanswered or len(self._frames) or self._stream.unsent or self.paused
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
            waiting.times for waiting in self._waiting.values()
        )  # another idle one may be gone as well
        kept = self._idle.take(self._server) if self._idle and not fresh else None
        if kept is not None:
            self._start(kept, was_idle=True)
            return True
        try:
            made, code = self._begun()
        except OSError as error:
            self._fail_all(errno_name(error))
            return False
        if code not in _IN_PROGRESS:
            made.close()
            self._fail_all(errno.errorcode.get(code, "connect failed"))
            return False
        self._connecting = made
        self._loop.add_writer(made.fileno(), self._connected, made)
        return True

    def _begun(self) -> tuple[socket.socket, int]:
        """A socket that connects, and how that has begun. Raises OSError."""
        if self._as_pod and (made := self._as_pod()):
            if (code := self._begin(made)) != errno.EADDRNOTAVAIL:
                return made, code
            made.close()  # what the server has closed from there is not over yet
            self._context.metrics.not_transparent.add(PORT)
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        return made, self._begin(made)

    def _begin(self, made: socket.socket) -> int:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made.connect_ex((socket.inet_ntoa(self._server[0]), self._server[1]))

    def _connected(self, made: socket.socket) -> None:
        self._loop.remove_writer(made.fileno())
        self._connecting = None
        if code := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            made.close()
            self._fail_all(errno.errorcode.get(code, "connect failed"))
            self._client.work()
            return
        stream = self._start(made)
        revoked = {ident: one for ident, one in self._waiting.items() if not self._allows(one)}
        for identifier in revoked:
            del self._waiting[identifier]
        for identifier, waiting in self._waiting.items():
            self._write(stream, identifier, waiting)
        stream.flush()
        self._end(revoked.values(), Query.revoked)

    def _start(self, connection: socket.socket, *, was_idle: bool = False) -> Stream:
        self._frames, self._ended, self._unanswered = Frames(), Ended(), False
        self._was_idle, self._answered = was_idle, False
        self._stream = Stream(connection, self, self._sockets)
        if not self.paused:
            self._stream.resume()
        return self._stream

    def _stop_connecting(self) -> None:
        if self._connecting:
            self._loop.remove_writer(self._connecting)
            self._connecting.close()
            self._connecting = None

    # --- in -------------------------------------------------------------------------------------------

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        self.answering = True
        self._journal.burst()
        try:
            self._frames.feed(data)
            self._answers(stream, now)
        finally:
            self.answering = False
            self._client.work_at(now)  # the journal is nudged there

    def _answers(self, stream: Stream, now: float) -> None:
        """All that are whole, in their order."""
        client, context, journal = self._client, self._context, self._journal
        known, took = context.commits.known, client.transport.took
        waits, ended, take, pieces = self._waiting, self._ended.how, self._frames.take, client.pieces
        note, policy = journal.lines.append if journal.on else None, client.transport.policy()
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
                    and case.policy is policy
                    and not journal.full
                    and packet[ID_BYTES:] == case.question.last_rest
                ):
                    took(now - asked_at)
                    lane = case.lane
                    lane.taken -= 1
                    lane.endpoint.taken -= 1
                    lane.server.taken -= 1
                    if note:
                        note(case.answer_line + answer.known_line)
                    pieces += (answer.length, query[:ID_BYTES], answer.rest)
                    passed += 1
                    del waits[ident]
                    ended[ident] = DUPLICATE
                else:
                    self._unusual(waiting, ident, packet[ID_BYTES:], now)
        finally:
            if passed:
                self._answered = True
                self._ended.bound()
                context.budget.taken -= passed
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
        """The server closed. What it did not answer goes once more where it had served others, since it may
        have been closing already, and some times where it has answered some of ours."""
        if stream is not self._stream:
            return
        self._stream = None
        unanswered, self._waiting = list(self._waiting.values()), {}
        failed, revoked, again = list[Waiting](), list[Waiting](), list[Waiting]()
        for one in unanswered:
            fate = failed if not self._goes_again(one) else again if self._allows(one) else revoked
            fate.append(one)
        for one in again:
            self._add(one._replace(times=one.times + 1))
        self.flush()
        self._end(failed, lambda query: query.failed("closed by server"))
        self._end(revoked, Query.revoked)
        self._client.work()

    def _goes_again(self, waiting: Waiting) -> bool:
        """Of what this connection has left unanswered."""
        if self._answered and len(waiting.packet) <= LARGE_OCTETS:
            return waiting.times < AGAIN_AT_MOST
        return (self._answered or self._was_idle) and not waiting.times

    def _allows(self, waiting: Waiting) -> bool:
        """Whether it may leave now; its policy may have changed since it came."""
        return self._client.transport.allows(waiting.case)

    def _fail_all(self, reason: str) -> None:
        failed, self._waiting = self._waiting, {}
        self._end(failed.values(), lambda query: query.failed(reason))

    def _end(self, ended: Iterable[Waiting], end: Callable[[Query], None]) -> None:
        """A bug in one is nothing to the others."""
        for waiting in ended:
            try:
                end(self._client.query(waiting))
            except Exception as error:  # noqa: BLE001 - reported as any other that nobody catches
                self._loop.call_exception_handler({"message": "a query failed", "exception": error})


def _drawn_id() -> int:
    """A random ID, of many drawn at once."""
    if not _drawn:
        _drawn.frombytes(os.urandom(_RANDOM_BYTES))
    return _drawn.pop()
