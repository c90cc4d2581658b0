"""A few at a time, the others in line: so that a burst of ours is not mistaken for a slow peer.

A call has its time-out from the moment it is made. Were all calls of a burst made at once, the last ones
would time out although the peer answers as fast as ever. In line they wait as long as the line moves, and no
longer than `patience_s`; when the peer stands still, all are sent away at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque


class Turns:
    """At most `limit` hold a turn. Every `take` that said True needs its `give`."""

    def __init__(self, limit: int, patience_s: float) -> None:
        self._free = limit
        self._patience_s = patience_s
        self._line: deque[tuple[asyncio.Future[bool], float]] = deque()

    def __len__(self) -> int:
        """How many stand in line."""
        return len(self._line)

    async def take(self) -> bool:
        """Wait for a turn; False: sent away without one."""
        if self._free:
            self._free -= 1
            return True
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._line.append((waiting, time.monotonic()))
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.result():
                self.give()  # it was ours already
            raise

    def give(self) -> None:
        """Pass a turn on to the first in line; who has waited too long is sent away on the way."""
        oldest_allowed = time.monotonic() - self._patience_s
        while self._line:
            waiting, since = self._line.popleft()
            if waiting.done():
                continue
            waiting.set_result(since >= oldest_allowed)
            if since >= oldest_allowed:
                return
        self._free += 1

    def send_all_away(self) -> None:
        while self._line:
            waiting, _ = self._line.popleft()
            if not waiting.done():
                waiting.set_result(False)
