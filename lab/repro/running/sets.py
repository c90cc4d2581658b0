"""The learned sets without a kernel: elements in memory, with the ends that the shim gives them.

In the place of `acns.shim.kernel.Kernel` for `acns.shim.learned`, which cannot tell: what is written when,
and for how long, is decided there and in the cache, by the code that the shim runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, cast

from acns.shim.kernel import Kernel


class Sets:
    """`clock`: seconds; `live`: the addresses that live connections go to."""

    def __init__(self, clock: Callable[[], float], live: Callable[[], set[bytes]]) -> None:
        self.lock = asyncio.Lock()
        self._clock = clock
        self._live = live
        self._sets: dict[str, dict[bytes, float]] = {}

    def as_kernel(self) -> Kernel:
        return cast(Kernel, cast(Any, self))

    def put(self, wanted: Mapping[str, Mapping[bytes, float]]) -> None:
        now = self._clock()
        for name, elements in wanted.items():
            ends = {address: now + timeout_s for address, timeout_s in elements.items()}
            self._sets.setdefault(name, {}).update(ends)

    def delete(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        for name, addresses in unwanted.items():
            for address in addresses:
                self._sets.get(name, {}).pop(address, None)

    async def delete_past(
        self, unwanted: Mapping[str, Set[bytes]], margin_s: float
    ) -> dict[str, dict[bytes, float]]:
        """Nobody else writes here: nothing was renewed in the shim's stead."""
        self.delete(unwanted)
        return {}

    async def live_destinations(self, sources: Set[bytes] | None) -> set[bytes]:
        return self._live()

    def elements(self, set_name: str) -> dict[bytes, float]:
        """Address → seconds left."""
        now = self._clock()
        return {address: end - now for address, end in self._sets.get(set_name, {}).items() if end > now}

    def keep_only(self, names: Set[str]) -> None:
        """The sets of selectors that are gone go with them."""
        self._sets = {name: elements for name, elements in self._sets.items() if name in names}
