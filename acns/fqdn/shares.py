"""Who has to let go when a memory is full: those who hold more than their share, and nobody else.

A share is what each may hold so that all together fit: whoever holds less keeps all of it, and what such
leave free is the others'. So one endpoint that brings thousands of names or addresses loses its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from acns.fqdn.leases import Entry


def share(held: Iterable[int], room: float) -> float:
    """The most that each may hold so that all together hold no more than `room`; infinite: they do."""
    ordered = sorted(held)
    for number, one in enumerate(ordered):
        fair = room / (len(ordered) - number)
        if one > fair:
            return max(fair, 0.0)
        room -= one
    return math.inf


class Surplus:
    """What endpoints hold beyond their shares of names and addresses, while entries go one by one."""

    def __init__(self, entries: Iterable[Entry], *, names: float, addresses: float) -> None:
        """`names` and `addresses`: the room for all."""
        self._names: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        for entry in entries:
            self._names[entry.asked_by] += 1
            self._addresses[entry.asked_by] += len(entry.leases)
        self._name_share = share(self._names.values(), names)
        self._address_share = share(self._addresses.values(), addresses)

    def has(self, entry: Entry) -> bool:
        """Whether the endpoint that last asked for it holds more than its share."""
        endpoint = entry.asked_by
        return self._names[endpoint] > self._name_share or self._addresses[endpoint] > self._address_share

    def less(self, entry: Entry) -> None:
        """It goes."""
        self._names[entry.asked_by] -= 1
        self._addresses[entry.asked_by] -= len(entry.leases)
