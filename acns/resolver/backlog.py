"""Mappings that the shim has not confirmed: kept in order, bounded, to be told again when it is back.

The TTL counts from the answer's time, whenever the mapping is told: what has run out meanwhile is dropped,
and the rest is told with what is left. An answer that says hardly more than one that waits already does not
wait too, so a name that is asked for all day is a few lines and not thousands. Time is an argument, in
seconds of a clock that never steps back.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from acns.api.codec import Mapping
from acns.fqdn import untold

_What = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A mapping and when its answer came."""

    mapping: Mapping
    learned_at: float

    @property
    def expires_at(self) -> float:
        return self.learned_at + self.mapping.ttl_s

    def at(self, now: float) -> Mapping | None:
        """The mapping as it is to be told at `now`; None once its TTL has run out."""
        left = self.expires_at - now
        return dataclasses.replace(self.mapping, ttl_s=int(left)) if left > 0 else None


class Backlog:
    """First in, first out. Full, the oldest goes: it is the one nearest to its end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Waiting] = deque()
        self._newest: dict[_What, Waiting] = {}
        self.overflowed = 0
        self.expired = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._waiting)

    def add(self, mapping: Mapping, learned_at: float) -> bool:
        """False: what waits already says as much."""
        waiting, what = Waiting(mapping, learned_at), _what(mapping)
        before = self._newest.get(what)
        allowed_s = untold.allowed_s(mapping.ttl_s)
        if before is not None and waiting.expires_at <= before.expires_at + allowed_s:
            return False
        if len(self._waiting) >= self._limit:
            self._drop_first()
            self.overflowed += 1
        self._waiting.append(waiting)
        self._newest[what] = waiting
        return True

    def first(self, now: float) -> tuple[Waiting, Mapping] | None:
        """The oldest that is still alive, and as what to tell it; dead ones before it are dropped."""
        while self._waiting:
            head = self._waiting[0]
            if (mapping := head.at(now)) is not None:
                return head, mapping
            self._drop_first()
            self.expired += 1
        return None

    def done(self, waiting: Waiting) -> None:
        """`waiting` was told. It may have overflowed meanwhile; then there is nothing to do."""
        if self._waiting and self._waiting[0] is waiting:
            self._drop_first()

    def _drop_first(self) -> None:
        first = self._waiting.popleft()
        what = _what(first.mapping)
        if self._newest.get(what) is first:
            del self._newest[what]


def _what(mapping: Mapping) -> _What:
    """All of it but the TTL."""
    return mapping.name, mapping.addresses, mapping.source
