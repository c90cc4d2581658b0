"""Later ends of addresses that the agent is to be told of while their answers go on leaving.

A few are told at once, the others stand in line, one for each name and set of addresses: the latest end, and
never two at once. None is dropped, for its pod goes by the answer's TTL, and that may be the last answer of
its name. What the line has no room for is told before its answer leaves, as if it were new.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from acns.api.codec import Mapping
from acns.dns.name import Name

AT_ONCE: Final = 8  # half of the turns are for answers that wait
ROOM: Final = 4_096

_Key = tuple[Name, frozenset[bytes]]


class Renewal(NamedTuple):
    """What an answer taught, and when it came, on the monotonic clock."""

    mapping: Mapping
    learned_at: float

    @property
    def expires_at(self) -> float:
        return self.learned_at + self.mapping.ttl_s


class Renewals:
    """The line, and the workers that tell what is in it: each calls `take` until that is None."""

    def __init__(self, at_once: int = AT_ONCE, room: int = ROOM) -> None:
        self._room = room
        self._line: dict[_Key, Renewal] = {}
        self._idle = list(range(at_once))
        """Numbers of workers that do not work."""
        self._told: dict[int, tuple[_Key, Renewal]] = {}
        """By worker: what it is telling."""

    def __len__(self) -> int:
        """Those that are told now, and those in line."""
        return len(self._line) + len(self._told)

    @property
    def has_room(self) -> bool:
        return len(self._line) < self._room

    def add(self, mapping: Mapping, learned_at: float) -> int | None:
        """One more in line. Whoever is given a number is to work, as that; None: there are enough who do."""
        key = mapping.name, frozenset(mapping.addresses)
        renewal, before = Renewal(mapping, learned_at), self._line.get(key)
        if before is None or before.expires_at < renewal.expires_at:
            self._line[key] = renewal
        return self._idle.pop() if self._idle and not self._is_told(key) else None

    def take(self, worker: int) -> Renewal | None:
        """The next one for this worker, which is through with its last. None: it is to end."""
        self._told.pop(worker, None)
        key = next((key for key in self._line if not self._is_told(key)), None)
        if key is None:
            self._idle.append(worker)
            return None
        renewal = self._line.pop(key)
        self._told[worker] = key, renewal
        return renewal

    def drop(self, worker: int) -> None:
        """This worker has come to another end than `take`'s; what it was telling is not known to be told."""
        if worker not in self._idle:
            self._told.pop(worker, None)
            self._idle.append(worker)

    def untold(self) -> list[Renewal]:
        """Those of which it is not known that they were told."""
        return [renewal for _, renewal in self._told.values()] + list(self._line.values())

    def _is_told(self, key: _Key) -> bool:
        return any(told == key for told, _ in self._told.values())
