"""What makes reading much at once cheap, in bounded memory: results that come again, and rare collections.

Of a capture the same names and questions come a thousand times. Only short texts are remembered: long ones
are rare, and a hostile file could fill the memory with them.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Final, TypeVar

Given = TypeVar("Given", str, bytes)
Result = TypeVar("Result")
_MOST_RESULTS: Final = 4_096
_LONGEST: Final = 512
_NEW_OBJECTS: Final = 200_000
_YOUNGER: Final = 20


def short(function: Callable[[Given], Result]) -> Callable[[Given], Result]:
    """A pure function of a text or of octets, whose last results for short ones are kept."""
    kept = lru_cache(maxsize=_MOST_RESULTS)(function)

    @wraps(function)
    def asked(given: Given) -> Result:
        return kept(given) if len(given) <= _LONGEST else function(given)

    return asked


@contextlib.contextmanager
def seldom_collecting() -> Iterator[None]:
    """For a block that makes much and throws little away: looking for garbage took a third of its time."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, _YOUNGER, _YOUNGER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
