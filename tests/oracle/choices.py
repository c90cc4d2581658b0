"""Hundreds of small choices make a cluster.

hypothesis draws one number for all of them: drawn one by one they cost more than all that is tested, and
come as variations of few examples. What hypothesis would shrink, `reduce` makes smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Chooser:
    """Choices in words."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def one(self, *options: T) -> T:
        return self._random.choice(options)

    def chance(self, one_in: int) -> bool:
        return self._random.randrange(one_in) == 0

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def some(self, low: int, high: int, make: Callable[[], T]) -> list[T]:
        return [make() for _ in range(self.number(low, high))]

    def several(self, low: int, high: int, *options: T) -> list[T]:
        """Different ones."""
        mixed = self._random.sample(options, len(options))
        return list(dict.fromkeys(mixed))[: self.number(low, high)]


choosers: st.SearchStrategy[Chooser] = st.randoms(use_true_random=True).map(Chooser)
