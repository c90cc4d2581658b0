"""The connection to a server: under which IDs queries share it, and when it may be another pod's."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import pytest

from acns.resolver.flight import ID_BYTES
from acns.resolver.framing import Frames, framed
from acns.resolver.intercept import Server
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.tcp_upstream import Idle, TCPUpstream
from acns.telemetry.journal import Journal

SERVER: Final[Server] = (b"\x0a\x60\0\x0a", 53)
QUERY: Final = bytes.fromhex("0007 0100 0001 0000 0000 0000 0161 00 0001 0001")
ANSWERED: Final = ["answered"]
TIMEOUT_S: Final = 5.0
WAIT_S: Final = 10.0


class Asking:
    """A query on its way, and what became of it. `kept_id`: the one that it has to leave under."""

    server = SERVER

    def __init__(self, packet: bytes = QUERY, kept_id: int | None = None) -> None:
        self.packet = packet
        self.kept_id = kept_id
        self.outcomes: list[str] = []

    def answered(self, packet: bytes) -> bool:
        return self.answered_by(packet[ID_BYTES:], 0.0)

    def answered_by(self, rest: bytes, now: float) -> bool:
        self.outcomes.append("answered")
        return True

    def failed(self, reason: str) -> None:
        self.outcomes.append(reason)

    def silent(self) -> None:
        self.outcomes.append("silent")

    def abandoned(self) -> None:
        self.outcomes.append("abandoned")


class Connection:
    """A pod's connection to a server, which was idle before, and the server's end of it."""

    def __init__(self) -> None:
        self.idle = Idle()
        self.ours, self.server = socket.socketpair()
        self.ours.setblocking(False)
        self.server.setblocking(False)
        self.idle.keep(SERVER, self.ours)
        ignored, journal = ResolverMetrics().ignored, Journal("", "resolver")
        self.upstream = TCPUpstream(
            SERVER, TIMEOUT_S, ignored, journal, lambda: None, idle=self.idle, as_pod=None
        )

    def ask(self, *queries: Asking) -> None:
        for query in queries:
            self.upstream.send(query, asyncio.get_running_loop().time())
        self.upstream.flush()

    async def received(self) -> bytes:
        """The first query at the server."""
        frames = Frames()
        async with asyncio.timeout(WAIT_S):
            while (packet := frames.take()) is None:
                frames.feed(await asyncio.get_running_loop().sock_recv(self.server, 65_536))
        return packet

    async def answer(self, query: Asking, packet: bytes, behind: bytes = b"") -> None:
        """The server says this in one piece; returns when it has answered the query."""
        self.server.send(framed(packet) + behind)
        async with asyncio.timeout(WAIT_S):
            while not query.outcomes:
                await asyncio.sleep(0)
        assert query.outcomes == ANSWERED

    async def answered(self, behind: bytes = b"") -> None:
        """One query has been asked and answered."""
        self.ask(query := Asking())
        await self.answer(query, await self.received(), behind)

    def may_be_anothers(self) -> bool:
        """Whether another pod may have it when this one is gone."""
        self.upstream.close()
        kept = len(self.idle) == 1
        self.idle.close()
        self.server.close()
        return kept


@pytest.fixture
async def connection() -> Connection:
    return Connection()


async def test_a_connection_on_which_all_is_answered_may_be_anothers(connection: Connection) -> None:
    await connection.answered()
    assert connection.may_be_anothers()


async def test_one_on_which_an_answer_may_come_late_is_nobody_elses(connection: Connection) -> None:
    connection.ask(query := Asking())
    connection.upstream.sweep(asyncio.get_running_loop().time() + TIMEOUT_S)
    assert query.outcomes == ["silent"]
    assert not connection.may_be_anothers()


async def test_what_may_be_answered_but_is_not_read_is_not_silent(connection: Connection) -> None:
    """The pod does not read; that has a time of its own."""
    connection.ask(query := Asking())
    connection.upstream.pause(True)
    connection.upstream.sweep(asyncio.get_running_loop().time() + TIMEOUT_S)
    assert query.outcomes == []
    connection.upstream.pause(False)
    await connection.answer(query, await connection.received())


async def test_one_in_the_middle_of_a_frame_is_nobody_elses(connection: Connection) -> None:
    await connection.answered(behind=framed(QUERY)[:-1])
    assert not connection.may_be_anothers()


async def test_one_whose_server_has_not_read_all_is_nobody_elses(connection: Connection) -> None:
    """Though it has answered all, at the sight of their heads."""
    connection.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.ask(query := Asking(QUERY + bytes(60_000)))
    head = connection.server.recv(len(framed(QUERY)))
    await connection.answer(query, head[2:])
    assert not connection.may_be_anothers()


async def test_one_that_is_not_read_is_nobody_elses(connection: Connection) -> None:
    await connection.answered()
    connection.upstream.pause(True)
    connection.server.send(framed(QUERY))
    assert not connection.may_be_anothers()


async def test_a_query_that_has_to_keep_an_id_that_is_taken_fails_and_the_other_is_answered(
    connection: Connection,
) -> None:
    first, second = Asking(kept_id=7), Asking(kept_id=7)
    connection.ask(first, second)
    assert second.outcomes == ["another query has its ID"]
    assert await connection.received() == QUERY
    await connection.answer(first, QUERY)
    assert connection.may_be_anothers()
