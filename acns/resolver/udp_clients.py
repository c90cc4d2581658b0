"""Redirected UDP queries: in through one socket, out again from the address that was asked.

What was seen before takes the shortest way: a query whose case is remembered goes on, and an answer with
addresses that are known goes to its pod, each within one function, without an object of its own, and from
where it was received (`batch`). That is most of what a resolver does, and a call costs as much as five lines.
Those that follow one another leave in one call. All else leaves this way at the first thing that is unusual,
stands in its pod's line, and goes through `Proxy`, `UDPUpstream` and `UDPQuery` when its turn comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from acns.resolver import intercept
from acns.resolver.batch import ANSWER_AT, DATAGRAMS, PEER_AT, PLACE_AT, QUERY_AT, Batch
from acns.resolver.budget import LARGE_OCTETS
from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import Address, ReplySockets, Server
from acns.resolver.judged import KNOWN, Asker, Case
from acns.resolver.lines import Lines
from acns.resolver.metrics import UDP
from acns.resolver.overload import Budgeted
from acns.resolver.proxy import Proxy
from acns.resolver.query import Query, Transport
from acns.resolver.sockets import Ready
from acns.resolver.transparent import Transparency, TransparentUDP
from acns.resolver.udp_loop import UDPLoop
from acns.resolver.udp_query import ANSWERED, GIVEN_UP, Key, Port, UDPQuery, Waiting, packet_of, source_of
from acns.resolver.udp_upstream import AGAIN_AFTER_S, NO_ID, UDPUpstream
from acns.telemetry.journal import Event

_PLACES: Final = 4_096  # servers remembered by the octets in which the kernel names them
_IN: Final = select.EPOLLIN
_BEFORE_QUERY: Final = QUERY_AT - ID_BYTES
_BEFORE_ANSWER: Final = ANSWER_AT - ID_BYTES
_NO_EPOCH: Final = -2  # no answer's
_POD: Final = slice(PEER_AT + 4, PEER_AT + 8)
"""The pod's address in a key."""
_CASE: Final = slice(PEER_AT + 4, None)
"""All of a key but the query's ID and the port that it came from."""
_put_id: Final = struct.Struct("!H").pack_into
_new: Final = tuple.__new__
"""Makes a named tuple in a third of the time that its own constructor takes."""

_A_FEW: Final = 4  # out of the lines, before what has come meanwhile; one takes some 50 µs
_IN_LINE_OF_POD: Final = 1_024
_IN_LINE: Final = 8_192  # of all, beside one of each pod
_LARGE_IN_LINE_OF_POD: Final = 16  # such are rare, and take much room
_LARGE_IN_LINE: Final = 128

