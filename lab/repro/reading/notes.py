"""What is noted while a capture is read: troubles, taps, names, comments; all of it bounded.

A hostile or merely broken file has the same thing wrong a million times: what is wrong in the same way is one
`Trouble`, at the frame where it was first, with a count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from lab.repro.reading.evidence import Address, Kind, Limits, Tap, Trouble

MAX_TAPS: Final = 10_000
_MAX_NAMES_OF_ONE: Final = 64
_MAX_ABOUT_CHARS: Final = 8_192


class Flaw(Exception):
    """Something of a capture cannot be read; a `Trouble` where it is caught."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(slots=True)
class _Heard:
    """Of a tap, while it is counted."""

    tap: Tap
    is_own: bool
    packets: int = 0
    dropped: int | None = None


class Notes:
    """Collects; `troubles`, `taps` and `names` are for the end."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.names: dict[Address, list[str]] = {}
        self.untold = 0
        self.own = False
        """The section that is read is of this project: its comments are decisions."""
        self._about: list[str] = []
        self._taps: list[_Heard] = []
        self._troubles: dict[tuple[Kind, str], Trouble] = {}
        self._named = 0

    def trouble(self, frame: int, kind: Kind, detail: str, count: int = 1) -> None:
        known = self._troubles.get((kind, detail))
        if known:
            self._troubles[kind, detail] = replace(known, count=known.count + count)
        elif len(self._troubles) < self.limits.troubles:
            self._troubles[kind, detail] = Trouble(frame, kind, detail, count)
        else:
            self.untold += 1

    def flaw(self, frame: int, flaw: Flaw) -> None:
        self.trouble(frame, flaw.kind, flaw.detail)

    def about(self, comment: str) -> None:
        """What a section says of itself."""
        if sum(map(len, self._about)) < _MAX_ABOUT_CHARS:
            self._about.append(comment[:_MAX_ABOUT_CHARS])

    def tap(self, tap: Tap) -> int:
        """Its number. Raises Flaw where there are too many."""
        if len(self._taps) >= MAX_TAPS:
            raise Flaw(Kind.TOO_MUCH, f"more than {MAX_TAPS} interfaces")
        self._taps.append(_Heard(tap, self.own))
        return len(self._taps) - 1

    def tap_name(self, number: int) -> str | None:
        return self._taps[number].tap.name

    def is_own(self, number: int) -> bool:
        return self._taps[number].is_own

    def heard(self, number: int) -> None:
        self._taps[number].packets += 1

    def dropped(self, number: int, count: int) -> None:
        """As statistics say it: the last word counts."""
        self._taps[number].dropped = count

    def name(self, address: Address, name: str) -> None:
        if self._named >= self.limits.names:
            self.trouble(0, Kind.TOO_MUCH, f"more than {self.limits.names} names of addresses")
            return
        called = self.names.setdefault(address, [])
        if name and name not in called and len(called) < _MAX_NAMES_OF_ONE:
            called.append(name)
            self._named += 1

    @property
    def comment(self) -> str:
        return "\n".join(self._about)

    @property
    def taps(self) -> tuple[Tap, ...]:
        return tuple(replace(one.tap, packets=one.packets, dropped=one.dropped) for one in self._taps)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """Those of the file first; and what its taps say that they have lost."""
        lost = [
            Trouble(0, Kind.DROPPED, f"lost at {one.tap.name or f'interface {number}'}", one.dropped)
            for number, one in enumerate(self._taps)
            if one.dropped
        ]
        return tuple(
            sorted([*self._troubles.values(), *lost[: self.limits.troubles]], key=lambda one: one.frame)
        )
