"""What one TCP connection may ask of the loop: a burst at a time, and nothing once it is out of step."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable

import pytest

from acns.dns import message
from acns.resolver import handover, tcp_client
from acns.resolver.framing import framed
from acns.resolver.judged import Case, CaseKey
from acns.resolver.overload import Overload
from acns.resolver.query import Asked
from acns.resolver.rates import Rates
from acns.resolver.settings import ResolverSettings
from acns.resolver.tcp_client import TCPClient
from acns.resolver.tcp_clients import TCPClients
from acns.resolver.transparent import Transparency
from tests.unit.resolver import alone

QUERY = bytes.fromhex("0007 0100 0001 0000 0000 0000 0161 00 0001 0001")
WAIT_S = 10.0


class RefusingGate:
    """Refuses all, and keeps what it was asked."""

    def __init__(self, per_second: int) -> None:
        proxy = alone.proxy()
        self.metrics = proxy.metrics
        self.transports = proxy.transports
        self.rates = Rates(per_second)
        self.overload = Overload("servfail", self.metrics, proxy.journal)
        self.asked: list[bytes] = []

    def let_through(self) -> None:
        """There are no datagrams."""

    def remembered(self) -> dict[CaseKey, Case]:
        return {}

    def receive(self, asked: Asked, forward: object, reply: Callable[[bytes | None], None]) -> None:
        self.asked.append(asked.packet)
        reply(message.reply_with_rcode(asked.packet, 5) if asked.packet == QUERY else None)


class Connection:
    """A pod's connection, and the pod's end of it."""

    def __init__(self, per_second: int = 1_000_000) -> None:
        self.gate = RefusingGate(per_second)
        self.clients = TCPClients(ResolverSettings(), self.gate, Transparency((), self.gate.metrics))
        ours, self.pod = socket.socketpair()
        ours.setblocking(False)
        self.pod.setblocking(False)
        self.client = TCPClient(
            self.clients,
            ours,
            ("10.244.0.2", 4242),
            (b"\x0a\x60\0\x0a", 53),
            self.clients.budget.share("10.244.0.2"),
        )

    async def received(self, count: int) -> bytes:
        """So many bytes at the pod."""
        data = b""
        async with asyncio.timeout(WAIT_S):
            while len(data) < count:
                data += await asyncio.get_running_loop().sock_recv(self.pod, count - len(data))
        return data

    def end(self) -> None:
        self.client.end()
        self.pod.close()


async def test_a_thousand_queries_in_one_piece_are_taken_a_burst_at_a_time() -> None:
    connection = Connection()
    connection.pod.send(framed(QUERY) * 1000)
    taken = [0]
    async with asyncio.timeout(WAIT_S):
        while taken[-1] < 1000:
            await asyncio.sleep(0)
            taken.append(len(connection.gate.asked))
    assert all(after - before <= tcp_client.BURST for before, after in itertools.pairwise(taken))
    connection.end()


async def test_what_one_burst_is_answered_leaves_in_one_piece() -> None:
    connection = Connection()
    connection.pod.send(framed(QUERY) * tcp_client.BURST)
    data = await asyncio.get_running_loop().sock_recv(connection.pod, 65_536)
    assert len(data) == tcp_client.BURST * len(framed(QUERY))
    connection.end()


async def test_a_connection_out_of_step_is_closed_at_its_first_wrong_frame() -> None:
    for wrong in (b"", QUERY[:11], QUERY[:2] + b"\x81" + QUERY[3:]):
        connection = Connection()
        connection.pod.send(framed(QUERY) + framed(wrong) * 100)
        received, data = b"", b"."
        async with asyncio.timeout(WAIT_S):
            while data:
                data = await asyncio.get_running_loop().sock_recv(connection.pod, 65_536)
                received += data
        assert connection.gate.asked == [QUERY, wrong]
        assert received == framed(message.reply_with_rcode(QUERY, 5))
        connection.end()


async def test_a_pod_past_its_rate_is_read_more_slowly_and_refused_nothing() -> None:
    connection = Connection(per_second=40)
    connection.pod.send(framed(QUERY) * 60)  # eleven of them at once
    await connection.received(11 * len(framed(QUERY)))
    assert len(connection.gate.asked) < 60
    assert connection.gate.metrics.over_budget.count("tcp", "rate") >= 1
    await connection.received(49 * len(framed(QUERY)))
    connection.end()


async def test_answers_that_are_not_read_are_held_to_a_bound_and_all_come_when_they_are() -> None:
    connection = Connection()
    connection.pod.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    loop, queries = asyncio.get_running_loop(), 60_000
    sending = asyncio.ensure_future(loop.sock_sendall(connection.pod, framed(QUERY) * queries))
    seen = -1
    while seen != len(connection.gate.asked):  # until it stands still
        seen = len(connection.gate.asked)
        await asyncio.sleep(0.1)
    assert 0 < seen < queries
    await connection.received(queries * len(framed(QUERY)))
    await sending
    assert len(connection.gate.asked) == queries
    connection.end()


class LateGate(RefusingGate):
    """Answers when it is told to."""

    def receive(self, asked: Asked, forward: object, reply: Callable[[bytes | None], None]) -> None:
        self.asked.append(asked.packet)
        self.reply = reply


async def test_a_connection_is_given_up_as_soon_as_an_answer_that_came_late_is_sent() -> None:
    connection = Connection()
    gate = connection.clients.gate = connection.client._gate = LateGate(1_000_000)
    assert connection.clients.budget.take(connection.client.share)
    connection.clients.connections.add(connection.client)
    given: list[handover.Connection] = []

    async def give(one: handover.Connection) -> None:
        given.append(one)

    connection.pod.send(framed(QUERY))
    async with asyncio.timeout(WAIT_S):
        while not gate.asked:
            await asyncio.sleep(0)
        giving = asyncio.create_task(connection.clients.give_up(give))
        await asyncio.sleep(0)
        gate.reply(QUERY)
        await giving
    assert await connection.received(len(framed(QUERY))) == framed(QUERY)
    given[0].socket.close()
    connection.end()


async def test_a_connection_that_cannot_be_given_is_gone_on_with_from_where_it_was_left() -> None:
    connection = Connection()
    assert connection.clients.budget.take(connection.client.share)
    connection.clients.connections.add(connection.client)

    async def give(one: handover.Connection) -> None:
        raise handover.SuccessorGone("it has ended")

    connection.pod.send(framed(QUERY)[:5])
    async with asyncio.timeout(WAIT_S):
        while not connection.client._frames:
            await asyncio.sleep(0)
    with pytest.raises(handover.SuccessorGone):
        await connection.clients.give_up(give)
    connection.clients.take_back()
    connection.pod.send(framed(QUERY)[5:])
    assert await connection.received(len(framed(QUERY))) == framed(message.reply_with_rcode(QUERY, 5))
    connection.clients.close()
    connection.pod.close()


async def test_a_query_that_is_held_again_and_again_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As other connections of its pod take what the rate has room for."""
    connection = Connection()
    room = iter([False, False, False, True, False, True])
    monkeypatch.setattr(connection.gate.rates, "take", lambda pod, now: next(room))
    connection.pod.send(framed(QUERY) * 2)
    await connection.received(2 * len(framed(QUERY)))
    assert next(room, None) is None
    assert connection.gate.metrics.over_budget.count("tcp", "rate") == 2
    connection.end()
