"""Sockets behind one epoll of their own, which the event loop watches in their place.

asyncio spends some 10 µs on beginning to watch a socket, as much on ending it, and half of that on each
event; a connection with a single query has three of each. Here it is a system call and an entry in a
dictionary, and one turn of the event loop serves all sockets that are ready.
"""

from __future__ import annotations

import asyncio
import math
import select
import time
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = 64

Ready = Callable[[int, float], None]
"""Called with the epoll's events and the time, by which all of one `look` goes. Not necessarily ready: what
was may have been closed meanwhile, and its descriptor be another's."""


class Sockets:
    """To be made and used on one event loop. Watched for reading."""

    def __init__(self, turn: Callable[[], object] | None = None) -> None:
        """`turn` is called by the event loop while any is ready; without one it is `look`."""
        self.loop = asyncio.get_running_loop()
        self.looked_at = -math.inf
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self.loop.add_reader(self._epoll.fileno(), turn or self.look)

    @property
    def closed(self) -> bool:
        return self._epoll.closed

    def add(self, descriptor: int, ready: Ready) -> None:
        """Watch, or have another told from now on."""
        if descriptor not in self._ready:
            self._epoll.register(descriptor, select.EPOLLIN)
        self._ready[descriptor] = ready

    def remove(self, descriptor: int) -> None:
        """Before it is closed. One that is not watched is no error."""
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def look(self) -> bool:
        """Tell those that are ready now; whether there were any."""
        events, ready = self._epoll.poll(0, AT_ONCE), self._ready
        now = self.looked_at = time.monotonic()
        for descriptor, what in events:
            found = ready.get(descriptor)
            if found is not None:  # removed by one before it
                try:
                    found(what, now)
                except Exception as error:  # noqa: BLE001 - a bug at one socket is nothing to the others
                    self._report(error)
        return bool(events)

    def close(self) -> None:
        """Watch no more. May be called twice."""
        if not self._epoll.closed:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._ready.clear()

    def _report(self, error: Exception) -> None:
        """As any other that nobody catches."""
        self.loop.call_exception_handler({"message": "a socket failed", "exception": error})
