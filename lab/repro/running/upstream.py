"""DNS servers that say what a scenario says: octets, delays, order, silence, TC; where pods ask them.

A query is a step's when the step has begun, asks that question of that server by that transport, and has not
had its query yet. What no step accounts for is not answered: nobody knows what the server would have said.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from acns.resolver.framing import Frames, framed
from lab.repro.running.order import Timing
from lab.repro.scenario import messages
from lab.repro.scenario.model import Scenario, Server, Step, endpoint
from lab.repro.scenario.topology import DNS_PORT
from lab.runtime.handles import Inside
from lab.runtime.lab import Lab

_IP_TRANSPARENT: Final = 19
_RECEIVE_BYTES: Final = 65_535
Key = tuple[object, ...]
Send = Callable[[bytes], object]


@dataclass(slots=True)
class Upstream:
    """All servers of a scenario, listening. Close it."""

    scenario: Scenario
    timing: Timing
    waiting: dict[Key, list[Step]] = field(default_factory=dict)
    unexpected: int = 0
    """Queries that no step accounts for."""
    _sockets: list[socket.socket] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    @contextlib.contextmanager
    def listening(cls, lab: Lab, scenario: Scenario, timing: Timing) -> Iterator[Upstream]:
        """For the block's time, in the running event loop."""
        made = cls(scenario, timing)
        try:
            for server in scenario.servers:
                made._listen(server, place_of(lab, server))
            yield made
        finally:
            made._close()

    def expect(self, step: Step, query: bytes) -> None:
        """This is about to be asked."""
        key = (self.scenario.server_of(step).name, step.transport, _asked(query))
        self.waiting.setdefault(key, []).append(step)

    def _listen(self, server: Server, place: Inside) -> None:
        address = "" if server.labels else str(server.address)
        datagrams = self._bound(place, socket.SOCK_DGRAM, address)
        self._start(self._datagrams(server, place, datagrams))
        listener = self._bound(place, socket.SOCK_STREAM, address)
        listener.listen(64)
        self._start(self._streams(server, place, listener))

    def _bound(self, place: Inside, kind: int, address: str) -> socket.socket:
        made = place.open_socket(socket.AF_INET, kind)
        self._sockets.append(made)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, DNS_PORT))
        return made

    async def _datagrams(self, server: Server, place: Inside, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            query, peer = await loop.sock_recvfrom(bound, _RECEIVE_BYTES)
            self._reply(server, "udp", query, partial(_to, bound, peer), place, peer)

    async def _streams(self, server: Server, place: Inside, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, peer = await loop.sock_accept(listener)
            self._sockets.append(accepted)
            self._start(self._stream(server, place, accepted, peer))

    async def _stream(
        self, server: Server, place: Inside, accepted: socket.socket, peer: tuple[str, int]
    ) -> None:
        frames, loop = Frames(), asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(accepted, _RECEIVE_BYTES):
                frames.feed(data)
                while (query := frames.take()) is not None:
                    send = partial(_framed_to, accepted)
                    self._reply(server, "tcp", query, send, place, peer)
        accepted.close()

    def _reply(
        self, server: Server, transport: str, query: bytes, send: Send, place: Inside, peer: tuple[str, int]
    ) -> None:
        steps = self.waiting.get((server.name, transport, _asked(query)))
        if not steps:
            self.unexpected += 1
            return
        loop = asyncio.get_running_loop()
        for said in steps.pop(0).answers:
            packet = messages.answer(said, query)
            call = send if said.sender is None else partial(_forged, place, said.sender, peer)
            loop.call_later(self.timing.delay_ms(said.after_ms) / 1000, call, packet)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for one in self._sockets:
            one.close()


def place_of(lab: Lab, server: Server) -> Inside:
    """Where a server is: its pod, or the Internet."""
    return lab.pod(f"{server.namespace}/{server.name}") if server.labels else lab.internet


def _asked(query: bytes) -> object:
    """What makes two queries the same: the question without case, or all octets but the ID."""
    found = messages.question(query)
    return found.folded if found is not None else query[2:]


def _to(bound: socket.socket, peer: tuple[str, int], packet: bytes) -> None:
    with contextlib.suppress(OSError):
        bound.sendto(packet, peer)


def _framed_to(accepted: socket.socket, packet: bytes) -> None:
    with contextlib.suppress(OSError):
        accepted.send(framed(packet))


def _forged(place: Inside, sender: str, peer: tuple[str, int], packet: bytes) -> None:
    """From somebody else's address or port."""
    address, port = endpoint(sender)
    with place.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as made, contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(address), port))
        made.sendto(packet, peer)
