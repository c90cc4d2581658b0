"""Redirected UDP queries: in through one socket, out again from the address that was asked.

What was seen before takes the shortest way: a query whose case is remembered goes on, and an answer with
addresses that are known goes to its pod, each within one function and without an object of its own. That is
most of what a resolver does, and a call costs as much as five lines. All else leaves this way at the first
thing that is unusual, and goes through `Proxy`, `UDPUpstream` and `UDPQuery`.
"""

from __future__ import annotations

import errno
import functools
import select
import socket
import struct
from typing import Final

from acns.resolver import intercept
from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import ANCILLARY_BYTES, MAX_MESSAGE_BYTES, Address, ReplySockets, Sender, Server
from acns.resolver.judged import Asker, Case
from acns.resolver.metrics import UDP
from acns.resolver.proxy import Proxy
from acns.resolver.query import Query, Transport
from acns.resolver.transparent import Transparency, TransparentUDP
from acns.resolver.udp_loop import Ready, UDPLoop
from acns.resolver.udp_query import ANSWERED, Key, Port, UDPQuery, Waiting
from acns.resolver.udp_upstream import SOCKETS, UDPUpstream
from acns.telemetry.journal import Event

BURST: Final = 16  # queries read before answers get their turn
_PLACES: Final = 4_096  # servers remembered by the octets in which the kernel names them
_KNOWN: Final = "known"
_IN: Final = select.EPOLLIN
_pack_id: Final = struct.Struct("!H").pack
_new: Final = tuple.__new__
"""Makes a named tuple in a third of the time that its own constructor takes."""


