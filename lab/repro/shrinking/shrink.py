"""A scenario made smaller as long as it still shows the same (delta debugging: Zeller and Hildebrandt 2002).

What it shows is one step's outcome, the symptom. A smaller scenario counts only where that step still comes
to what was recorded *and* the model still says of it what it said before, for the same reason: which rules
decide, and whose name's answer opened the address. Without that, a connection that was lost by a fault would
shrink to one that nothing had ever allowed, and one that a rule refused to one that no rule is about. What
the symptom waits for keeps its reason too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from acns.errors import InputError
from lab.repro.running import pure
from lab.repro.running.order import Found, Timing, first_difference
from lab.repro.scenario import load
from lab.repro.scenario.model import Scenario
from lab.repro.shrinking import smaller
from lab.runtime.progress import Progress, silent

Reason = tuple[str, str, tuple[str, ...]]
"""What a step is, what comes of it, and what decides that: by names that shrinking leaves alone."""
Shows = Callable[[Scenario], Sequence[Found]]
"""A run."""


@dataclass(slots=True)
class Shrinking:
    """`run`: a run that must still show it, beside the model's (None: there is no other). `symptom`: of the
    scenario as it is now, counted from 1."""

    scenario: Scenario
    symptom: int
    run: Shows | None
    timing: Timing
    progress: Progress = silent
    runs: int = 0
    _right: tuple[Reason, ...] = ()
    _tried: set[str] = field(default_factory=set)

    def shrunk(self) -> Scenario:
        """The smallest that was found. Raises InputError where the scenario itself shows nothing."""
        self._right = reasons(self.scenario, self.symptom, pure.run(self.scenario, self.timing))
        if not self._shows(self.scenario, self.symptom):
            wanted = self.scenario.steps[self.symptom - 1].outcome
            raise InputError(
                f"step {self.symptom} does not come to '{wanted}': there is nothing to shrink",
                hint="invoke repro.run says what comes of it; --step says which step matters",
            )
        while self._fewer_steps() or self._one_thing_less():
            pass
        return self._only_what_holds()

    def _only_what_holds(self) -> Scenario:
        """Without the outcomes of other steps that are no longer so: they were recorded of more."""
        found = self._run(self.scenario)
        steps = tuple(
            step if row.agrees or row.number == self.symptom else step.model_copy(update={"outcome": ""})
            for step, row in zip(self.scenario.steps, found, strict=True)
        )
        return self.scenario.model_copy(update={"steps": steps})

    def _fewer_steps(self) -> bool:
        """Halves of the others first, then quarters, …"""
        changed, parts = False, 2
        while True:
            others = [n for n in range(1, len(self.scenario.steps) + 1) if n != self.symptom]
            if not others:
                return changed
            parts = min(parts, len(others))
            bounds = [len(others) * n // parts for n in range(parts + 1)]
            if any(self._without(others[begin:end]) for begin, end in pairwise(bounds)):
                changed, parts = True, max(parts - 1, 2)
            elif parts == len(others):
                return changed
            else:
                parts *= 2

    def _without(self, numbers: Sequence[int]) -> bool:
        made, gone = smaller.without_steps(self.scenario, numbers)
        kept = self.symptom - sum(number < self.symptom for number in gone)
        if self.symptom not in gone and self._takes(made, kept):
            self.progress(f"{len(made.steps)} steps ({self.runs} runs)")
            return True
        return False

    def _one_thing_less(self) -> bool:
        """Goes on with what is left behind each success, so that nothing is tried in vain twice."""
        changed = False
        while any(self._takes(made, self.symptom) for made in smaller.of(self.scenario)):
            changed = True
            self.progress(f"{len(load.dumps(self.scenario).splitlines())} lines ({self.runs} runs)")
        return changed

    def _takes(self, made: Scenario, symptom: int) -> bool:
        """Whether it is smaller and shows the same; then it is the scenario from now on."""
        text = load.dumps(made)
        if text in self._tried:
            return False
        self._tried.add(text)
        with contextlib.suppress(InputError):
            read = load.loads(text, "shrunk")
            if self._shows(read, symptom):
                self.scenario, self.symptom = read, symptom
                return True
        return False

    def _shows(self, made: Scenario, symptom: int) -> bool:
        model = pure.run(made, self.timing)
        if reasons(made, symptom, model) != self._right:
            return False
        found = self._run(made, model)
        return found[symptom - 1].outcome == self.scenario.steps[self.symptom - 1].outcome

    def _run(self, made: Scenario, model: Sequence[Found] | None = None) -> Sequence[Found]:
        """`model`: what that says, where it is known."""
        self.runs += 1
        return self.run(made) if self.run else model or pure.run(made, self.timing)


def reasons(scenario: Scenario, symptom: int, model: Sequence[Found]) -> tuple[Reason, ...]:
    """Of the symptom, of the connection that it is about, and of what told them the address, as far as they
    are there: what the model says comes of each, and what decides that."""
    found, number = [], symptom
    while number:
        step, row = scenario.steps[number - 1], model[number - 1]
        outcome = row.outcome if number == symptom or step.kind != "ask" else row.outcome.partition(" ")[0]
        found.append((step.kind, outcome, row.causes))
        number = step.send or (step.after or 0 if step.kind == "connect" else 0)
    return tuple(found)


def symptom(scenario: Scenario, timing: Timing) -> int:
    """The step that matters, where nobody says: where the recording and the model differ; else the last."""
    different = first_difference(pure.run(scenario, timing))
    return different.number if different else len(scenario.steps)


def is_pure(scenario: Scenario, number: int, timing: Timing) -> bool:
    """Whether the step comes to what was recorded under a virtual clock, too."""
    return pure.run(scenario, timing)[number - 1].outcome == scenario.steps[number - 1].outcome
