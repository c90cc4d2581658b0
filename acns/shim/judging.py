"""Judging the cluster before its first policy is enforced, and holding nothing up where it does not say.

The first objects wait a moment for what the API server knows of the cluster; when that does not come, they go
on, and it is asked again until it does. A cluster in which policy cannot be enforced ends the shim, then too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from acns.shim.preflight import ClusterFacts
from acns.shim.sources import Source

FIRST_S: Final = 10.0
AGAIN_S: Final = 10.0


class Judging:
    """`judge` raises where the cluster is not one to enforce policy in."""

    def __init__(self, source: Source, node: str, judge: Callable[[ClusterFacts], None]) -> None:
        self._source = source
        self._node = node
        self._judge = judge
        self._begun = asyncio.Event()
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Ask until it is known; raises what `judge` does."""
        await self._begun.wait()
        while (facts := await self._source.cluster_facts(self._node)) is None:
            await asyncio.sleep(AGAIN_S)
        self._judge(facts)
        self._done.set()

    async def first(self) -> None:
        """Before the first objects: returns when it is known, or after a moment."""
        self._begun.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await self._done.wait()
