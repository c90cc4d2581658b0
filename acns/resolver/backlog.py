"""Mappings that the shim has not confirmed: kept in order, bounded, to be told again when it is back.

The TTL counts from the answer's time, whenever the mapping is told: what has run out meanwhile, also by the
least TTL that the shim counts, is dropped, and the rest is told with what is left. An answer that says hardly
more than one that waits already does not wait too, so a name that is asked for all day is a few lines and not
thousands. And where there is no room it is the pod with the most that loses some. What has many addresses
counts by them, for they are what takes memory. Time is an argument, in seconds of a clock that never steps
back.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from acns.api.codec import Mapping
from acns.fqdn import untold

LEAST: Final = 10
"""So many addresses each mapping counts for at least."""

_What = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A mapping and when its answer came."""

    mapping: Mapping
    learned_at: float

    @property
    def expires_at(self) -> float:
        return self.learned_at + self.mapping.ttl_s

    def at(self, now: float, least_ttl_s: float = 0.0) -> Mapping | None:
        """What is to be told at `now`; None once its TTL, or the least TTL that counts, has run out."""
        if max(self.expires_at, self.learned_at + least_ttl_s) <= now:
            return None
        return dataclasses.replace(self.mapping, ttl_s=max(0, int(self.expires_at - now)))


class Backlog:
    """First in, first out. Full, the oldest of the pod with the most goes: it is nearest to its end.

    `limit`: so many mappings of up to `LEAST` addresses; the newest waits however many it has.
    """

    def __init__(self, limit: int) -> None:
        self._room = limit * LEAST
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        """By the order in which they came."""
        self._added = 0
        self._of_pod: dict[bytes, deque[int]] = {}
        self._weights: Counter[bytes] = Counter()
        """Pod → what its mappings weigh."""
        self._weight = 0
        self._newest: dict[_What, Waiting] = {}
        self.overflowed = 0
        self.expired = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        """Oldest first; with what comes meanwhile, and without what goes."""
        last = 0
        while newer := self._newer_than(last):
            for last in newer:
                if (one := self._waiting.get(last)) is not None:
                    yield one

    def _newer_than(self, number: int) -> list[int]:
        return list(itertools.takewhile(lambda one: one > number, reversed(self._waiting)))[::-1]

    def add(self, mapping: Mapping, learned_at: float) -> bool:
        """False: what waits already says as much."""
        waiting, what = Waiting(mapping, learned_at), _what(mapping)
        before = self._newest.get(what)
        allowed_s = untold.allowed_s(mapping.ttl_s)
        if before is not None and waiting.expires_at <= before.expires_at + allowed_s:
            return False
        while self._waiting and self._weight + _weight(mapping) > self._room:
            self._drop_oldest_of(max(self._weights, key=self._weights.__getitem__))
            self.overflowed += 1
        self._added += 1
        self._waiting[self._added] = waiting
        self._of_pod.setdefault(mapping.source, deque()).append(self._added)
        self._weigh(mapping.source, _weight(mapping))
        self._newest[what] = waiting
        return True

    def first(self, now: float, least_ttl_s: float = 0.0) -> tuple[Waiting, Mapping] | None:
        """The oldest that is still alive, and as what to tell it; dead ones before it are dropped.

        `least_ttl_s`: what the agent raises a shorter TTL to.
        """
        while (head := self._head) is not None:
            if (mapping := head.at(now, least_ttl_s)) is not None:
                return head, mapping
            self._drop_oldest_of(head.mapping.source)
            self.expired += 1
        return None

    def done(self, waiting: Waiting) -> None:
        """`waiting` was told. It may have overflowed meanwhile; then there is nothing to do."""
        if self._head is waiting:
            self._drop_oldest_of(waiting.mapping.source)

    @property
    def _head(self) -> Waiting | None:
        return next(iter(self._waiting.values()), None)

    def _drop_oldest_of(self, pod: bytes) -> None:
        numbers = self._of_pod[pod]
        oldest = self._waiting.pop(numbers.popleft())
        self._weigh(pod, -_weight(oldest.mapping))
        if not numbers:
            del self._of_pod[pod], self._weights[pod]
        what = _what(oldest.mapping)
        if self._newest.get(what) is oldest:
            del self._newest[what]

    def _weigh(self, pod: bytes, more: int) -> None:
        self._weights[pod] += more
        self._weight += more


def _weight(mapping: Mapping) -> int:
    return max(len(mapping.addresses), LEAST)


def _what(mapping: Mapping) -> _What:
    """All of it but the TTL."""
    return mapping.name, mapping.addresses, mapping.source
