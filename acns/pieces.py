"""Work that takes long, done a little at a time on the event loop, so that queries of pods go between.

Not in a thread: where two threads want to run Python, each system call of the loop may cost it the
interpreter's switch interval (5 ms), which is more than a piece is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator
from typing import Final, TypeVar

PIECE_S: Final = 0.001

T = TypeVar("T")


async def done(work: Generator[None, None, T]) -> T:
    """What `work` returns, which yields wherever it may be interrupted."""
    with contextlib.closing(work):
        while True:
            until = time.monotonic() + PIECE_S
            while time.monotonic() < until:
                try:
                    next(work)
                except StopIteration as end:
                    result: T = end.value
                    return result
            await asyncio.sleep(0)


def at_once(work: Generator[None, None, T]) -> T:
    """The same where nobody else waits."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
