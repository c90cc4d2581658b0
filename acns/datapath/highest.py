"""Element writes by one of several writers: nobody lowers an expiry.

Two programs write the learned set: the shim, and the resolver's writer while the shim is away. An element's
expiry is what was written last, so each has to know what the other wrote. Here a write is committed only for
the generation of the ruleset under which the expiries were read; who loses that race reads again. As long as
nobody else commits anything, what was written before is known, and nothing is read at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from acns.datapath.elements import Elements, Overtaken
from acns.errors import EnvironmentFault

_TRIES: Final = 50
REMEMBERED_S: Final = 600.0
"""Then elements are looked up again: what has expired there takes up no room here."""

Timeouts = Mapping[str, Mapping[bytes, float]]
"""Selector id → address (4 raw bytes) → seconds from now."""


class HighestWins:
    """Writes through `elements`. Time is an argument, in seconds of a clock that never steps back."""

    def __init__(self, elements: Elements, comment: str = "") -> None:
        self._elements = elements
        self._comment = comment
        self.written_on: int | None = None
        """The ruleset's generation on which the last `put` has begun to write; None: there was nothing to."""
        self.commits = 0
        """How many the last `put` took."""
        self._generation = -1
        self._forget_at = -math.inf
        self._held: dict[str, dict[bytes, float]] = {}
        """Selector id → address → expiry at `_generation`, of those looked at; -inf: it is not there."""

    def put(self, wanted: Timeouts, now: float) -> None:
        """Selector id → address → timeout_s: each element lasts that long or longer when this returns.

        Raises NoSuchSet where the kernel has no set for them, EnvironmentFault where others commit without
        end, or the kernel refuses.
        """
        self.written_on, self.commits = None, 0
        for _ in range(_TRIES):
            self._look(now, wanted)
            rising = self._rising(wanted, now)
            if not rising:
                return
            try:
                self.commits = self._elements.put(rising, generation=self._generation, comment=self._comment)
            except Overtaken:
                continue
            self.written_on, self._generation = self._generation, self._generation + self.commits
            self._note(rising, now)
            return
        raise EnvironmentFault(
            f"learned addresses not written: others committed {_TRIES} times meanwhile",
            hint="some program changes nftables in a loop",
        )

    def _look(self, now: float, wanted: Timeouts) -> None:
        generation = self._elements.generation()
        if generation != self._generation or now > self._forget_at:
            self._generation, self._held, self._forget_at = generation, {}, now + REMEMBERED_S
        unseen = {id_: timeouts_s.keys() - self._held.get(id_, {}) for id_, timeouts_s in wanted.items()}
        found = self._elements.find(unseen)
        for id_, addresses in unseen.items():
            there = found.get(id_, {})
            ends = {one: now + there[one].left_s if one in there else -math.inf for one in addresses}
            self._held.setdefault(id_, {}).update(ends)

    def _rising(self, wanted: Timeouts, now: float) -> dict[str, dict[bytes, float]]:
        """What would end sooner than it is wanted."""
        rising = {}
        for id_, timeouts_s in wanted.items():
            held = self._held[id_]
            higher = {
                address: timeout_s
                for address, timeout_s in timeouts_s.items()
                if held[address] < now + timeout_s
            }
            if higher:
                rising[id_] = higher
        return rising

    def _note(self, written: Timeouts, now: float) -> None:
        for id_, timeouts_s in written.items():
            self._held[id_].update({address: now + timeout_s for address, timeout_s in timeouts_s.items()})
