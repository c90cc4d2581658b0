"""Queries that are here before their policy: kept for a moment instead of refused.

The kernel redirects only what the policy has rules for, and the agent brings it there before it tells us. So
a query from an endpoint that has no rule for its server, be it that nobody knows the endpoint, is one whose
snapshot is under way: a pod that gets its first policy while it runs is not to notice. Each snapshot that
comes into force may be the one; when a time is over, the query is judged by what there is.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from acns.resolver.agent import AgentLink
from acns.resolver.budget import LARGE_OCTETS
from acns.telemetry.journal import Journal

KEPT_S: Final = 0.5
"""A snapshot takes some ms, of a busy node up to half of this."""
_MOST: Final = 256  # each is judged again in some 100 µs
MOST_OF_POD: Final = 32

Again = Callable[[bool], None]
"""Judges the query again. Whether it may then be kept on, where its snapshot was not the one that came."""


class _Kept(NamedTuple):
    until: float
    pod: bytes
    again: Again


class Early:
    """Of both transports. A pod is known by its address, four octets."""

    def __init__(self, link: AgentLink, journal: Journal, let_through: Callable[[], None]) -> None:
        """`let_through` is called between one query and the next."""
        self._link = link
        self._journal = journal
        self._let_through = let_through
        self._kept: deque[_Kept] = deque()
        self._of_pod: Counter[bytes] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._until: float | None = None
        """While one is judged again: how long it may be kept on."""
        link.on_policy = self._let_all_go

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, pod: bytes, again: Again, octets: int) -> bool:
        """Whether `again` will be called, once, which holds a query of so many octets: not where no snapshot
        can come, nor for any number, nor for large ones."""
        if not self._link.connected.is_set() or octets > LARGE_OCTETS:
            return False
        if len(self._kept) >= _MOST or self._of_pod[pod] >= MOST_OF_POD:
            return False
        loop = asyncio.get_running_loop()
        until = loop.time() + KEPT_S if self._until is None else self._until
        self._kept.append(_Kept(until, pod, again))
        self._of_pod[pod] += 1
        if self._timer is None:
            self._timer = loop.call_at(until, self._time_is_over)
        return True

    def _let_all_go(self) -> None:
        for _ in range(len(self._kept)):
            self._let_go(may_wait=True)

    def _time_is_over(self) -> None:
        self._timer, loop = None, asyncio.get_running_loop()
        while self._kept and self._kept[0].until <= loop.time():
            self._let_go(may_wait=False)
        if self._kept:
            self._timer = loop.call_at(self._kept[0].until, self._time_is_over)

    def _let_go(self, *, may_wait: bool) -> None:
        kept = self._kept.popleft()
        self._of_pod[kept.pod] -= 1
        if not self._of_pod[kept.pod]:
            del self._of_pod[kept.pod]
        self._journal.burst()
        self._until = kept.until
        try:
            kept.again(may_wait)
        except Exception as error:  # noqa: BLE001 - reported as any other that nobody catches
            context = {"message": "a query that was kept failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        finally:
            self._until = None
        self._journal.nudge()
        self._let_through()
