"""When to try again: later after each failure, and no two agents at the same moment.

Five thousand agents that lost one API server must not come back as one. So each wait is drawn from the upper
half of a span that doubles, and what a server asks for with Retry-After is the least of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S, LONGEST_S = 0.5, 30.0
_DOUBLINGS = 16


class Pace:
    """Of one resource. `draw` gives numbers from 0 to 1."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._failures = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """How long to wait after one more failure."""
        span_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures, _DOUBLINGS))
        self._failures += 1
        drawn_s = span_s * (0.5 + self._draw() / 2)
        return drawn_s if at_least_s is None else at_least_s + drawn_s / 2

    def reset(self) -> None:
        """It works again."""
        self._failures = 0
