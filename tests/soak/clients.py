"""The pods' clients: real sockets in the pods' namespaces, all in the hands of one event loop.

A connection is opened in the very call in which its answer is read, so an address that opens late shows. Each
is given its first sequence number, which the node's masquerade leaves alone: so it is known at the uplink.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import dnslib

from lab.kernel import netns
from lab.runtime.lab import Lab

from . import world
from .judge import Judge
from .plan import Ask, Event, Knock, Stray

PATIENCE_S = 5.0
SYN_S = 0.6
"""A connection is given up before its SYN is sent again."""
_UDP_SOCKETS = 4
_STOCK = 64
_FIRST_SEQUENCE = 1_000_000
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_SEND_QUEUE = 2
_ABORT = struct.pack("ii", 1, 0)
_A = 1

Told = Callable[[int, tuple[str, ...], float], None]
"""Of an answer: rcode, addresses, TTL."""


@dataclass(slots=True)
class _Pending:
    pod: str
    name: str
    sent: float
    told: Told


class Clients:
    """All of a lab's."""

    def __init__(self, lab: Lab, judge: Judge) -> None:
        self._judge = judge
        self._loop = asyncio.get_running_loop()
        self._sequences = itertools.count(_FIRST_SEQUENCE)
        self._closing = contextlib.ExitStack()
        self._pods = (*world.PODS, world.FREE)
        self._places = {pod: lab.pod(pod).netns_fd() for pod in self._pods}
        self._udp: dict[str, Iterator[_UDP]] = {}
        self._stock: dict[str, list[socket.socket]] = {pod: [] for pod in self._pods}
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self.spawn(self.keep_stock())
        for pod in self._pods:
            made = [await self._udp_client(pod) for _ in range(_UDP_SOCKETS)]
            self._udp[pod] = itertools.cycle(made)

    async def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closing.close()
        for one in itertools.chain.from_iterable(self._stock.values()):
            one.close()
        for place in self._places.values():
            os.close(place)

    def open_socket(self, pod: str, kind: int) -> socket.socket:
        """One that lives in the pod. Those for TCP are made in stock: entering a namespace takes a thread,
        and on a busy machine its turn."""
        stock = self._stock[pod]
        if kind == socket.SOCK_STREAM and stock:
            return stock.pop()
        return self._make(pod, kind, 1)[0]

    async def keep_stock(self) -> None:
        """For ever: have sockets ready."""
        while True:
            for pod, stock in self._stock.items():
                if len(stock) < _STOCK // 2:
                    stock += await asyncio.to_thread(self._make, pod, socket.SOCK_STREAM, _STOCK)
            await asyncio.sleep(0.1)

    def _make(self, pod: str, kind: int, count: int) -> list[socket.socket]:
        flags = kind | socket.SOCK_NONBLOCK
        return netns.in_namespace(
            self._places[pod], lambda: [socket.socket(socket.AF_INET, flags) for _ in range(count)]
        )

    def do(self, event: Event) -> None:
        match event:
            case Ask():
                self._ask(event)
            case Knock(pod=pod, name=name, address=address, port=port):
                self.connect(pod, address, f"{name}, a knock", port)
            case Stray(pod=pod, name=name):
                self._judge.tally.counts["queries to a server that is denied"] += 1
                if pod != world.FREE:
                    self._send_stray(pod, name)

    # --- DNS ----------------------------------------------------------------------------------------------

    def ask(self, pod: str, name: str, told: Told, *, transport: str = "udp") -> None:
        """`told` is called with the answer, if there is one."""
        now = time.monotonic()
        self._judge.tally.counts["queries"] += 1
        self._judge.model.asked(pod, name, now)
        pending = _Pending(pod, name, now, told)
        if transport == "udp":
            next(self._udp[pod]).ask(pending)
        else:
            self.spawn(self._ask_tcp(pending))

    def _ask(self, event: Ask) -> None:
        def told(rcode: int, addresses: tuple[str, ...], ttl_s: float) -> None:
            if event.connects:
                for address in addresses[:1]:
                    self.connect(event.pod, address, f"{event.name}, at once")
                    for after_s in event.again_after_s:
                        why = f"{event.name}, {after_s:g} s after its answer of {ttl_s:g} s"
                        self._loop.call_later(after_s, self.connect, event.pod, address, why)

        self.ask(event.pod, event.name, told, transport=event.transport)

    async def _udp_client(self, pod: str) -> _UDP:
        made = self.open_socket(pod, socket.SOCK_DGRAM)
        made.connect((world.CLUSTER_DNS, 53))
        transport, client = await self._loop.create_datagram_endpoint(
            lambda: _UDP(self.heard, self.unheard), sock=made
        )
        self._closing.callback(transport.close)
        return client

    def heard(self, pending: _Pending, answer: dnslib.DNSRecord) -> None:
        found = [record for record in answer.rr if record.rtype == _A]
        addresses = tuple(str(record.rdata) for record in found)
        ttl_s = min((record.ttl for record in found), default=0)
        self._judge.answered(pending.pod, pending.name, pending.sent, answer.header.rcode, addresses, ttl_s)
        if answer.header.rcode == 0:
            pending.told(answer.header.rcode, addresses, ttl_s)

    def unheard(self, pending: _Pending) -> None:
        self._judge.silent(pending.pod, pending.name, pending.sent)

    async def _ask_tcp(self, pending: _Pending) -> None:
        made = self.open_socket(pending.pod, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._loop.sock_connect(made, (world.CLUSTER_DNS, 53))
                reader, writer = await asyncio.open_connection(sock=made)
                question = dnslib.DNSRecord.question(pending.name)
                writer.write(_framed(question.pack()))
                while not _answers(answer := await _read_framed(reader), question.header.id, pending.name):
                    pass  # a lie
                self.heard(pending, answer)
                writer.close()
        except (OSError, EOFError, TimeoutError):
            self.unheard(pending)
        finally:
            made.close()

    def _send_stray(self, pod: str, name: str) -> None:
        with self.open_socket(pod, socket.SOCK_DGRAM) as made, contextlib.suppress(OSError):
            made.sendto(dnslib.DNSRecord.question(name).pack(), (world.INTERNET_DNS, 53))

    # --- connections --------------------------------------------------------------------------------------

    def connect(self, pod: str, address: str, why: str, port: int = world.PORT) -> None:
        """One SYN, judged at the uplink; ended without a word. One that is due when all has ended is none."""
        if self._closed:
            return
        sequence = next(self._sequences)
        made = self.open_socket(pod, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            _begin_at(made, sequence)
            self._judge.tally.counts["connections"] += 1
            self._judge.connected(pod, address, port, (address, sequence), why)
            with contextlib.suppress(BlockingIOError):
                made.connect((address, port))
        except BaseException:
            made.close()
            raise
        self._loop.call_later(SYN_S, made.close)

    def spawn(self, work: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _answers(answer: dnslib.DNSRecord, ident: int, name: str) -> bool:
    return bool(answer.header.id == ident and str(answer.q.qname).rstrip(".").lower() == name)


def _framed(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


async def _read_framed(reader: asyncio.StreamReader) -> dnslib.DNSRecord:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return dnslib.DNSRecord.parse(await reader.readexactly(length))


def _begin_at(made: socket.socket, sequence: int) -> None:
    """What a connection's SYN is to be numbered with; see tcp(7) on TCP_REPAIR."""
    options = (_TCP_REPAIR, 1), (_TCP_REPAIR_QUEUE, _SEND_QUEUE), (_TCP_QUEUE_SEQ, sequence), (_TCP_REPAIR, 0)
    for option, value in options:
        made.setsockopt(socket.IPPROTO_TCP, option, value)


class _UDP(asyncio.DatagramProtocol):
    """One socket; answers are told apart by ID and question."""

    def __init__(
        self,
        heard: Callable[[_Pending, dnslib.DNSRecord], None],
        unheard: Callable[[_Pending], None],
    ) -> None:
        self._heard, self._unheard = heard, unheard
        self._idents = itertools.cycle(range(1, 0x10000))
        self._pending: dict[int, _Pending] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def ask(self, pending: _Pending) -> None:
        ident = next(self._idents)
        question = dnslib.DNSRecord.question(pending.name)
        question.header.id = ident
        self._pending[ident] = pending
        self._transport.sendto(question.pack())
        self._loop.call_later(PATIENCE_S, self._give_up, ident)

    def datagram_received(self, data: bytes, addr: object) -> None:
        answer = dnslib.DNSRecord.parse(data)
        pending = self._pending.get(answer.header.id)
        if pending and _answers(answer, answer.header.id, pending.name):
            del self._pending[answer.header.id]
            self._heard(pending, answer)

    def error_received(self, exc: Exception) -> None:
        """What an ICMP error says; the query is given up in time."""

    def _give_up(self, ident: int) -> None:
        if pending := self._pending.pop(ident, None):
            self._unheard(pending)
