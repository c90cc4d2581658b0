"""Known names over a pod's connection: the short way there and back, with its bounds."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from acns.dns import message
from acns.resolver.framing import Frames, framed
from acns.resolver.handover import Connection
from acns.resolver.intercept import Server
from acns.resolver.metrics import TCP
from acns.resolver.settings import ResolverSettings
from acns.resolver.tcp_clients import TCPClients
from acns.resolver.transparent import Transparency
from acns.telemetry.journal import Journal
from tests.unit.resolver import alone
from tests.unit.resolver.alone import ANSWER, QUERY, answer_to, under_id

WAIT_S = 10.0
MANY = 500


class Servant:
    """A DNS server on loopback that answers when it `may`."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.asked = 0

    async def start(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return socket.inet_aton("127.0.0.1"), self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        while data := await reader.read(65_536):
            frames.feed(data)
            while (query := frames.take()) is not None:
                self.asked += 1
                await self.may.wait()
                writer.write(framed(answer_to(query)))
        writer.close()


class Pod:
    """With one connection, and a name whose address it was given before."""

    def __init__(self, servant: Servant, settings: ResolverSettings, journal: Journal) -> None:
        self.servant = servant
        self.settings = settings
        self.journal = journal

    async def start(self) -> None:
        server = await self.servant.start()
        self.proxy = alone.proxy(server, self.settings, self.journal)
        self.clients = TCPClients(self.settings, self.proxy, Transparency((), self.proxy.metrics))
        ours, self.end = socket.socketpair()
        ours.setblocking(False)
        self.end.setblocking(False)
        self.clients.adopt(Connection(ours, ("10.244.0.2", 4242), server, b""))
        alone.keep_open(self.proxy)
        await self.ask(1)

    async def ask(self, count: int) -> list[bytes]:
        """So many queries in one piece: their answers, in the order in which they come."""
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(
            loop.sock_sendall(self.end, b"".join(framed(under_id(QUERY, number)) for number in range(count)))
        )
        frames, answers = Frames(), list[bytes]()
        async with asyncio.timeout(WAIT_S):
            while len(answers) < count:
                if (answer := frames.take()) is not None:
                    answers.append(answer)
                else:
                    frames.feed(await loop.sock_recv(self.end, 65_536))
            await sending
        return answers

    def close(self) -> None:
        self.clients.close()
        self.end.close()


Start = Callable[..., Awaitable[Pod]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """A pod, by these settings."""
    servant, pods = Servant(), list[Pod]()

    async def started(settings: ResolverSettings | None = None, journal: Journal | None = None) -> Pod:
        pod = Pod(servant, settings or ResolverSettings(), journal or Journal("", "resolver"))
        pods.append(pod)
        await pod.start()
        return pod

    yield started
    for pod in pods:
        pod.close()
    await servant.close()


def expected(count: int) -> list[bytes]:
    return [under_id(ANSWER, number) for number in range(count)]


async def test_more_than_a_connection_may_have_in_flight_are_all_answered_in_their_order(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = await start(ResolverSettings(max_tcp_pipeline=16))

    def receive(*_: object) -> None:
        raise AssertionError("the long way")

    monkeypatch.setattr(pod.proxy, "receive", receive)
    assert await pod.ask(MANY) == expected(MANY)
    assert pod.proxy.metrics.answers.count(TCP, "known") == MANY + 1
    assert pod.proxy.metrics.queries.count(TCP, "forward") == MANY + 1
    assert pod.proxy.in_flight == pod.proxy.context.budget.large_bytes == 0


async def test_past_what_an_endpoint_may_have_in_flight_a_known_name_is_refused_too(start: Start) -> None:
    pod = await start(ResolverSettings(max_in_flight_per_endpoint_and_server=3))
    pod.servant.may.clear()
    asking = asyncio.create_task(pod.ask(5))
    async with asyncio.timeout(WAIT_S):
        while not pod.proxy.metrics.queries.count(TCP, "over-budget"):
            await asyncio.sleep(0)
    pod.servant.may.set()
    answers = await asking
    assert [answer[3] & 0xF for answer in answers] == [message.RCODE_SERVFAIL] * 2 + [0] * 3
    assert pod.servant.asked == 1 + 3
    assert pod.proxy.in_flight == 0


async def test_lines_that_the_journal_has_no_room_for_are_counted(start: Start, tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver", limit_bytes=0)
    journal.start()
    pod = await start(journal=journal)
    before = journal.dropped
    assert await pod.ask(10) == expected(10)
    assert journal.dropped == before + 2 * 10
    journal.close()


async def test_each_known_name_has_its_two_lines_in_the_journal(start: Start, tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver")
    journal.start()
    pod = await start(journal=journal)
    await pod.ask(10)
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert Counter(line["event"] for line in lines) == {"dns.query": 11, "dns.answer": 11}
    assert all(line["transport"] == "tcp" for line in lines)
    assert Counter(line["outcome"] for line in lines if line["event"] == "dns.answer") == {"known": 11}