class UDPClients:
    """All pods that ask over UDP."""

    def __init__(
        self,
        listener: socket.socket,
        proxy: Proxy,
        upstream: UDPUpstream,
        replies: ReplySockets,
        transparency: Transparency,
        as_pods: TransparentUDP,
        loop: UDPLoop,
    ) -> None:
        self.transport: Transport = proxy.transports[UDP]
        self._listener = listener
        self._own: Server = (socket.inet_aton(listener.getsockname()[0]), listener.getsockname()[1])
        self._proxy = proxy
        self._upstream = upstream
        self._replies = replies
        self._rates = proxy.rates
        self._transparency = transparency
        self._as_pods = as_pods
        self._loop = loop
        self._journal = proxy.journal
        self._known = self.transport.context.commits.known
        self._give = self.transport.context.budget.give
        self._took = self.transport.took
        self._passed = self.transport.outcome(_KNOWN)
        self._add = proxy.journal.lines.append
        self._cases = self.transport.judgements.cases
        self._asked: dict[Key, Waiting] = {}
        self._receive = listener.recvmsg
        self._take = self.transport.context.budget.take
        self._out: list[tuple[Sender, bytes, Address, Waiting | None]] = []
        """What leaves at the end of the round; with what waits for an answer to it."""
        self._servers: dict[bytes, Server] = {}
        self._burst = 1

    def start(self) -> None:
        """The upstream is open by now."""
        self._loop.flush = self._flush
        self._loop.add(self._listener, self._readable)

    def ready(self, port: Port) -> Ready:
        """For the upstream: what to call when something is at one of its sockets."""
        return functools.partial(self._answer, port)

    def give_up(self) -> socket.socket:
        """Read no more; the listener with its queue is the caller's. Answers still leave."""
        self._loop.remove(self._listener)
        return self._listener

    def stop(self) -> None:
        """Take no more queries; answers still leave. May be called twice."""
        if self._listener.fileno() >= 0:
            self._loop.remove(self._listener)
            self._listener.close()

    # --- the shortest ways ----------------------------------------------------------------------------

    def _readable(self, events: int, now: float) -> None:
        """Reads as many queries as there may be: to find nothing left costs as much as to read."""
        receive, journal, asked, upstream = self._receive, self._journal, self._asked, self._upstream
        self.transport.judgements.use(self._proxy.table)
        self._rates.pressed = intercept.is_filling(self._listener)
        as_node, within_rate = not self._transparency.is_on, self._rates.take
        cases, random, ports, forwarded = self._cases.young, upstream.random, upstream.ports, 0
        out = self._out.append
        burst, self._burst = self._burst, min(2 * self._burst, BURST)
        for _ in range(burst):
            try:
                packet, ancillary, _, source = receive(MAX_MESSAGE_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                self._burst = 1
                break
            place = ancillary[0][2] if ancillary else b""
            key = source, place, packet
            if not within_rate(source[0], now):
                self._over_rate(key)
                continue
            case = cases.get((source[0], place, packet[2:]))
            if case is None or not case.is_plain or key in asked or not (random and as_node):
                self._query(key, now)
                cases = self._cases.young
                continue
            drawn = random.pop()
            port, ident = ports[drawn % SOCKETS], drawn >> 16
            if ident in port.waiting or journal.full or not self._take(case.endpoint_id):
                self._query(key, now)
                continue
            forwarded += 1
            if journal.on:
                self._add((journal.now, case.query_line))
            asked[key] = port.waiting[ident] = waiting = _new(Waiting, (case, key, now, port, ident, now))
            out((port.send, _pack_id(ident) + packet[2:], case.address, waiting))
        self.transport.forwarded.count += forwarded

    def _answer(self, port: Port, events: int, now: float) -> None:
        """Something is at an upstream socket."""
        if events != _IN:
            self._upstream.read_errors(port)
            if not events & _IN:
                return
        try:
            packet, source = port.receive(MAX_MESSAGE_BYTES)
        except OSError:
            return  # an ICMP error; what it is about is in the error queue
        ident = packet[0] << 8 | packet[1] if len(packet) >= ID_BYTES else -1
        waiting = port.waiting.get(ident)
        if waiting is None or waiting[0].address != source:
            self._upstream.ignore(port, packet, source)
            return
        case, key, asked_at, _, _, _ = waiting
        question, journal = case.question, self._journal
        answer, rest = question.last, packet[2:]
        if (
            answer is None
            or now >= answer.sure_until
            or rest != question.last_rest
            or answer.epoch != self._known.epoch
            or journal.full
        ):
            if UDPQuery(self, waiting).answered_by(rest, now):
                port.end(ident)
            return
        del port.waiting[ident], self._asked[key]
        port.ended[ident] = ANSWERED
        self._took(now - asked_at)
        self._give(case.endpoint_id)
        self._passed.count += 1
        if journal.on:
            self._add((journal.now, case.answer_line, answer.lines.get(_KNOWN) or answer.line(_KNOWN)))
        asker = case.asker
        sender = asker.sender if asker.sender_generation == self._replies.generation else None
        if sender is None and (sender := self._sender(asker, key[0])) is None:
            return
        self._out.append((sender, key[2][:2] + answer.rest, key[0], None))

    def _flush(self) -> None:
        for send, packet, to, waiting in self._out:
            try:
                send(packet, to)
            except OSError as error:
                if waiting is None:
                    self._unsent(to, error)
                else:
                    self._upstream.unsent(waiting, error)
        self._out.clear()

    # --- all others -----------------------------------------------------------------------------------

    def _query(self, key: Key, now: float) -> None:
        source, place, packet = key
        server = self._servers.get(place) or self._server(place)
        same = self._asked.get(key)
        if server is None:
            self.transport.verdict("direct").count += 1
            return
        if same is not None:
            self.transport.joined.count += 1
            self._asked[key] = self._upstream.again(same, now)
            return
        of_case = source[0], place, packet[ID_BYTES:]
        case = self.transport.judgements.case(of_case, socket.inet_aton(source[0]), server, packet)
        own = self._proxy.own_reply(self.transport, case, packet)
        if own is None:
            self._forward(case, key, now)
        elif own:
            self.send(server, own, source)

    def _over_rate(self, key: Key) -> None:
        source, place, packet = key
        server = self._servers.get(place) or self._server(place)
        answer = self._proxy.over_rate(packet, source[0], UDP)
        if server is not None and answer is not None:
            self.send(server, answer, source)

    def _forward(self, case: Case, key: Key, now: float) -> None:
        waiting = self._asked[key] = self._upstream.place(case, key, now)
        if self._transparency.applies(case.asker.server):
            self._as_pods.send(UDPQuery(self, waiting), key[0])
        else:
            self._upstream.send(waiting)

    def query(self, waiting: Waiting) -> Query:
        """For all other ends that a query may take."""
        return UDPQuery(self, waiting)

    def forget(self, key: Key) -> None:
        """It is on its way no more."""
        self._asked.pop(key, None)

    def send(self, server: Server, answer: bytes, to: Address) -> None:
        """To a pod. What cannot leave is lost, and asked for again."""
        try:
            self._replies.send(server, answer, to)
        except OSError as error:
            self._unsent(to, error)

    def _sender(self, asker: Asker, to: Address) -> Sender | None:
        """None where no socket can be had."""
        try:
            asker.sender = self._replies.sender(asker.server)
        except OSError as error:
            self._unsent(to, error)
            return None
        asker.sender_generation = self._replies.generation
        return asker.sender

    def _unsent(self, to: Address, error: OSError) -> None:
        """A full buffer, too."""
        self.transport.outcome("send-error").count += 1
        code = errno.errorcode.get(error.errno or 0, "?")
        self._journal.record(Event.DNS_ANSWER, outcome="send-error", source=to[0], reason=code)

    def _server(self, place: bytes) -> Server | None:
        """The server that the kernel names so; None where it was not redirected to us."""
        server = intercept.server_of(place) if place else None
        if server is None or server == self._own:
            # Sent to our own port; to answer from there would shadow this very socket.
            return None
        if len(self._servers) >= _PLACES:
            self._servers.clear()
        self._servers[place] = server
        return server
