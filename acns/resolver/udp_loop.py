"""All UDP sockets of the resolver behind one epoll, so that one turn of the event loop serves many packets.

asyncio spends some 10 µs on a turn, and a socket that is read until it is empty 2 µs on finding that out.
Here a turn goes on while anything is ready, up to a bound: each round asks the kernel once which sockets are,
and reads a little from each. The event loop watches the epoll itself, which is ready when one of them is.

Most packets take a few µs, some ten times as long. Those wait in line, and of the line each round does a
little, behind what has just come: so that a pod that brings many of them holds up no other. For the same
reason whoever has much else to do on the event loop lets datagrams go between (`let_through`).
"""

from __future__ import annotations

import asyncio
import math
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from acns.telemetry.journal import Journal

ROUNDS: Final = 8
"""Then everything else on the event loop gets its turn."""
_AT_ONCE: Final = 64
_LET_THROUGH_EVERY_S: Final = 0.0002
"""To look costs as much as a part of a query over TCP, of which a burst takes some 50 µs."""

Ready = Callable[[int, float], None]
"""Called with the epoll's events and the time, by which all of a round goes."""
Work = Callable[[float], bool]
"""Called with the time: does a little of what is in line. Whether more is."""


class UDPLoop:
    """To be made and used on one event loop."""

    def __init__(self, journal: Journal) -> None:
        """The journal is told where a turn begins and ends."""
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._work: Work = lambda now: False
        self._looked_at = -math.inf
        self._next: asyncio.Handle | None = None
        """A turn that comes whatever the epoll says."""
        self._loop.add_reader(self._epoll.fileno(), self._ready_now)

    def add(self, watched: socket.socket, ready: Ready) -> None:
        self._ready[watched.fileno()] = ready
        self._epoll.register(watched.fileno(), select.EPOLLIN)

    def remove(self, watched: socket.socket) -> None:
        """Before it is closed."""
        del self._ready[watched.fileno()]
        self._epoll.unregister(watched.fileno())

    def behind(self, work: Work) -> None:
        """What is done of a line behind each round, while there is one."""
        self._work = work

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def let_through(self) -> None:
        """What has come, in the midst of other work, if nobody has looked just now. Not to be called from
        what this loop calls."""
        if self._epoll.closed or time.monotonic() < self._looked_at + _LET_THROUGH_EVERY_S:
            return
        self._journal.burst()
        self._round()
        self._journal.nudge()

    def wake(self) -> None:
        """Something has been put in line."""
        if self._next is None:
            self._next = self._loop.call_soon(self._turn)

    def _ready_now(self) -> None:
        if self._next is None:  # one turn at a time is enough
            self._turn()

    def _turn(self) -> None:
        self._next = None
        if self._epoll.closed:
            return
        self._journal.burst()
        for _ in range(ROUNDS):
            came = self._round()
            more = self._work(time.monotonic())
            self._journal.nudge()
            if not (came or more):
                return
        if more:
            self.wake()

    def _round(self) -> bool:
        """Whether anything came."""
        events, ready = self._epoll.poll(0, _AT_ONCE), self._ready
        now = self._looked_at = time.monotonic()
        for descriptor, what in events:
            found = ready.get(descriptor)
            if found is not None:  # removed by one before it in this round
                self._safely(found, what, now)
        return bool(events)

    def _safely(self, found: Ready, what: int, now: float) -> None:
        """A bug at one socket is not the end of a round."""
        try:
            found(what, now)
        except Exception as error:  # noqa: BLE001 - reported as any other that nobody catches
            self._loop.call_exception_handler({"message": "a datagram failed", "exception": error})
