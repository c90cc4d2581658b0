"""Giving what an earlier run has learned our margin: once, whatever comes in between.

A learned address stays in the kernel for its TTL and a margin, which the settings say. By its seconds left
nobody can tell whether an element has the margin of the run before or ours already. Taken for the wrong one
it would be given the difference again, and open for hours more, or be closed early. So before any timeout is
changed it is written down when each TTL ends: an element that has just our margin beyond that end has been
changed, by this run or by one that was killed or failed after it.

Ends count by CLOCK_MONOTONIC, which all processes share, as the kernel's timeouts do. After a boot they match
nothing; neither is there anything that was learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from acns.shim.ledger import Ledger

SAME_END_S: Final = 2.0
"""Reading a large set takes a while. Margins that differ by less are as good as one."""

Left = Mapping[bytes, float]
"""Address → seconds left."""


@dataclass(frozen=True, slots=True)
class Retiming:
    """These elements were about to be given this margin: selector id → address → when its TTL ends."""

    margin_s: float
    ends_s: Mapping[str, Mapping[bytes, float]]

    def has_changed(self, id_: str, address: bytes, expires_at_s: float) -> bool:
        end_s = self.ends_s.get(id_, {}).get(address)
        return end_s is not None and abs(expires_at_s - self.margin_s - end_s) < SAME_END_S

    def has_ends(self, id_: str, ends_s: Mapping[bytes, float]) -> bool:
        """Whether it says as good as these. By half of that: `has_changed` needs the rest."""
        noted_s = self.ends_s.get(id_, {})
        return all(
            address in noted_s and abs(noted_s[address] - end_s) < SAME_END_S / 2
            for address, end_s in ends_s.items()
        )

    def beside(self, newer: Retiming) -> Retiming:
        """What a newer one leaves of it: one of the same margin says of its selectors all that it does."""
        if newer.margin_s != self.margin_s:
            return self
        left = {id_: ends for id_, ends in self.ends_s.items() if id_ not in newer.ends_s}
        return Retiming(self.margin_s, left)

    def to_json(self) -> dict[str, Any]:
        ends = {id_: {one.hex(): end for one, end in ends.items()} for id_, ends in self.ends_s.items()}
        return {"margin_s": self.margin_s, "ends_s": ends}

    @staticmethod
    def all_of(values: Iterable[Any]) -> tuple[Retiming, ...]:
        """Those in a ledger's lines."""
        return tuple(_from_json(value["retiming"]) for value in values if "retiming" in value)


class Margins:
    """What the elements' timeouts have on top of their TTLs, by what the ledger knows."""

    def __init__(self, ledger: Ledger, now: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._now = now

    def are(self, margin_s: float) -> bool:
        """Whether it is this one for all, which is the rule."""
        return self._ledger.terms_before.margin_s == margin_s and not self._ledger.retimings

    def of(self, id_: str, address: bytes, left_s: float) -> float:
        """That of one element."""
        expires_at_s = self._now() + left_s
        for one in reversed(self._ledger.retimings):
            if one.has_changed(id_, address, expires_at_s):
                return one.margin_s
        return self._ledger.terms_before.margin_s

    def changed(self, id_: str, address: bytes, left_s: float, margin_s: float) -> float:
        """How many seconds an element has left with this margin."""
        before_s = self.of(id_, address, left_s)
        return left_s if before_s == margin_s else max(left_s - before_s, 0.0) + margin_s

    def note(self, elements: Mapping[str, Left], margin_s: float) -> frozenset[str]:
        """Write down that these selectors' elements are about to be given this margin, unless it is written:
        the ids of those of which any has another. Raises EnvironmentFault: then none is to be changed."""
        ends_s = {
            id_: {
                address: self._now() + self.changed(id_, address, left_s, margin_s) - margin_s
                for address, left_s in left.items()
            }
            for id_, left in elements.items()
            if any(self.of(id_, address, left_s) != margin_s for address, left_s in left.items())
        }
        new = {id_: ends for id_, ends in ends_s.items() if not self._is_noted(id_, ends, margin_s)}
        if new:
            self._ledger.note(Retiming(margin_s, new))
        return frozenset(ends_s)

    def _is_noted(self, id_: str, ends_s: Mapping[bytes, float], margin_s: float) -> bool:
        """Whether the last note of this selector says the same. A try that fails after it is made again, each
        second, until the kernel takes it."""
        last = next((one for one in reversed(self._ledger.retimings) if id_ in one.ends_s), None)
        return last is not None and last.margin_s == margin_s and last.has_ends(id_, ends_s)


def _from_json(value: Any) -> Retiming:
    ends = value["ends_s"].items()
    ends_s = {id_: {bytes.fromhex(one): float(end) for one, end in known.items()} for id_, known in ends}
    return Retiming(float(value["margin_s"]), ends_s)