Item = TypeVar("Item")
Came = tuple[Port, bytes, Address]
"""An answer: where, what, from whom."""


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
        self._new_names = proxy.context.new_names
        self._transparency = transparency
        self._as_pods = as_pods
        self._loop = loop
        self._journal = proxy.journal
        self._known = self.transport.context.commits.known
        self._took = self.transport.took
        self._passed = self.transport.outcome(KNOWN)
        self._cases = self.transport.judgements.cases
        self._given_up = False
        self._asked: dict[Key, Waiting] = {}
        self._budget = self.transport.context.budget
        self._descriptor = listener.fileno()
        self._queries, self._answers = Batch(control=True), Batch(control=False)
        self._servers: dict[bytes, Server] = {}
        self._new: Lines[Key] = Lines()
        self._come: Lines[Came] = Lines()
        self._large_in_line = 0
        loop.behind(self._work_off)

    def start(self) -> None:
        """The upstream is open by now."""
        self._loop.add(self._listener, self._readable)

    def ready(self, port: Port) -> Ready:
        """For the upstream: what to call when something is at one of its sockets."""
        return functools.partial(self._answer, port)

    def give_up(self) -> socket.socket:
        """Read no more; somebody else may, from this listener and its queue. Answers still leave."""
        self._loop.remove(self._listener)
        self._given_up = True
        return self._listener

    def take_back(self) -> None:
        """Read again."""
        if self._given_up:
            self._given_up = False
            self.start()

    def stop(self) -> None:
        """Take no more queries; answers still leave. May be called twice."""
        if self._listener.fileno() >= 0:
            if not self._given_up:
                self._loop.remove(self._listener)
            self._listener.close()

    # --- the shortest ways ----------------------------------------------------------------------------

    def _readable(self, events: int, now: float) -> None:
        """A burst of queries. They leave from one port: which, nobody can know beforehand."""
        self.transport.judgements.use(self._proxy.table)
        batch, asked, journal, budget = self._queries, self._asked, self._journal, self._budget
        memory, starts, lengths = batch.memory, batch.starts, batch.lengths
        cases = {} if self._transparency.is_on else self._cases.young
        random, port, within_rate = self._upstream.random, self._upstream.port(), self._rates.take
        waits, note = port.waiting, journal.lines.append if journal.on else None
        most, most_here, most_there = budget.per_endpoint, budget.per_lane, budget.per_server
        first, forwarded, room = 0, 0, 0 if journal.full else budget.total - budget.taken
        generation = self._replies.generation
        unusual: list[Key] = []
        over_rate: list[Key] = []
        refused: list[tuple[int, Case]] = []
        received = batch.receive(self._descriptor)
        for number, length in enumerate(received):
            start = starts[number]
            key = memory[start : start + length + _BEFORE_QUERY]
            if within_rate(key[_POD], now):
                case = cases.get(key[_CASE])
                if case is not None and case.is_plain and key not in asked and random:
                    ident, lane = random.pop(), case.lane
                    endpoint, there = lane.endpoint, lane.server
                    if (
                        ident not in waits
                        and lane.taken < most_here
                        and endpoint.taken < most
                        and there.taken < most_there
                        and forwarded < room
                    ):
                        lane.taken += 1
                        endpoint.taken += 1
                        there.taken += 1
                        if note:
                            note(case.query_line)
                        asked[key] = waits[ident] = _new(Waiting, (case, key, now, port, ident, now))
                        _put_id(memory, start, ident)
                        lengths[number] = length - ID_BYTES
                        forwarded += 1
                        continue
                if (
                    case is not None
                    and case.refused
                    and case.asker.sender_generation == generation
                    and key not in asked  # what was on its way by an earlier policy ends with it
                ):
                    refused.append((number, case))
                else:
                    unusual.append(key)
            else:
                over_rate.append(key)
            self._forward_on(port, first, number)
            first = number + 1
        self._forward_on(port, first, len(received))
        budget.taken += forwarded
        self.transport.forwarded.count += forwarded
        self._rates.pressed = intercept.pressure(self._listener) if len(received) == DATAGRAMS else 1
        self._refuse(refused)
        for key in unusual:
            self._queue_query(key, now)
        for key in over_rate:
            self._over(key, self._proxy.rate_kind, now)

    def _answer(self, port: Port, events: int, now: float) -> None:
        """Something is at an upstream socket."""
        if events != _IN:
            self._upstream.read_errors(port)
            if not events & _IN:
                return
        batch, asked, journal = self._answers, self._asked, self._journal
        memory, starts, lengths, waits, ended = (
            batch.memory,
            batch.starts,
            batch.lengths,
            port.waiting,
            port.ended,
        )
        note = journal.lines.append if journal.on else None
        epoch = self._known.epoch if not journal.full else _NO_EPOCH
        generation, took, policy = self._replies.generation, self._took, self.transport.policy()
        first, passed, asker, sender = 0, 0, None, None
        unusual: list[tuple[Waiting, Came]] = []
        received = batch.receive(port.descriptor)
        for number, length in enumerate(received):
            start = starts[number]
            waiting = waits.get(memory[start] << 8 | memory[start + 1])
            if waiting is not None:
                case, key, asked_at, _, ident, _ = waiting
                question = case.question
                answer = question.last
                if (
                    answer is not None
                    and answer.epoch == epoch
                    and now < answer.sure_until
                    and not case.was_counted
                    and case.policy is policy
                    and memory[start + ANSWER_AT : start + length + _BEFORE_ANSWER] == question.last_rest
                    and memory[start + PEER_AT : start + ANSWER_AT] == case.place
                    and (case.asker is asker or case.asker.sender_generation == generation)
                ):
                    if case.asker is not asker:
                        asker = case.asker
                        if asker.sender is not sender:
                            self._pass_on(batch, sender, first, number)
                            first, sender = number, asker.sender
                    del waits[ident], asked[key]
                    ended[ident] = ANSWERED
                    took(now - asked_at)
                    lane = case.lane
                    lane.taken -= 1
                    lane.endpoint.taken -= 1
                    lane.server.taken -= 1
                    if note:
                        note(case.answer_line + answer.known_line)
                    memory[start : start + ANSWER_AT] = key[:ANSWER_AT]
                    lengths[number] = length - ID_BYTES
                    if not answer.is_same:
                        batch.put(number, answer.rest)
                    passed += 1
                    continue
            packet, source = batch.packet(number, length), batch.peer(number)
            if waiting is None or waiting[0].address != source:
                self._upstream.ignore(port, packet, source)
            else:
                unusual.append((waiting, (port, packet, source)))
            self._pass_on(batch, sender, first, number)
            first = number + 1
        self._pass_on(batch, sender, first, len(received))
        self._budget.taken -= passed
        self._passed.count += passed
        for of, came in unusual:
            self._queue_answer(of.case.asker.source, came)

    def _refuse(self, refused: list[tuple[int, Case]]) -> None:
        """These queries, as they were refused before: those that follow one another from one server leave in
        one call."""
        journal, batch = self._journal, self._queries
        sender, first, end = None, 0, 0
        for number, case in refused:
            if number != end or case.asker.sender is not sender:
                self._pass_on(batch, sender, first, end)
                first, sender = number, case.asker.sender
            end = number + 1
            batch.put(number, case.reply_rest)
            if journal.on:
                journal.record_ready(case.query_line)
            if case.refused:
                case.refused.count += 1
        self._pass_on(batch, sender, first, end)

    def _forward_on(self, port: Port, first: int, end: int) -> None:
        """These queries, to the servers that were asked."""
        batch = self._queries
        while first < end:
            try:
                first += batch.send(port.descriptor, first, end)
            except OSError as error:
                start = batch.starts[first]
                waiting = port.waiting.get(batch.memory[start] << 8 | batch.memory[start + 1])
                if waiting is not None:
                    self._upstream.unsent(waiting, error)
                first += 1

    def _pass_on(self, batch: Batch, sender: socket.socket | None, first: int, end: int) -> None:
        """These answers, to the pods that asked."""
        while sender is not None and first < end:
            try:
                first += batch.send_back(sender.fileno(), first, end)
            except OSError as error:
                self._unsent(batch.peer(first), error)
                first += 1

    # --- all others -----------------------------------------------------------------------------------

    @property
    def in_line(self) -> int:
        """Queries and answers that nobody has looked at yet."""
        return len(self._new) + len(self._come)

    def _queue_query(self, key: Key, now: float) -> None:
        """What a pod may not ask is told at once: each in line is a turn of the loop more. What it asks again
        while the first is on its way is not new, whatever is forgotten meanwhile."""
        if key not in self._asked and not self._may_be_new(key, now):
            self._over(key, Budgeted.NEW_NAMES, now)
        elif self._has_room(self._new, key[_POD], len(key)):
            self._put(self._new, key[_POD], key, len(key))
        else:
            self._over(key, Budgeted.IN_FLIGHT, now)

    def _queue_answer(self, pod: bytes, came: Came) -> None:
        if self._has_room(self._come, pod, len(came[1])):
            self._put(self._come, pod, came, len(came[1]))
        else:
            self._proxy.metrics.ignored.add("no_room")

    def _has_room(self, lines: Lines[Any], pod: bytes, octets: int) -> bool:
        """However long the others' lines are, there is room for one of each pod that is not large."""
        in_line = lines.of(pod)
        if octets > LARGE_OCTETS:
            return in_line < _LARGE_IN_LINE_OF_POD and self._large_in_line < _LARGE_IN_LINE
        return not in_line or (in_line < _IN_LINE_OF_POD and len(lines) < _IN_LINE)

    def _put(self, lines: Lines[Item], pod: bytes, item: Item, octets: int) -> None:
        lines.put(pod, item)
        self._large_in_line += octets > LARGE_OCTETS
        self._loop.wake()

    def _work_off(self, now: float) -> bool:
        """A little of what is in line. Whether there is more."""
        if not self.in_line:
            return False
        self.transport.judgements.use(self._proxy.table)
        for _ in range(_A_FEW // 2):
            if (came := self._come.take()) is not None:
                self._large_in_line -= len(came[1]) > LARGE_OCTETS
                self._work_on(self._unusual, came, now)
            if (key := self._new.take()) is not None:
                self._large_in_line -= len(key) > LARGE_OCTETS
                self._work_on(self._query, key, now)
        return self.in_line > 0

    def _work_on(self, work: Callable[[Item, float], None], item: Item, now: float) -> None:
        """A bug in one holds up no other."""
        try:
            work(item, now)
        except Exception as error:  # noqa: BLE001 - reported as any other that nobody catches
            context = {"message": "a datagram failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _query(self, key: Key, now: float, *, may_wait: bool = True) -> None:
        key = key.ljust(QUERY_AT, b"\0")  # one shorter than an ID
        place, packet = key[PLACE_AT:QUERY_AT], packet_of(key)
        server = self._servers.get(place) or self._server(place)
        same = self._asked.get(key)
        if server is None:
            self.transport.verdict("direct").count += 1
            return
        if same is not None:
            self._repeated(same, now)
            return
        if not self._may_be_new(key, now):
            self._over(key, Budgeted.NEW_NAMES, now)
            return
        case = self.transport.judgements.case(key[_CASE], key[_POD], server, packet)
        if may_wait and case.is_early:
            again = functools.partial(self._judge_again, key)
            if self._proxy.early.keep(key[_POD], again, len(packet)):
                return
        own = self._proxy.own_reply(self.transport, case, packet)
        if own is None:
            self._forward(case, key, now)
        elif own:
            self.send(server, own, source_of(key))
            self._find_sender(case.asker)

    def _repeated(self, waiting: Waiting, now: float) -> None:
        """A query comes once more while the first is on its way: they are one."""
        if self.transport.allows(waiting.case):
            self.transport.joined.count += 1
            self._asked[waiting.key] = self._again(waiting, now)
        elif waiting.port.waiting.get(waiting.ident) is waiting:  # nobody but us has it
            waiting.port.end(waiting.ident, GIVEN_UP)
            UDPQuery(self, waiting).revoked()
        elif self._as_pods.give_up(packet_of(waiting.key), waiting.case.asker.server, source_of(waiting.key)):
            UDPQuery(self, waiting).revoked()

    def _judge_again(self, key: Key, may_wait: bool) -> None:
        """Another policy is there, or the query's own has been waited for in vain."""
        self.transport.judgements.use(self._proxy.table)
        self._query(key, time.monotonic(), may_wait=may_wait)

    def _may_be_new(self, key: Key, now: float) -> bool:
        return key[_CASE] in self._cases or self._new_names.may_be_asked(key[_POD], packet_of(key), now)

    def _over(self, key: Key, kind: Budgeted, now: float) -> None:
        """Past one of its pod's budgets."""
        if not self._proxy.over(key[_POD], UDP, kind, now):
            return
        key = key.ljust(QUERY_AT, b"\0")
        place = key[PLACE_AT:QUERY_AT]
        server = self._servers.get(place) or self._server(place)
        answer = self._proxy.overload.reply(packet_of(key), UDP)
        if server is not None and answer is not None:
            self.send(server, answer, source_of(key))

    def _forward(self, case: Case, key: Key, now: float) -> None:
        waiting = self._asked[key] = self._upstream.place(case, key, now)
        as_pod = self._transparency.applies(case.asker.server)
        if not (as_pod and self._as_pods.send(UDPQuery(self, waiting), source_of(key))):
            self._upstream.send(waiting)

    def _unusual(self, came: Came, now: float) -> None:
        """An answer that is new, or none."""
        port, packet, source = came
        ident = int.from_bytes(packet[:ID_BYTES]) if len(packet) >= ID_BYTES else NO_ID
        waiting = port.waiting.get(ident)
        if waiting is None or waiting.case.address != source:
            self._upstream.ignore(port, packet, source)
            return
        self._find_sender(waiting.case.asker)
        counts = True  # a bug ends the query, too
        try:
            counts = UDPQuery(self, waiting).answered_by(packet[ID_BYTES:], now)
        finally:
            if counts:
                port.end(ident)

    def _again(self, waiting: Waiting, now: float) -> Waiting:
        """The pod repeats itself: the first datagram, or its answer, may have been lost."""
        if now < waiting.sent_at + AGAIN_AFTER_S:
            return waiting
        if self._as_pods.send_again(
            packet_of(waiting.key), waiting.case.asker.server, source_of(waiting.key)
        ):
            return waiting._replace(sent_at=now)
        return self._upstream.again(waiting, now)

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

    def _find_sender(self, asker: Asker) -> None:
        """For the next answers; where there is none, they too take the longer way, and may fail there."""
        with contextlib.suppress(OSError):
            if sender := self._replies.sender(asker.server):
                asker.sender = sender
                asker.sender_generation = self._replies.generation

    def _unsent(self, to: Address, error: OSError) -> None:
        """A full buffer, too."""
        self.transport.outcome("send-error").count += 1
        code = errno.errorcode.get(error.errno or 0, "?")
        self._journal.record(Event.DNS_ANSWER, outcome="send-error", source=to[0], reason=code)

    def _server(self, place: bytes) -> Server | None:
        """The server that the kernel names so; None where it was not redirected to us."""
        server = intercept.server_of(place)
        if server == self._own or not any(place):
            # Sent to our own port; to answer from there would shadow this very socket.
            return None
        if len(self._servers) >= _PLACES:
            self._servers.clear()
        self._servers[place] = server
        return server
