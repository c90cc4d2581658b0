"""The learned set without a kernel: elements in memory, with the ends that the shim gives them.

In the place of `acns.shim.kernel.Kernel` for `acns.shim.learned`, which cannot tell: what is written when,
and for how long, is decided there and in the cache, by the code that the shim runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, cast

from acns.shim.kernel import Kernel


class LearnedSet:
    """`clock`: seconds; `live`: the addresses that live connections go to."""

    def __init__(self, clock: Callable[[], float], live: Callable[[], set[bytes]]) -> None:
        self.lock = asyncio.Lock()
        self._clock = clock
        self._live = live
        self._ends: dict[str, dict[bytes, float]] = {}

    def as_kernel(self) -> Kernel:
        return cast(Kernel, cast(Any, self))

    def put(self, wanted: Mapping[str, Mapping[bytes, float]]) -> None:
        now = self._clock()
        for id_, timeouts_s in wanted.items():
            ends = {address: now + timeout_s for address, timeout_s in timeouts_s.items()}
            self._ends.setdefault(id_, {}).update(ends)

    def delete(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        for id_, addresses in unwanted.items():
            for address in addresses:
                self._ends.get(id_, {}).pop(address, None)

    async def delete_past(
        self, unwanted: Mapping[str, Set[bytes]], margin_s: float
    ) -> dict[str, dict[bytes, float]]:
        """Nobody else writes here: nothing was renewed in the shim's stead."""
        self.delete(unwanted)
        return {}

    async def delete_many(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        self.delete(unwanted)

    async def live_destinations(self, sources: Set[bytes] | None) -> set[bytes]:
        return self._live()

    def elements(self) -> dict[str, dict[bytes, float]]:
        """Selector id → address → seconds left."""
        now = self._clock()
        return {
            id_: {address: end - now for address, end in ends.items() if end > now}
            for id_, ends in self._ends.items()
        }

    def keep_only(self, ids: Set[str]) -> None:
        """What selectors that are gone have opened goes with them."""
        self._ends = {id_: ends for id_, ends in self._ends.items() if id_ in ids}
