"""When each step begins, and what was found of it: what all ways of running share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lab.errors import InputError
from lab.repro.scenario.model import Scenario, Step

NOT_PLAYED: Final = "not played"
"""Of recorded packets, where only what they mean is run: it says nothing of what was recorded."""


class Pace(StrEnum):
    """How steps follow each other."""

    RECORDED = "recorded"  # at their times, sooner or later by a factor where there is one
    CAUSAL = "causal"  # each as soon as the one before is done


@dataclass(frozen=True, slots=True)
class Timing:
    """`scale`: of recorded times, delays of servers included; TTLs stay what they are."""

    pace: Pace = Pace.RECORDED
    scale: float = 1.0

    def ms(self, recorded_ms: float) -> float:
        return 0.0 if self.pace is Pace.CAUSAL else recorded_ms * self.scale

    def delay_ms(self, recorded_ms: float) -> float:
        """Of an answer: its order among others counts, also where nothing waits."""
        return recorded_ms * self.scale


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one step in a run. `agrees`: it is what was recorded, or nothing was."""

    number: int
    recorded: str
    outcome: str
    why: str = ""
    causes: tuple[str, ...] = ()
    """What decides it, as far as the model knows: a rule's text and its policy, the name that opened an
    address. The same where the scenario is smaller, or its times and lines are others."""

    @property
    def agrees(self) -> bool:
        return self.recorded in ("", self.outcome)


def timing(text: str) -> Timing:
    """`recorded`, `causal`, or a factor such as `0.5`. Raises InputError."""
    if text in tuple(Pace):
        return Timing(Pace(text))
    try:
        scale = float(text.removesuffix("x"))
    except ValueError:
        scale = -1.0
    if not 0 < scale <= 1_000:
        raise InputError(f"'{text}' is no timing", hint="recorded, causal, or a factor such as 0.5")
    return Timing(scale=scale)


def waits_for(scenario: Scenario, pace: Pace) -> list[tuple[int, ...]]:
    """For each step the indices of those that have to be done before it begins."""
    found = []
    for index, step in enumerate(scenario.steps):
        explicit = {number - 1 for number in (step.after, step.send) if number is not None}
        if pace is Pace.CAUSAL:
            explicit |= {_before(scenario.steps, index)} - {-1}
        found.append(tuple(sorted(explicit)))
    return found


def _before(steps: Sequence[Step], index: int) -> int:
    """The one before, but for those that share a socket with it: they went out together."""
    before = index - 1
    while before >= 0 and steps[before].socket and steps[before].socket == steps[index].socket:
        before -= 1
    return before


def shows_nothing(found: Sequence[Found]) -> bool:
    """Whether there is nothing to compare with: no step has an outcome, or none that has one was played."""
    return not any(one.recorded for one in found)


def first_difference(found: Sequence[Found]) -> Found | None:
    return next((one for one in found if not one.agrees), None)
