"""Where the time of a round goes."""

from __future__ import annotations

import time


class Stopwatch:
    """Laps with names, in milliseconds, since it was made."""

    def __init__(self) -> None:
        self.started_s = self._lap_s = time.monotonic()
        self.laps_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """What was done since the last lap is called `name`."""
        now = time.monotonic()
        self.laps_ms[name] = round((now - self._lap_s) * 1000, 2)
        self._lap_s = now

    @property
    def took_ms(self) -> float:
        return round((time.monotonic() - self.started_s) * 1000, 2)
