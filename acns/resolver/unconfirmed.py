"""What the shim has not confirmed: in memory to be told again, on disk for when this process is gone.

One list in two places. The disk has each mapping before its answer leaves. It is written anew, with all that
waits, where a write has failed or the log has grown out of proportion: not for each answer, for that takes
the loop's time, but also when no answer comes, and at the end. Where that fails and the log is sound, as on a
disk with little room, mappings are appended to it still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import Final

from acns import pieces
from acns.api.codec import Mapping
from acns.resolver.backlog import Backlog, Waiting
from acns.resolver.mapping_log import Entry, MappingLog
from acns.telemetry import log as logs

log = logs.named(__name__)

TRY_AGAIN_S: Final = 5.0
"""Between two times that all is written anew: with 10,000 mappings each keeps the loop for a tenth of a
second."""


class Unconfirmed:
    """`disk` None: in memory only."""

    def __init__(self, limit: int, disk: MappingLog | None = None) -> None:
        self.waiting = Backlog(limit)
        self._disk = disk
        self._may_rewrite = logs.Seldom(TRY_AGAIN_S)

    def __len__(self) -> int:
        return len(self.waiting)

    def open(self) -> None:
        """Take up what processes before this one could not tell. As long as the disk takes nothing, mappings
        are kept in memory only."""
        if self._disk is not None:
            self._tidy_up(self._disk)
            pieces.at_once(self._adopting(self._disk))

    async def adopt(self) -> None:
        """Take up what processes that have ended meanwhile could not tell. Pods are answered between."""
        if self._disk is not None:
            await pieces.done(self._adopting(self._disk))

    def _adopting(self, disk: MappingLog) -> Generator[None, None, None]:
        adopted = yield from disk.adopting(lambda entry: self.waiting.add(*entry), self._entries)
        if adopted:
            log.info("mappings of an earlier process taken up", count=adopted)

    def add(self, mapping: Mapping, learned_at: float) -> bool:
        """`learned_at`: when its answer came, on the monotonic clock. False: what waits already says as
        much."""
        if not self.waiting.add(mapping, learned_at):
            return False
        if self._disk is not None:
            self._write(self._disk, mapping, learned_at)
        return True

    def done(self, waiting: Waiting) -> None:
        """It was told."""
        self.waiting.done(waiting)

    def all_told(self) -> None:
        """Nothing waits any more."""
        if self._disk is None:
            return
        if self._disk.is_broken:
            self._tidy_up(self._disk)
        else:
            self._disk.clear()

    async def run(self) -> None:
        """For ever: what the disk did not take is on it once it does, though nothing more is learned."""
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            if self._disk is not None and self.waiting:
                self._rewritten(self._disk)

    def close(self) -> None:
        """What waits is for the next process."""
        if self._disk is None:
            return
        if self.waiting and self._disk.is_broken:
            self._tidy_up(self._disk)
        self._disk.close(empty=not self.waiting)

    def _write(self, disk: MappingLog, mapping: Mapping, learned_at: float) -> None:
        if not self._rewritten(disk) and not disk.is_broken:
            disk.append(mapping, learned_at)

    def _rewritten(self, disk: MappingLog) -> bool:
        """Write all that waits anew if need be, and not too often: whether that was done."""
        needed = disk.is_broken or disk.has_grown
        return needed and self._may_rewrite() and self._tidy_up(disk)

    def _tidy_up(self, disk: MappingLog) -> bool:
        return disk.rewrite(self._entries())

    def _entries(self) -> Iterator[Entry]:
        return ((one.mapping, one.learned_at) for one in self.waiting)
