"""What endpoints have in common, kept up to date as they come and go.

Chains, sets and counters are shared by all endpoints whose policy says the same; they stay for as long as one
of them does. Keeping count makes one endpoint's change cost what *it* has, however many others there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from acns.datapath.model import Description
from acns.policy.model import Direction, Origin

T = TypeVar("T")


class Shared(Generic[T]):
    """Name → value, of whoever has added it and not taken it away again. Equal names are equal values."""

    def __init__(self) -> None:
        self.values: dict[str, T] = {}
        self._users: Counter[str] = Counter()

    def add(self, items: Mapping[str, T]) -> None:
        """One more user of these."""
        for name, value in items.items():
            self._users[name] += 1
            self.values.setdefault(name, value)

    def remove(self, names: Iterable[str]) -> list[str]:
        """One user less; what nobody uses any more."""
        gone = []
        for name in names:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self.values[name]
                gone.append(name)
        return gone


class Identified(Protocol):
    @property
    def id(self) -> str: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Identified)


class Made(Generic[K, V]):
    """Values made out of keys, each once as long as it is in use; several keys may make the same."""

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._made: dict[K, V] = {}
        self._keys: dict[str, list[K]] = {}
        self._new: list[str] = []

    def of(self, key: K) -> V:
        """The value of this key."""
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(key)
            self._keys.setdefault(found.id, []).append(key)
            self._new.append(found.id)
        return found

    def settle(self, gone: Iterable[str], live: Container[str]) -> None:
        """Forget what is not in use: of these ids, and of what was made since the last call."""
        for id_ in {*gone, *self._new}:
            if id_ not in live:
                for key in self._keys.pop(id_, ()):
                    del self._made[key]
        self._new.clear()


@dataclass(frozen=True, slots=True)
class Mention:
    """One endpoint's word on an id: what it stands for, and where its policies say so."""

    kind: str
    text: str
    origins: tuple[Origin, ...] = ()
    direction: Direction | None = None
    deny: bool = False


@dataclass(slots=True)
class _Entry:
    mention: Mention
    counts: dict[Origin, int]
    origins: list[Origin]
    endpoints: list[str]


class Register:
    """Descriptions of ids, from the mentions of the endpoints that they serve; unchanged ones are reused."""

    def __init__(self) -> None:
        self.descriptions: dict[str, Description] = {}
        self._entries: dict[str, _Entry] = {}
        self._stale: set[str] = set()

    def add(self, endpoint: str, mentions: Mapping[str, Mention]) -> None:
        """An endpoint that uses these ids."""
        for id_, mention in mentions.items():
            entry = self._entries.get(id_)
            if entry is None:
                entry = self._entries[id_] = _Entry(mention, {}, [], [])
            for origin in mention.origins:
                count = entry.counts.get(origin, 0)  # a place is slow to hash: as seldom as can be
                if not count:
                    insort(entry.origins, origin)
                entry.counts[origin] = count + 1
            insort(entry.endpoints, endpoint)
        self._stale.update(mentions)

    def remove(self, endpoint: str, mentions: Mapping[str, Mention]) -> None:
        """What it said before."""
        for id_, mention in mentions.items():
            entry = self._entries[id_]
            for origin in mention.origins:
                count = entry.counts.pop(origin) - 1
                if count:
                    entry.counts[origin] = count
                else:
                    del entry.origins[bisect_left(entry.origins, origin)]
            del entry.endpoints[bisect_left(entry.endpoints, endpoint)]
        self._stale.update(mentions)

    def move(self, endpoint: str, before: Mapping[str, Mention], after: Mapping[str, Mention]) -> None:
        """It says something else now. What it says again is not looked at."""
        new = {id_: one for id_, one in after.items() if before.get(id_) != one} if before else after
        self.add(endpoint, new)
        self.remove(endpoint, {id_: one for id_, one in before.items() if after.get(id_) != one})

    def update(self) -> None:
        """Bring `descriptions` up to date."""
        for id_ in self._stale:
            entry = self._entries[id_]
            if not entry.endpoints:
                del self._entries[id_]
                self.descriptions.pop(id_, None)
                continue
            new = _described(entry)
            if self.descriptions.get(id_) != new:
                self.descriptions[id_] = new
        self._stale.clear()


def _described(entry: _Entry) -> Description:
    one = entry.mention
    said, served = tuple(entry.origins), tuple(entry.endpoints)
    return Description(one.kind, one.text, said, served, one.direction, one.deny)
