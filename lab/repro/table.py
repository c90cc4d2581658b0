"""A run as a table for people, and as JSON: step, recorded, found, why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from rich.table import Table
from rich.text import Text

from lab.report.tables import FORMAT_VERSION, console_for
from lab.repro.running.order import NOT_PLAYED, Found, first_difference
from lab.repro.scenario.model import Scenario, Step


def print_table(
    scenario: Scenario, found: Sequence[Found], wanted: str = "recorded", out: TextIO | None = None
) -> None:
    """`wanted`: what the outcomes that count are called."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "#", "step", wanted, "found", "why"):
        table.add_column(title, overflow="fold")
    for step, row in zip(scenario.steps, found, strict=True):
        mark, style = ("✓", "green") if row.agrees else ("✗", "bold red")
        table.add_row(
            Text(mark, style), str(row.number), Text(words(step)), Text(row.recorded),
            Text(row.outcome, "" if row.agrees else style), Text(row.why, "dim"),
        )  # fmt: skip
    console_for(out).print(table)


def verdict(found: Sequence[Found], wanted: str = "recorded") -> str:
    """In one line."""
    different = first_difference(found)
    if different is None:
        left_out = sum(one.outcome == NOT_PLAYED for one in found)
        others = f"; {left_out} not played, --wire plays them" if left_out else ""
        return f"the same as {wanted}, in all {len(found) - left_out} steps{others}"
    what = f"{wanted} was '{different.recorded}', found '{different.outcome}'"
    return f"diverged at step {different.number}: {what}"


def as_json(scenario: Scenario, runs: Sequence[Sequence[Found]]) -> str:
    """One object with `version`; rows of the last run, a verdict of each."""
    different = [first_difference(found) for found in runs]
    return json.dumps(
        {
            "version": FORMAT_VERSION,
            "scenario": scenario.scenario,
            "runs": len(runs),
            "same": sum(one is None for one in different),
            "diverged_at": [one.number if one else None for one in different],
            "steps": [
                {"step": words(step), **asdict(row), "agrees": row.agrees}
                for step, row in zip(scenario.steps, runs[-1], strict=True)
            ],
        },
        indent=2,
    )


def words(step: Step) -> str:
    """A step in a few words."""
    who = f"{step.pod}: " if step.pod else ""
    over = f" over {step.transport}" if step.over is not None else ""
    match step.kind:
        case "ask":
            return f"{who}asks {step.ask or 'octets that are no plain query'}{over}"
        case "connect":
            return f"{who}connects to {step.connect}{over}"
        case "send":
            return f"sends over the connection of step {step.send}"
        case "apply":
            return f"policy {step.apply} comes"
        case "remove":
            return f"policy {step.remove} goes"
        case "wire":
            octets = sum(map(len, step.wire)) // 2
            return f"{who}sends {len(step.wire)} recorded packet{'s' * (len(step.wire) > 1)}, {octets} octets"
    return step.fault or ""
