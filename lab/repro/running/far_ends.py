"""Whom pods connect to: an echo at each address and port that let somebody in when it was recorded, or was
silent, which the policy may have been; none where the far end itself refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from lab.repro.reading.ip import TCP, UDP
from lab.repro.reading.units import Unit
from lab.repro.scenario import packets
from lab.repro.scenario.model import Scenario, endpoint
from lab.repro.scenario.topology import DNS_PORT, is_inside
from lab.runtime.handles import Inside
from lab.runtime.lab import Lab

_REFUSING = ("reset", "unreachable")
_LET_IN = frozenset({"syn-ack", "answered"})
_RECEIVE_BYTES = 65_535


@dataclass(slots=True)
class FarEnds:
    """Listening. Close it."""

    _sockets: list[socket.socket] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    @contextlib.contextmanager
    def listening(cls, lab: Lab, scenario: Scenario) -> Iterator[FarEnds]:
        """For the block's time, in the running event loop."""
        made = cls()
        try:
            for address, port, transport in sorted(wanted(scenario)):
                place = place_at(lab, address)
                if place is not None:
                    made._listen(place, str(address), port, transport)
            yield made
        finally:
            made._close()

    def _listen(self, place: Inside, address: str, port: int, transport: str) -> None:
        kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
        made = place.open_socket(socket.AF_INET, kind)
        self._sockets.append(made)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if transport == "tcp":
            made.listen(256)
            self._start(self._accept(made))
        else:
            self._start(_echo_datagrams(made))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(listener)
            self._sockets.append(accepted)
            self._start(_echo(accepted))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for one in self._sockets:
            one.close()


def wanted(scenario: Scenario) -> set[tuple[IPv4Address, int, str]]:
    """Addresses, ports and transports with somebody behind them."""
    found: set[tuple[IPv4Address, int, str]] = set()
    refusing: set[tuple[IPv4Address, int, str]] = set()
    for step in scenario.steps:
        if step.connect is not None:
            peer = (*endpoint(step.connect), step.transport)
            (refusing if step.outcome in _REFUSING else found).add(peer)
        for text in step.wire if _LET_IN & set(step.outcome.split()) else ():
            found |= _let_in(packets.unit(packets.parse(text)))
    return found - refusing


def place_at(lab: Lab, address: IPv4Address) -> Inside | None:
    """Who has that address: the Internet, or a pod."""
    if not is_inside(address):
        return lab.internet
    return next((pod for pod in lab.pods if pod.address == address), None)


def _let_in(unit: Unit | None) -> set[tuple[IPv4Address, int, str]]:
    """Whom a recorded packet was answered by."""
    protocol = {TCP: "tcp", UDP: "udp"}.get(unit.packet.protocol) if unit is not None else None
    if unit is None or protocol is None or unit.destination_port == DNS_PORT:
        return set()
    return {(IPv4Address(unit.packet.destination), unit.destination_port, protocol)}


async def _echo(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(accepted, _RECEIVE_BYTES):
            await loop.sock_sendall(accepted, data)
    accepted.close()


async def _echo_datagrams(bound: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        data, peer = await loop.sock_recvfrom(bound, _RECEIVE_BYTES)
        with contextlib.suppress(OSError):
            await loop.sock_sendto(bound, data, peer)
