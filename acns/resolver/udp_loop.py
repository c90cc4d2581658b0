"""All UDP sockets of the resolver behind one epoll, so that one turn of the event loop serves many packets.

asyncio spends some 10 µs on a turn, and a socket that is read until it is empty 2 µs on finding that out.
Here a turn goes on while anything is ready, up to a bound: each round asks the kernel once which sockets are,
and reads a little from each. The event loop watches the epoll itself, which is ready when one of them is.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from acns.telemetry.journal import Journal

ROUNDS: Final = 8
"""Then everything else on the event loop gets its turn."""
_AT_ONCE: Final = 64

Ready = Callable[[int, float], None]
"""Called with the epoll's events and the time, by which all of a round goes."""


class UDPLoop:
    """To be made and used on one event loop."""

    def __init__(self, journal: Journal) -> None:
        """The journal is told where a turn begins and ends."""
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def add(self, watched: socket.socket, ready: Ready) -> None:
        self._ready[watched.fileno()] = ready
        self._epoll.register(watched.fileno(), select.EPOLLIN)

    def remove(self, watched: socket.socket) -> None:
        """Before it is closed."""
        del self._ready[watched.fileno()]
        self._epoll.unregister(watched.fileno())

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _turn(self) -> None:
        poll, ready = self._epoll.poll, self._ready
        self._journal.burst()
        for _ in range(ROUNDS):
            events = poll(0, _AT_ONCE)
            if not events:
                break
            now = time.monotonic()
            for descriptor, what in events:
                found = ready.get(descriptor)
                if found is not None:  # removed by one before it in this round
                    found(what, now)
            self._journal.nudge()
