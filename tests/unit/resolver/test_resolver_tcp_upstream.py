"""The connection to a server: under which IDs queries share it, and when it may be another pod's."""

from __future__ import annotations

import asyncio
import copy
import select
import socket
import struct
from typing import Final

import pytest

from acns.dns import wire
from acns.fqdn.table import PolicyTable
from acns.resolver.flight import ID_BYTES
from acns.resolver.framing import Frames, framed
from acns.resolver.idle import Idle
from acns.resolver.judged import Judgements
from acns.resolver.metrics import TCP
from acns.resolver.query import Query
from acns.resolver.sockets import Ready, Sockets
from acns.resolver.tcp_query import TCPQuery, Waiting
from acns.resolver.tcp_upstream import TCPUpstream
from tests.unit.resolver import alone
from tests.unit.resolver.alone import ANSWER, NAME, QUERY, QUESTION, SERVER, answer_to, under_id

_SIG0: Final = wire.record_tail(24, 255, 0, bytes(17) + b"\1\3key\0" + b"signature")
SIGNED: Final = QUERY[:10] + b"\0\1" + QUESTION + b"\0" + _SIG0
_PADDING: Final = struct.pack("!HH", 12, 60_000) + bytes(60_000)  # RFC 7830
PADDED: Final = QUERY[:10] + b"\0\1" + QUESTION + b"\0" + wire.record_tail(41, 1232, 0, _PADDING)
TIMEOUT_S: Final = 5.0
WAIT_S: Final = 10.0


class Recorded(TCPQuery):
    """Notes how it ends."""

    __slots__ = ("outcomes",)
    outcomes: list[str]

    def answered_by(self, rest: bytes, now: float) -> bool:
        self.outcomes.append("answered")
        return super().answered_by(rest, now)

    def failed(self, reason: str) -> None:
        self.outcomes.append(reason)
        super().failed(reason)

    def silent(self) -> None:
        self.outcomes.append("silent")
        super().silent()

    def abandoned(self) -> None:
        self.outcomes.append("abandoned")
        super().abandoned()


class Pod:
    """A pod's connection: what it is told. `outcomes`: of queries that needed more than to be passed on."""

    def __init__(self) -> None:
        self.proxy = alone.proxy()
        self.transport = self.proxy.transports[TCP]
        self.pieces: list[bytes] = []
        self.outcomes: list[str] = []
        self.passed = 0

    def query(self, waiting: Waiting) -> Query:
        query = Recorded(self, waiting)
        query.outcomes = self.outcomes
        return query

    def passed_on(self, count: int, now: float) -> None:
        self.passed += count

    def work_at(self, now: float) -> None:
        self.work()

    def work(self) -> None:
        """Whatever there is to do."""

    def reply(self, packet: bytes | None) -> None:
        if packet is not None:
            self.pieces.append(framed(packet))

    @property
    def ended(self) -> int:
        return len(self.outcomes) + self.passed

    @property
    def in_flight(self) -> int:
        return self.proxy.context.budget.taken


class Connection:
    """A pod's connection to a server, which was idle before, and the server's end of it."""

    def __init__(self) -> None:
        self.sockets = Sockets()
        self.idle = Idle(self.sockets)
        self.ours, self.server = socket.socketpair()
        self.ours.setblocking(False)
        self.server.setblocking(False)
        self.idle.keep(SERVER, self.ours)
        self.pod = Pod()
        self.upstream = TCPUpstream(self.pod, SERVER, TIMEOUT_S, self.sockets, idle=self.idle, as_pod=None)

    def ask(self, *queries: bytes) -> None:
        proxy = self.pod.proxy
        for query in queries:
            case = alone.case_of(proxy, query)
            assert proxy.own_reply(self.pod.transport, case, query) is None
            self.upstream.send(case, query, asyncio.get_running_loop().time())
        self.upstream.flush()

    async def received(self) -> bytes:
        """The first query at the server."""
        return (await self.all_received(1))[0]

    async def all_received(self, count: int) -> list[bytes]:
        """So many queries at the server."""
        frames, packets = Frames(), list[bytes]()
        async with asyncio.timeout(WAIT_S):
            while len(packets) < count:
                if (packet := frames.take()) is not None:
                    packets.append(packet)
                else:
                    frames.feed(await asyncio.get_running_loop().sock_recv(self.server, 65_536))
        return packets

    async def answer(self, *packets: bytes, behind: bytes = b"") -> None:
        """The server says this in one piece; returns when so many queries have ended."""
        ended = self.pod.ended
        self.server.send(b"".join(map(framed, packets)) + behind)
        async with asyncio.timeout(WAIT_S):
            while self.pod.ended < ended + len(packets):
                await asyncio.sleep(0)

    async def answered(self, behind: bytes = b"") -> None:
        """One query has been asked and answered."""
        self.ask(QUERY)
        await self.answer(answer_to(await self.received()), behind=behind)
        assert self.pod.outcomes == ["answered"]

    def may_be_anothers(self) -> bool:
        """Whether another pod may have it when this one is gone."""
        self.upstream.close()
        kept = len(self.idle) == 1
        self.idle.close()
        self.sockets.close()
        self.server.close()
        return kept


