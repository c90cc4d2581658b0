"""A few at a time, the others in line: so that a burst of ours is not mistaken for a slow peer.

A call has its time-out from the moment it is made. Were all calls of a burst made at once, the last ones
would time out although the peer answers as fast as ever. In line they wait as long as the line moves, and no
longer than `patience_s`; when the peer stands still, all are sent away at once.
"""

from __future__ import annotations

import asyncio
import time

from acns.resolver.lines import Lines


class Turns:
    """At most `limit` hold a turn. Every `take` that said True needs its `give`."""

    def __init__(self, limit: int, patience_s: float) -> None:
        self._free = limit
        self._patience_s = patience_s
        self._lines: Lines[tuple[asyncio.Future[bool], float]] = Lines()

    def __len__(self) -> int:
        """How many stand in line."""
        return len(self._lines)

    async def take(self, pod: bytes) -> bool:
        """Wait for a turn; False: sent away without one."""
        if self._free:
            self._free -= 1
            return True
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._lines.put(pod, (waiting, time.monotonic()))
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.result():
                self.give()  # it was ours already
            raise

    def give(self) -> None:
        """Pass a turn on; who has waited too long is sent away on the way."""
        oldest_allowed = time.monotonic() - self._patience_s
        while (first := self._lines.take()) is not None:
            waiting, since = first
            if waiting.done():
                continue
            waiting.set_result(since >= oldest_allowed)
            if since >= oldest_allowed:
                return
        self._free += 1

    def send_all_away(self) -> None:
        while (first := self._lines.take()) is not None:
            if not first[0].done():
                first[0].set_result(False)
