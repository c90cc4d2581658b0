"""The turns of all UDP sockets of the resolver: one of the event loop's serves many packets.

asyncio spends some 10 µs on a turn, and a socket that is read until it is empty 2 µs on finding that out.
Here a turn goes on while anything is ready, up to a bound: each round asks the kernel once which sockets are,
and reads a little from each (`sockets`).

Most packets take a few µs, some ten times as long. Those wait in line, and of the line each round does a
little, behind what has just come: so that a pod that brings many of them holds up no other. For the same
reason whoever has much else to do on the event loop lets datagrams go between (`let_through`).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

from acns.resolver.sockets import Ready, Sockets
from acns.telemetry.journal import Journal

ROUNDS: Final = 8
"""Then everything else on the event loop gets its turn."""
_LET_THROUGH_EVERY_S: Final = 0.0002
"""To look costs as much as a part of a query over TCP, of which a burst takes some 50 µs."""

Work = Callable[[float], bool]
"""Called with the time: does a little of what is in line. Whether more is."""


class UDPLoop:
    """To be made and used on one event loop."""

    def __init__(self, journal: Journal) -> None:
        """The journal is told where a turn begins and ends."""
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._sockets = Sockets(self._ready_now)
        self._work: Work = lambda now: False
        self._next: asyncio.Handle | None = None
        """A turn that comes whatever the epoll says."""

    def add(self, watched: socket.socket, ready: Ready) -> None:
        self._sockets.add(watched.fileno(), ready)

    def remove(self, watched: socket.socket) -> None:
        """Before it is closed."""
        self._sockets.remove(watched.fileno())

    def behind(self, work: Work) -> None:
        """What is done of a line behind each round, while there is one."""
        self._work = work

    def close(self) -> None:
        self._sockets.close()

    def let_through(self) -> None:
        """What has come, in the midst of other work, if nobody has looked just now. Not to be called from
        what this loop calls."""
        if self._sockets.closed or time.monotonic() < self._sockets.looked_at + _LET_THROUGH_EVERY_S:
            return
        self._journal.burst()
        self._sockets.look()
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
        if self._sockets.closed:
            return
        self._journal.burst()
        for _ in range(ROUNDS):
            came = self._sockets.look()
            more = self._work(time.monotonic())
            self._journal.nudge()
            if not (came or more):
                return
        if more:
            self.wake()