@pytest.fixture
async def connection() -> Connection:
    return Connection()


async def test_a_connection_on_which_all_is_answered_may_be_anothers(connection: Connection) -> None:
    await connection.answered()
    assert connection.may_be_anothers()


async def test_one_on_which_an_answer_may_come_late_is_nobody_elses(connection: Connection) -> None:
    connection.ask(QUERY)
    connection.upstream.sweep(asyncio.get_running_loop().time() + TIMEOUT_S)
    assert connection.pod.outcomes == ["silent"]
    assert not connection.may_be_anothers()


async def test_what_may_be_answered_but_is_not_read_is_not_silent(connection: Connection) -> None:
    """The pod does not read; that has a time of its own."""
    connection.ask(QUERY)
    connection.upstream.pause(True)
    connection.upstream.sweep(asyncio.get_running_loop().time() + TIMEOUT_S)
    assert connection.pod.outcomes == []
    connection.upstream.pause(False)
    await connection.answer(answer_to(await connection.received()))


async def test_one_in_the_middle_of_a_frame_is_nobody_elses(connection: Connection) -> None:
    await connection.answered(behind=framed(QUERY)[:-1])
    assert not connection.may_be_anothers()


async def test_one_whose_server_has_not_read_all_is_nobody_elses(connection: Connection) -> None:
    """Though it has answered all, at the sight of their heads."""
    connection.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.ask(PADDED)
    head = connection.server.recv(len(framed(QUERY)))
    await connection.answer(answer_to(head[2:]))
    assert not connection.may_be_anothers()


async def test_one_that_is_not_read_is_nobody_elses(connection: Connection) -> None:
    await connection.answered()
    connection.upstream.pause(True)
    connection.server.send(framed(QUERY))
    assert not connection.may_be_anothers()


async def test_a_query_that_has_to_keep_an_id_that_is_taken_fails_and_the_other_is_answered(
    connection: Connection,
) -> None:
    connection.ask(SIGNED, SIGNED)
    assert connection.pod.outcomes == ["another query has its ID"]
    assert await connection.received() == SIGNED
    await connection.answer(answer_to(SIGNED))
    assert connection.pod.outcomes[1:] == ["answered"]
    assert connection.may_be_anothers()


# --- the shortest way ------------------------------------------------------------------------------------


@pytest.fixture
async def known(connection: Connection) -> Connection:
    """The answer has come once, and its address is kept."""
    alone.keep_open(connection.pod.proxy)
    await connection.answered()
    connection.pod.pieces.clear()
    connection.pod.outcomes.clear()
    return connection


async def test_an_answer_that_is_the_same_again_is_passed_on_under_the_id_of_its_query(
    known: Connection,
) -> None:
    queries = [under_id(QUERY, number) for number in range(3)]
    known.ask(*queries)
    await known.answer(*map(answer_to, reversed(await known.all_received(3))))
    assert known.pod.outcomes == []
    assert b"".join(known.pod.pieces) == b"".join(framed(answer_to(query)) for query in reversed(queries))
    assert (known.pod.passed, known.pod.in_flight) == (3, 0)
    assert known.may_be_anothers()


async def test_one_that_differs_keeps_its_place_among_them(known: Connection) -> None:
    known.ask(*[QUERY] * 3)
    first, second, third = map(answer_to, await known.all_received(3))
    no_error = bytes.fromhex("8180 0001 0000 0000 0000") + QUESTION
    await known.answer(first, second[:ID_BYTES] + no_error, third)
    assert known.pod.outcomes == ["answered"] * 2  # the third is not as the last was
    assert b"".join(known.pod.pieces) == framed(ANSWER) + framed(QUERY[:ID_BYTES] + no_error) + framed(ANSWER)
    assert (known.pod.passed, known.pod.in_flight) == (1, 0)


