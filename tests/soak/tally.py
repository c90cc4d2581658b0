"""What was counted, and each violation with what stood around it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from .model import Disturbance

Kind = Literal["wrongly dropped", "wrongly passed", "lost mappings", "leaks", "failed upgrades"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_SHOWN = 40
_AROUND_S = 6.0


@dataclass(frozen=True, slots=True)
class Violation:
    at_s: float
    kind: Kind
    pod: str
    what: str
    around: tuple[str, ...]

    def __str__(self) -> str:
        steps = "".join(f"\n      {step}" for step in self.around) or "\n      (calm)"
        return f"{self.at_s:8.2f} s  {self.kind}: {self.pod}: {self.what}{steps}"


@dataclass(slots=True)
class Tally:
    """`disturbances` and `edits` explain; `started` is the clock's time from which violations count."""

    seed: int
    disturbances: list[Disturbance]
    started: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    edits: list[tuple[float, str]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    on_violation: Callable[[Violation], None] = lambda _: None

    def violated(self, kind: Kind, pod: str, what: str, at: float) -> None:
        found = Violation(at - self.started, kind, pod, what, self._around(at))
        self.violations.append(found)
        if len(self.violations) <= MOST_SHOWN:
            self.on_violation(found)

    def of(self, kind: Kind) -> int:
        return sum(one.kind == kind for one in self.violations)

    @property
    def ok(self) -> bool:
        return not self.violations

    def _around(self, at: float) -> tuple[str, ...]:
        near = [one for one in self.disturbances if one.touches(at - _AROUND_S, at + 1.0)]
        found = [
            (one.began, f"{one.began - self.started:.2f} to {one.ended - self.started:.2f} s: {one.text}")
            for one in near
        ]
        found += [
            (when, f"{when - self.started:.2f} s: {text}")
            for when, text in self.edits
            if at - _AROUND_S < when < at + 1.0
        ]
        return tuple(text for _, text in sorted(found))

    def table(self) -> str:
        rows = [(name, str(count)) for name, count in sorted(self.counts.items())]
        rows += [(f"fault: {name}", str(count)) for name, count in sorted(self.faults.items())]
        rows += sorted(self.figures.items())
        rows += [(kind.upper(), str(self.of(kind))) for kind in KINDS]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:<{width}}  {value:>10}" for name, value in rows)

    def as_json(self) -> str:
        return json.dumps(
            {
                "seed": self.seed,
                "counts": dict(self.counts),
                "faults": dict(self.faults),
                "figures": self.figures,
                **{kind.replace(" ", "_"): self.of(kind) for kind in KINDS},
                "violations": [
                    {
                        "at_s": one.at_s,
                        "kind": one.kind,
                        "pod": one.pod,
                        "what": one.what,
                        "around": one.around,
                    }
                    for one in self.violations
                ],
            },
            sort_keys=True,
        )
