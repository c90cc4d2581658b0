"""What a pod could know of an address when it connected: which answers named it, and for how long."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import accumulate
from typing import Final

from lab.repro.reading.evidence import Address
from lab.repro.showing.exchanges import Exchange
from lab.repro.showing.timeline import Mark

S_NS: Final = 1_000_000_000
_TOO_EARLY_NS: Final = 10 * S_NS
"""Who connects earlier than this before an answer has the address from elsewhere."""


@dataclass(frozen=True, slots=True)
class _Named:
    at_ns: int
    until_ns: int
    name: str


class Learned:
    """Of one pod: what answers told it."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self._named: dict[Address, list[_Named]] = defaultdict(list)
        for one in exchanges:
            if one.answer is not None and one.answered is not None and one.query is not None:
                for address in one.answered.addresses:
                    at_ns = one.answer.at_ns
                    until_ns = at_ns + one.answered.ttl_s * S_NS
                    self._named[address].append(_Named(at_ns, until_ns, one.answered.name))
        for found in self._named.values():
            found.sort(key=lambda one: one.at_ns)
        self._until = {
            address: list(accumulate((one.until_ns for one in found), max))
            for address, found in self._named.items()
        }
        """The latest end so far, at each."""

    def name(self, address: Address, at_ns: int) -> str:
        """What it was called last; "" where no answer named it."""
        found = self._named.get(address, [])
        before = bisect.bisect_right(found, at_ns, key=lambda one: one.at_ns)
        return found[max(0, before - 1)].name if found else ""

    def mark(self, address: Address, at_ns: int) -> Mark | None:
        """Of a connection that began then."""
        if not isinstance(address, IPv4Address):
            return None
        found = self._named.get(address, [])
        before = bisect.bisect_right(found, at_ns, key=lambda one: one.at_ns)
        if not before:
            soon = found and found[0].at_ns - at_ns < _TOO_EARLY_NS
            return Mark.BEFORE_ANSWER if soon else Mark.NEVER_LEARNED
        return Mark.EXPIRED if self._until[address][before - 1] < at_ns else None
