"""What was measured: a value with its unit, how it was spread, what it may be, what it is compared with.

A part of the benchmark makes `Measure`s in a process of its own and hands them over as JSON. Medians are the
values, since one hiccup of the machine is not what is measured; comparisons are made slice by slice between
neighbours in time, and their uncertainty is said with them.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

_RESAMPLES = 2_000
_CONFIDENCE = 0.95


class Verdict(StrEnum):
    """Of a limit on a value."""

    NONE = ""
    OK = "ok"
    OVER = "over"
    UNDER = "under"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Limit:
    """What the value may be: at most this, or (`is_floor`) at least."""

    value: float
    is_floor: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.value if self.is_floor else value <= self.value

    @property
    def missed(self) -> Verdict:
        """What is said of a value for which it does not hold."""
        return Verdict.UNDER if self.is_floor else Verdict.OVER

    def __str__(self) -> str:
        return f"{'≥' if self.is_floor else '≤'} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Baseline:
    """Something simpler that the value is compared with, in the same unit."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the result. `spread`: quantiles of the samples, or the bounds of a ratio; `steps`: what the
    value is made of, in the same unit."""

    part: str
    name: str
    value: float
    unit: str
    limit: Limit | None = None
    baseline: Baseline | None = None
    spread: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the limit says; NONE without one, UNCLEAR where it lies within the bounds of the value."""
        if self.limit is None:
            return Verdict.NONE
        if self.spread.get("low", math.inf) < self.limit.value < self.spread.get("high", -math.inf):
            return Verdict.UNCLEAR
        return Verdict.OK if self.limit.holds(self.value) else self.limit.missed

    @property
    def ratio(self) -> float | None:
        """The value in terms of its baseline."""
        return self.value / self.baseline.value if self.baseline and self.baseline.value else None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict, "ratio": self.ratio}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measure:
        """The inverse of `as_json`."""
        own = {name: values[name] for name in ("part", "name", "value", "unit", "spread", "steps", "note")}
        limit, baseline = values["limit"], values["baseline"]
        return cls(**own, limit=limit and Limit(**limit), baseline=baseline and Baseline(**baseline))


def of_samples(part: str, name: str, samples: Sequence[float], unit: str, **more: Any) -> Measure:
    """The median of the samples, with their quantiles; `more` are other fields."""
    return Measure(part, name, statistics.median(samples), unit, spread=quantiles(samples), **more)


def of_pairs(
    part: str, name: str, values: Sequence[float], references: Sequence[float], **more: Any
) -> Measure:
    """How many per cent of the reference the value is: the median over slices that ran side by side, and
    between which bounds it lies with 95 % confidence (bootstrap over the slices)."""
    ratios = [100 * value / reference for value, reference in zip(values, references, strict=True)]
    low, high = bootstrap(ratios)
    spread = {"count": float(len(ratios)), "low": low, "high": high}
    return Measure(part, name, statistics.median(ratios), "%", spread=spread, **more)


def medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each step over all samples; one that a sample lacks took it no time."""
    names = dict.fromkeys(name for one in samples for name in one)
    return {name: statistics.median(one.get(name, 0.0) for one in samples) for name in names}


def quantiles(samples: Sequence[float]) -> dict[str, float]:
    """How many, least, median, 95th percentile, most."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "count": float(len(ordered)),
        "min": ordered[0],
        "p50": statistics.median(ordered),
        "p95": ordered[round(0.95 * last)],
        "max": ordered[last],
    }


def bootstrap(samples: Sequence[float]) -> tuple[float, float]:
    """Bounds of the median, by drawing again from the samples; the same samples, the same bounds."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(samples, k=len(samples))) for _ in range(_RESAMPLES))
    tail = round((1 - _CONFIDENCE) / 2 * _RESAMPLES)
    return medians[tail], medians[-1 - tail]
