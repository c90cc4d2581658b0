"""Long life in memory: hundreds of thousands of values that stay, and must hold nothing up.

Python's full garbage collections look at everything that lives: a tenth of a second at the size of a large
node, in the middle of whatever is being answered. So what has come to stay is taken out of their sight
(`settle`) at moments when nobody waits, or so often that there is never much of it (`keep_settled`), and
between these only the young are collected. What a large piece of work has used and no longer needs is given
back to the system.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
from typing import Final

_YOUNG, _MIDDLE, _OLD = 5_000, 10, 1_000_000
"""Collect after so many new objects; the next generation after so many of these; all of them: by `settle`."""
SETTLE_S: Final = 1.0
_WHOLE_EVERY: Final = 3_600
"""Cycles that were in use when they were taken out of sight are found by looking at everything again."""


def prepare() -> None:
    """From now on full collections are ours to make. What there is by now stays: modules, above all."""
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def settle() -> None:
    """Collect what is new since the last time, and leave alone for ever what then still lives.

    Costs 0.1 µs per new object. Values that are frozen here are freed as always when nobody refers to them;
    only cycles among them would stay.
    """
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Memory that is free: glibc keeps what lies below the top of its heap."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


async def keep_settled() -> None:
    """For ever, in a process that takes on something new with every packet: a second's worth at a time."""
    prepare()
    for number in itertools.count(1):
        if number % _WHOLE_EVERY == 0:
            gc.unfreeze()
        settle()
        await asyncio.sleep(SETTLE_S)
