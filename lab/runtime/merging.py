"""Records of several growing files in the order of their times."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

HELD_NS: Final = 300_000_000
"""Followed, a record is held back so long, for those of other files that are a little late: the kernel
gathers packets for 50 ms, and threads take turns."""
POLL_S: Final = 0.1


class Timed(Protocol):
    @property
    def time_ns(self) -> int: ...


R = TypeVar("R", bound=Timed)
R_co = TypeVar("R_co", bound=Timed, covariant=True)


class Source(Protocol[R_co]):
    """Gives what is new since it was last asked."""

    def new(self) -> Iterator[R_co]: ...


class Merged(Generic[R]):
    """The wanted records of all sources, oldest first."""

    def __init__(self, sources: Sequence[Source[R]], wants: Callable[[R], bool]) -> None:
        self._sources = sources
        self._wants = wants
        self._numbers = itertools.count()  # of two at the same time the one that was read first
        self._waiting: list[tuple[int, int, R]] = []

    def take_in(self) -> None:
        """Read what is new."""
        for source in self._sources:
            for record in source.new():
                if self._wants(record):
                    heapq.heappush(self._waiting, (record.time_ns, next(self._numbers), record))

    def keep_last(self, count: int) -> None:
        """Forget all but the newest."""
        self._waiting = sorted(heapq.nlargest(count, self._waiting))

    def until(self, time_ns: int | None) -> Iterator[R]:
        """Those up to a time, or all; each once."""
        while self._waiting and (time_ns is None or self._waiting[0][0] <= time_ns):
            yield heapq.heappop(self._waiting)[2]
