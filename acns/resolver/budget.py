"""How much the resolver takes on at once: overall, and per endpoint so that one pod's flood is its own."""

from __future__ import annotations


class Budget:
    """Counts what is in flight against two limits. Every `take` that said True needs its `give`."""

    def __init__(self, total: int, per_key: int) -> None:
        self._total = total
        self._per_key = per_key
        self._taken: dict[object, int] = {}
        self.in_flight = 0

    def take(self, key: object) -> bool:
        """Whether there is room for one more of `key`; it is then taken."""
        mine = self._taken.get(key, 0)
        if mine >= self._per_key or self.in_flight >= self._total:
            return False
        self._taken[key] = mine + 1
        self.in_flight += 1
        return True

    def give(self, key: object) -> None:
        """Give one back; a key with nothing in flight is forgotten."""
        left = self._taken[key] - 1
        self.in_flight -= 1
        if left:
            self._taken[key] = left
        else:
            del self._taken[key]
