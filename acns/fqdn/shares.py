"""Who has to let go when a memory is full: those who hold more than their share, and nobody else.

A share is what each may hold so that all together fit: whoever holds less keeps all of it, and what such
leave free is the others'. So one endpoint that brings thousands of names or addresses loses its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable


def share(held: Iterable[int], room: float) -> float:
    """The most that each may hold so that all together hold no more than `room`; infinite: they do."""
    ordered = sorted(held)
    for number, one in enumerate(ordered):
        fair = room / (len(ordered) - number)
        if one > fair:
            return max(fair, 0.0)
        room -= one
    return math.inf


class Holdings:
    """What each endpoint holds now: names, and addresses of them."""

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()

    def add(self, endpoint: str, *, names: int, addresses: int) -> None:
        """More, or less."""
        self._names[endpoint] += names
        self._addresses[endpoint] += addresses
        if not self._names[endpoint]:
            del self._names[endpoint], self._addresses[endpoint]

    def names(self, endpoint: str) -> int:
        """How many it holds."""
        return self._names[endpoint]

    def is_modest(self, endpoint: str, *, names: float, addresses: float) -> bool:
        """Whether it holds no more than an even part of the room, which is so much for all."""
        all_of_them = max(len(self._names), 1)
        return (
            self._names[endpoint] <= names / all_of_them
            and self._addresses[endpoint] <= addresses / all_of_them
        )

    def surplus(self, *, names: float, addresses: float) -> Callable[[str], bool]:
        """Says of an endpoint whether it holds more than its share of the room, which is so much for all; to
        be asked again as they go."""
        name_share = share(self._names.values(), names)
        address_share = share(self._addresses.values(), addresses)
        return lambda endpoint: (
            self._names[endpoint] > name_share or self._addresses[endpoint] > address_share
        )