@pytest.mark.parametrize("why", ["promise", "time", "new", "journal", "policy"])
async def test_one_that_may_not_leave_just_so_takes_the_longer_way(known: Connection, why: str) -> None:
    known.ask(QUERY)
    case = alone.case_of(known.pod.proxy, QUERY)
    assert case.question.last is not None
    match why:
        case "promise":  # its address may not be kept any more
            known.pod.proxy.context.commits.known.forget(NAME)
        case "time":
            case.question.last.sure_until = asyncio.get_running_loop().time()
        case "new":  # and its pod is to have its place in the budget of new names back
            case.was_counted = True
        case "journal":  # which counts the lines that it has no room for
            known.pod.proxy.journal._limit_bytes = 0
        case "policy":  # by which it may have to be refused
            known.pod.proxy._link.table = copy.copy(known.pod.proxy.table)
    await known.answer(answer_to(await known.received()))
    assert (known.pod.outcomes, known.pod.passed, known.pod.in_flight) == (["answered"], 0, 0)
    assert not case.was_counted


@pytest.mark.parametrize("counts", ["0001", "0000"], ids=["known", "nothing to learn"])
async def test_one_whose_name_was_taken_away_meanwhile_is_denied(known: Connection, counts: str) -> None:
    rest = bytes.fromhex(f"8180 0001 {counts} 0000 0000") + (ANSWER[12:] if counts == "0001" else QUESTION)
    known.ask(QUERY)
    asked = await known.received()
    known.pod.proxy._link.table = PolicyTable()
    await known.answer(asked[:ID_BYTES] + rest)
    (denied,) = known.pod.pieces
    assert (denied[2:4], denied[5] & 0xF) == (QUERY[:ID_BYTES], wire.RCODE_REFUSED)
    assert (known.pod.passed, known.pod.in_flight) == (0, 0)


@pytest.mark.parametrize("where", [(Judgements, "answer"), (TCPQuery, "deliver")])
async def test_a_bug_on_the_longer_way_ends_its_query_once_and_no_other(
    known: Connection, monkeypatch: pytest.MonkeyPatch, where: tuple[type, str]
) -> None:
    known.ask(QUERY, QUERY)
    first, second = map(answer_to, await known.all_received(2))

    def fail(*_: object) -> None:
        raise KeyError("a bug")

    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    monkeypatch.setattr(*where, fail)
    await known.answer(first[:ID_BYTES] + bytes.fromhex("8180 0001 0000 0000 0000") + QUESTION)
    monkeypatch.undo()
    assert [str(error) for error in reported] == ["'a bug'"]
    assert known.pod.in_flight == 1
    await known.answer(second)
    known.upstream.sweep(asyncio.get_running_loop().time() + TIMEOUT_S)
    assert known.pod.in_flight == 0


async def test_an_answer_that_has_counted_is_a_duplicate_from_then_on(known: Connection) -> None:
    known.ask(QUERY)
    answer = answer_to(await known.received())
    await known.answer(answer)
    known.server.send(framed(answer))
    async with asyncio.timeout(WAIT_S):
        while not known.pod.proxy.metrics.ignored.count("duplicate"):
            await asyncio.sleep(0)
    assert (known.pod.passed, known.pod.in_flight) == (1, 0)


class Overheard(Sockets):
    """Keeps what was added last."""

    def add(self, descriptor: int, ready: Ready) -> None:
        self.ready = ready
        super().add(descriptor, ready)


async def test_what_is_told_of_another_socket_does_not_end_an_idle_connection() -> None:
    """A descriptor may be used again between what the kernel tells and who is told."""
    sockets = Overheard()
    idle = Idle(sockets)
    ours, server = socket.socketpair()
    ours.setblocking(False)
    with server:
        idle.keep(SERVER, ours)
        sockets.ready(select.EPOLLIN, 0.0)
        assert len(idle) == 1
        server.send(b"x")
        sockets.ready(select.EPOLLIN, 0.0)
        assert len(idle) == 0
    sockets.close()


async def test_where_the_pods_own_port_is_not_free_yet_the_server_is_asked_from_the_nodes_address() -> None:
    def bound(address: tuple[str, int]) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return made

    def as_pod() -> socket.socket:
        made = bound(before.getsockname())
        made.setblocking(False)
        return made

    with socket.create_server(("127.0.0.1", 0)) as listener, bound(("127.0.0.1", 0)) as before:
        before.connect(listener.getsockname())
        pod, sockets = Pod(), Sockets()
        server = socket.inet_aton("127.0.0.1"), listener.getsockname()[1]
        upstream = TCPUpstream(pod, server, TIMEOUT_S, sockets, idle=None, as_pod=as_pod)
        case = alone.case_of(pod.proxy, QUERY)
        assert pod.proxy.own_reply(pod.transport, case, QUERY) is None
        upstream.send(case, QUERY, asyncio.get_running_loop().time())
        listener.accept()[0].close()  # the pod's own
        listener.settimeout(WAIT_S)
        accepted, peer = listener.accept()
        with accepted:
            assert peer != before.getsockname()
        upstream.close()
        sockets.close()
    assert pod.proxy.metrics.not_transparent.count("port") == 1
