"""The sockets that queries leave from over UDP, and how long each is listened to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from acns.resolver.batch import QUERY_AT
from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import ReplySockets
from acns.resolver.metrics import TCP
from acns.resolver.transparent import Transparency, TransparentUDP
from acns.resolver.udp_clients import UDPClients
from acns.resolver.udp_loop import UDPLoop
from acns.resolver.udp_query import Port, Waiting
from acns.resolver.udp_upstream import RENEWED_EVERY_S, SOCKETS, UDPUpstream
from tests.unit.resolver import alone
from tests.unit.resolver.alone import QUERY, answer_to

TIMEOUT_S: Final = 10.0
WAIT_S: Final = 10.0
LOOPBACK: Final = socket.inet_aton("127.0.0.1")


class Hurried(asyncio.SelectorEventLoop):
    """An event loop whose time can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class Bench:
    """A pool of sockets, a server that says nothing by itself, and a query to it."""

    def __init__(self) -> None:
        self.renewed = 0
        self.loop = asyncio.get_running_loop()
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.server.setblocking(False)
        address = LOOPBACK, self.server.getsockname()[1]
        self.proxy = alone.proxy(address)
        udp_loop = UDPLoop(self.proxy.journal)
        self.upstream = UDPUpstream(TIMEOUT_S, self.proxy.metrics)
        transparency = Transparency((), self.proxy.metrics)
        as_pods = TransparentUDP(transparency, TIMEOUT_S, self.proxy.metrics)
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listener.bind(("127.0.0.1", 0))
        clients = UDPClients(
            self.listener, self.proxy, self.upstream, ReplySockets(1), transparency, as_pods, udp_loop
        )
        self.upstream.open(udp_loop, clients)
        self.case = alone.case_of(self.proxy, QUERY, address)
        self.key = QUERY[:ID_BYTES] + bytes(QUERY_AT - ID_BYTES) + QUERY[ID_BYTES:]

    def close(self) -> None:
        self.upstream.close()
        self.listener.close()
        self.server.close()

    def ask_from_the_oldest(self) -> Port:
        """From the socket that is replaced next."""
        assert self.proxy.own_reply(self.proxy.transports[TCP], self.case, QUERY) is None
        port = self.upstream.ports[self.renewed % SOCKETS]
        self.upstream.send(Waiting(self.case, self.key, self.loop.time(), port, 7, self.loop.time()))
        return port

    async def asked(self) -> tuple[bytes, tuple[str, int]]:
        """The query as the server has it, and from where."""
        async with asyncio.timeout(WAIT_S):
            return await self.loop.sock_recvfrom(self.server, 512)

    def ignored(self, kind: str) -> int:
        return self.proxy.metrics.ignored.count(kind)

    async def renew(self, times: int) -> None:
        """So many sockets are replaced by new ones."""
        for _ in range(times):
            self.renewed += 1
            before = list(self.upstream.ports)
            assert isinstance(self.loop, Hurried)
            self.loop.ahead_s += RENEWED_EVERY_S + 0.2
            async with asyncio.timeout(WAIT_S):
                while self.upstream.ports == before:
                    await asyncio.sleep(0)

    async def counted(self, kind: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self.ignored(kind):
                await asyncio.sleep(0)


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    """On a loop that can be hurried."""

    async def benched() -> None:
        bench = Bench()
        try:
            await test(bench)
        finally:
            bench.close()

    with asyncio.Runner(loop_factory=Hurried) as runner:
        runner.run(benched())


def test_an_answer_is_late_wherever_its_query_left_from_also_where_none_leaves_any_more() -> None:
    async def late(bench: Bench) -> None:
        await bench.renew(SOCKETS - 1)
        port = bench.ask_from_the_oldest()
        asked, resolver = await bench.asked()
        await bench.renew(int(TIMEOUT_S / RENEWED_EVERY_S) + 1)
        assert port not in bench.upstream.ports
        assert not port.waiting, "it was given up"
        bench.server.sendto(answer_to(asked), resolver)
        await bench.counted("late")

    run(late)


def test_a_socket_is_closed_when_nothing_that_comes_to_it_can_be_late_any_more() -> None:
    async def closed(bench: Bench) -> None:
        port = bench.ask_from_the_oldest()
        await bench.renew(1 + 2 * int(TIMEOUT_S / RENEWED_EVERY_S))
        assert port.socket.fileno() < 0
        assert not bench.proxy.in_flight

    run(closed)
