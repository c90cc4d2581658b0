"""How much the resolver takes on at once: overall, and per endpoint so that one pod's flood is its own."""

from __future__ import annotations

from weakref import WeakValueDictionary


class Share:
    """What one key has in flight."""

    __slots__ = ("__weakref__", "taken")

    def __init__(self) -> None:
        self.taken = 0


class Budget:
    """Counts what is in flight against two limits. Every `take` that said True needs its `give`.

    Who takes often counts `in_flight` and a share's `taken` himself, and keeps to the limits.
    """

    def __init__(self, total: int, per_key: int) -> None:
        self.total = total
        self.per_key = per_key
        self.in_flight = 0
        self._shares: WeakValueDictionary[object, Share] = WeakValueDictionary()

    def share(self, key: object) -> Share:
        """The key's: the same for everybody, as long as anybody holds it."""
        found = self._shares.get(key)
        if found is None:
            found = self._shares[key] = Share()
        return found

    def take(self, share: Share) -> bool:
        """Whether there is room for one more of this share; it is then taken."""
        if share.taken >= self.per_key or self.in_flight >= self.total:
            return False
        share.taken += 1
        self.in_flight += 1
        return True

    def give(self, share: Share) -> None:
        """Give one back."""
        share.taken -= 1
        self.in_flight -= 1
