"""Mappings that the shim has not confirmed: kept in order, bounded, to be told again when it is back.

The TTL counts from the answer's time, whenever the mapping is told: what has run out meanwhile is dropped,
and the rest is told with what is left. Time is an argument, in seconds of a clock that never steps back.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass

from acns.api.codec import Mapping


@dataclass(frozen=True, slots=True)
class Waiting:
    """A mapping and when its answer came."""

    mapping: Mapping
    learned_at: float

    def at(self, now: float) -> Mapping | None:
        """The mapping as it is to be told at `now`; None once its TTL has run out."""
        left = self.learned_at + self.mapping.ttl_s - now
        return dataclasses.replace(self.mapping, ttl_s=int(left)) if left > 0 else None


class Backlog:
    """First in, first out. Full, the oldest goes: it is the one nearest to its end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Waiting] = deque()
        self.overflowed = 0
        self.expired = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, mapping: Mapping, learned_at: float) -> None:
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self.overflowed += 1
        self._waiting.append(Waiting(mapping, learned_at))

    def first(self, now: float) -> tuple[Waiting, Mapping] | None:
        """The oldest that is still alive, and as what to tell it; dead ones before it are dropped."""
        while self._waiting:
            head = self._waiting[0]
            if (mapping := head.at(now)) is not None:
                return head, mapping
            self._waiting.popleft()
            self.expired += 1
        return None

    def done(self, waiting: Waiting) -> None:
        """`waiting` was told. It may have overflowed meanwhile; then there is nothing to do."""
        if self._waiting and self._waiting[0] is waiting:
            self._waiting.popleft()
