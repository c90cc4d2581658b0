"""Element writes by one of several writers: nobody lowers an expiry.

Two programs write the learned sets: the shim, and the resolver's writer while the shim is away. An element's
expiry is what was written last, so each has to know what the other wrote. Here a write is committed only for
the generation of the ruleset under which the expiries were read; who loses that race reads again. As long as
nobody else commits anything, what was written before is known, and nothing is read at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from acns.datapath.elements import Elements, NoSuchSet, Overtaken
from acns.errors import EnvironmentFault

_TRIES: Final = 50
REMEMBERED_S: Final = 600.0
"""Then the sets are read again: what has expired there takes up no room here."""

Timeouts = Mapping[str, Mapping[bytes, float]]
"""Set name → address (4 raw bytes) → seconds from now."""


class HighestWins:
    """Writes through `elements`. Time is an argument, in seconds of a clock that never steps back."""

    def __init__(self, elements: Elements, comment: str = "") -> None:
        self._elements = elements
        self._comment = comment
        self.written_on: int | None = None
        """The ruleset's generation on which the last `put` has written; None: there was nothing to write."""
        self._generation = -1
        self._forget_at = -math.inf
        self._held: dict[str, dict[bytes, float] | None] = {}
        """Set → address → expiry at `_generation`, of the sets looked at; None: there is no such set."""

    def put(self, wanted: Timeouts, now: float) -> int:
        """Set name → address → timeout_s: each element lasts that long or longer when this returns.

        Sets that the kernel does not have are passed by; how many there were is returned. Raises
        EnvironmentFault where others commit without end, or the kernel refuses.
        """
        self.written_on = None
        for _ in range(_TRIES):
            self._look(now, wanted)
            rising = self._rising(wanted, now)
            if rising:
                try:
                    self._elements.put(rising, generation=self._generation, comment=self._comment)
                except Overtaken:
                    continue
                self.written_on = self._generation
                self._generation += 1
                self._note(rising, now)
            return sum(self._held[name] is None for name in wanted)
        raise EnvironmentFault(
            f"set elements not written: others committed {_TRIES} times meanwhile",
            hint="some program changes nftables in a loop",
        )

    def _look(self, now: float, names: Mapping[str, object]) -> None:
        generation = self._elements.generation()
        if generation != self._generation or now > self._forget_at:
            self._generation, self._held, self._forget_at = generation, {}, now + REMEMBERED_S
        for name in names:
            if name not in self._held:
                self._held[name] = self._read(name, now)

    def _read(self, name: str, now: float) -> dict[bytes, float] | None:
        try:
            return {address: now + left_s for address, left_s in self._elements.read(name).items()}
        except NoSuchSet:
            return None

    def _rising(self, wanted: Timeouts, now: float) -> dict[str, dict[bytes, float]]:
        """What would end sooner than it is wanted."""
        rising = {}
        for name, timeouts_s in wanted.items():
            held = self._held[name]
            if held is None:
                continue
            higher = {
                address: timeout_s
                for address, timeout_s in timeouts_s.items()
                if held.get(address, -math.inf) < now + timeout_s
            }
            if higher:
                rising[name] = higher
        return rising

    def _note(self, written: Timeouts, now: float) -> None:
        for name, timeouts_s in written.items():
            held = self._held[name]
            assert held is not None, "only sets that are there are written"
            held.update({address: now + timeout_s for address, timeout_s in timeouts_s.items()})
