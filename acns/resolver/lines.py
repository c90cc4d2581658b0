"""A line for each pod, and the lines take turns: who brings a thousand holds up nobody who brings one.

Pods are told apart by their addresses, four octets.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lines(Generic[Item]):
    """Of what waits for something."""

    def __init__(self) -> None:
        self._lines: OrderedDict[bytes, deque[Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, pod: bytes) -> int:
        """How many of this pod."""
        return len(self._lines.get(pod, ()))

    def put(self, pod: bytes, item: Item) -> None:
        """At the end of the pod's line."""
        self._lines.setdefault(pod, deque()).append(item)
        self._count += 1

    def take(self) -> Item | None:
        """The first of the line whose turn it is, which then is the last line; None: nobody waits."""
        if not self._lines:
            return None
        pod, line = self._lines.popitem(last=False)
        first = line.popleft()
        if line:
            self._lines[pod] = line
        self._count -= 1
        return first
