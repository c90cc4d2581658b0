"""A line for each pod, and the lines take turns: who brings a thousand holds up nobody who brings one.

Pods are told apart by their addresses, four octets.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Container
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lines(Generic[Item]):
    """Of what waits for something."""

    def __init__(self) -> None:
        self._lines: OrderedDict[bytes, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __bool__(self) -> bool:
        return bool(self._lines)

    def of(self, pod: bytes) -> int:
        """How many of this pod."""
        return len(self._lines.get(pod, ()))

    def put(self, pod: bytes, item: Item) -> None:
        """At the end of the pod's line."""
        self._lines.setdefault(pod, deque()).append(item)

    def take(self, passed_over: Container[bytes] = ()) -> tuple[bytes, Item] | None:
        """The first of the line whose turn it is, which then is the last line. None: there is nobody, but
        perhaps in the lines of the pods that are passed over."""
        pod = next((pod for pod in self._lines if pod not in passed_over), None)
        if pod is None:
            return None
        line = self._lines.pop(pod)
        first = line.popleft()
        if line:
            self._lines[pod] = line
        return pod, first


class Holders:
    """How many of something each pod holds."""

    def __init__(self, most: int) -> None:
        """`most`: of one pod."""
        self.full: set[bytes] = set()
        """Those that hold all that one may."""
        self._most = most
        self._held: Counter[bytes] = Counter()

    def take(self, pod: bytes) -> None:
        """One more. Whoever does not look at `full` first may come to hold more than the most."""
        self._held[pod] += 1
        if self._held[pod] >= self._most:
            self.full.add(pod)

    def give(self, pod: bytes) -> None:
        """One less."""
        self._held[pod] -= 1
        if self._held[pod] < self._most:
            self.full.discard(pod)
        if not self._held[pod]:
            del self._held[pod]
