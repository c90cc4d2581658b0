"""The result, for people as a table and for programs as JSON.

A value over its limit is marked and fails nothing: what a machine makes of it while others are at work is no
verdict on the code.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from rich.text import Text

from lab.bench.machine import Machine
from lab.bench.measure import Measure, Verdict
from lab.bench.plans import Plan
from lab.report.tables import console_for, table

FORMAT_VERSION = 1
_STYLES = {
    Verdict.OK: "green",
    Verdict.UNCLEAR: "yellow",
    Verdict.OVER: "bold red",
    Verdict.UNDER: "bold red",
}
_WORTH_SHOWING = 0.02
"""The share of a value from which on one of its steps is shown."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    machine: Machine
    plan: Plan
    measures: Sequence[Measure]


def print_result(result: Result, out: TextIO | None = None) -> None:
    """Where, how much, every measure with its limit, and what its steps are."""
    scale = result.plan.scale
    headline = (
        f"{scale.endpoints} endpoints, {scale.policies} policies, {scale.selectors} FQDN selectors, "
        f"{scale.addresses} learned addresses, seed {scale.seed}"
    )
    print_measures(result.machine, headline, result.measures, out)


def print_measures(
    machine: Machine, headline: str, measures: Sequence[Measure], out: TextIO | None = None
) -> None:
    """The machine, the headline, and a table."""
    console = console_for(out)
    console.print(
        Text(
            f"{machine.cpus} × {machine.cpu}, Linux {machine.kernel}, {machine.python}, {machine.nft}, "
            f"{machine.iperf3}, load {machine.load_average:.2f}{', CPUs kept awake' * machine.kept_awake}",
            style="dim",
        ),
        soft_wrap=True,
    )
    console.print(Text(headline, style="bold"), soft_wrap=True)
    rows = table(console, "part", "measure", "value", "limit", "", "spread", "baseline", "note")
    for one in measures:
        rows.add_row(one.part, one.name, *_cells(one), Text(_remark(one), style="dim"))
    console.print(rows)
    count = Counter(one.verdict for one in measures if one.limit)
    told = [f"{count[verdict]} {verdict}" for verdict in _STYLES if count[verdict]]
    held = count.keys() <= {Verdict.OK}
    console.print(Text(f"limits: {', '.join(told) or 'none'}", style=f"bold {'green' if held else 'yellow'}"))


def result_json(result: Result) -> str:
    """One JSON object with `version`, `machine`, `plan` and `measures`."""
    return json.dumps(
        {
            "version": FORMAT_VERSION,
            "machine": asdict(result.machine),
            "plan": result.plan.as_json(),
            "measures": [one.as_json() for one in result.measures],
        },
        indent=2,
    )


def _cells(one: Measure) -> tuple[str | Text, ...]:
    baseline = f"× {_number(one.ratio)} {one.baseline.name}" if one.baseline and one.ratio else ""
    limit = str(one.limit) if one.limit else ""
    mark = Text(one.verdict.value, style=_STYLES.get(one.verdict, ""))
    return f"{_number(one.value)} {one.unit}", limit, mark, _spread(one), baseline


def _spread(one: Measure) -> str:
    if "low" in one.spread:
        return f"{one.spread['low']:.1f} … {one.spread['high']:.1f}"
    if one.spread:
        return f"{_number(one.spread['min'])} … p95 {_number(one.spread['p95'])}"
    return ""


def _remark(one: Measure) -> str:
    """The note, and the steps that are worth showing, the longest first."""
    steps = sorted(one.steps.items(), key=lambda step: -step[1])
    shown = [f"{name} {_number(value)}" for name, value in steps if value > _WORTH_SHOWING * one.value]
    return "; ".join(part for part in (one.note, ", ".join(shown)) if part)


def _number(value: float) -> str:
    """Three digits that count."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{decimals}f}"
