"""So much per second, and a burst: what a thread may spend on what others cause at any rate."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """Starts full. It may be overdrawn by one spending, and then takes longer to recover."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._at = clock()

    def spend(self, amount: int) -> None:
        """Take from it."""
        self._refill()
        self._left -= amount

    def recovers_in_s(self) -> float:
        """How long until there is something to spend; 0 while there is."""
        self._refill()
        return max(0.0, (1 - self._left) / self._per_s)

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
