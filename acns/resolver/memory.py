"""What was found out once, for as long as it is asked for: a dictionary of two generations, bounded.

New entries go into the young generation. When that is full it becomes the old one, and what was the old one
is gone; an entry that is asked for comes back into the young. So a flood of keys that never come again costs
its own room and no more: what is asked for once in a generation stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memory(Generic[Key, Value]):
    """At most twice `limit`, in what `weigh` says of a key and its value, which does not change."""

    __slots__ = ("_forgotten", "_limit", "_old", "_weigh", "_weight", "young")

    def __init__(
        self,
        limit: int,
        weigh: Callable[[Key, Value], int] = lambda key, value: 1,
        forgotten: Callable[[Key, Value], None] | None = None,
    ) -> None:
        """`forgotten` hears of each that has to go for want of room, so that nobody else keeps it."""
        self.young: dict[Key, Value] = {}
        """For a first look by who cannot afford a call; `get` looks everywhere."""
        self._old: dict[Key, Value] = {}
        self._weight = 0
        self._limit = limit
        self._weigh = weigh
        self._forgotten = forgotten

    def __contains__(self, key: Key) -> bool:
        return key in self.young or key in self._old

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def get(self, key: Key) -> Value | None:
        found = self.young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Key, value: Value) -> None:
        """Remember, in the place of what was remembered under this key."""
        self.discard(key)
        weight = self._weigh(key, value)
        self._weight += weight
        if self._weight > self._limit:
            self._turn()
            self._weight = weight
        self.young[key] = value

    def _turn(self) -> None:
        """A generation is full, so the one before it goes."""
        gone, self._old, self.young = self._old, self.young, {}
        if self._forgotten is not None:
            for key, value in gone.items():
                self._forgotten(key, value)

    def discard(self, key: Key) -> None:
        value = self.young.pop(key, None)
        if value is not None:
            self._weight -= self._weigh(key, value)
        self._old.pop(key, None)

    def clear(self) -> None:
        self.young, self._old, self._weight = {}, {}, 0
