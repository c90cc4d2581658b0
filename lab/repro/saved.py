"""A scenario kept as a regression test: a folder with it and with what must come of it.

What was recorded is the bug; what is expected is its absence. So a saved scenario is judged by
`expected.yaml`: 0 is good and 1 is bad, as `git bisect run` wants it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import yaml
from pydantic import Field

from acns import located, scalars, textfile
from acns.errors import InputError, Problem
from lab.report import output
from lab.repro.running.order import NOT_PLAYED, Found
from lab.repro.scenario import load
from lab.repro.scenario.model import Scenario
from lab.spec.topology import Section

SCENARIO: Final = "scenario.yaml"
EXPECTED: Final = "expected.yaml"
REGRESSIONS: Final = Path("tests") / "regressions"

Level = Literal["pure", "lab", "wire"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)


class Expected(Section):
    """What must come of each step, and how it is run."""

    version: Literal[1] = 1
    """Of this format."""
    level: Level = "lab"
    """The way of running that shows the bug."""
    timing: Annotated[str, Field(max_length=16)] = "recorded"
    """As `repro.run --timing` takes it."""
    outcomes: tuple[str, ...]
    """One for each step; empty: anything."""


def read(path: Path) -> tuple[Scenario, Expected | None]:
    """Of a saved scenario's folder, or of a scenario file alone. Raises InputError."""
    if not path.is_dir():
        return load.load(path), None
    scenario = load.load(path / SCENARIO)
    return scenario, _expected(path / EXPECTED, scenario)


def write(folder: Path, scenario: Scenario, found: Sequence[Found], level: Level, timing: str) -> None:
    """Raises InputError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error.strerror}") from error
    outcomes = ["" if one.outcome == NOT_PLAYED else one.outcome for one in found]
    value = {"version": 1, "level": level, "timing": timing, "outcomes": outcomes}
    load.save(scenario, folder / SCENARIO)
    with output.new_file(folder / EXPECTED) as file:
        file.write(yaml.dump(value, Dumper=scalars.Dumper, sort_keys=False).encode())
    for name in (SCENARIO, EXPECTED):
        (folder / name).chmod(0o644)


def judged(found: Sequence[Found], expected: Expected | None) -> list[Found]:
    """With what is expected in the place of what was recorded: nothing of what was not played."""
    if expected is None:
        return list(found)
    return [
        replace(one, recorded="" if one.outcome == NOT_PLAYED else wanted)
        for one, wanted in zip(found, expected.outcomes, strict=True)
    ]


def folder_of(name: str, under: Path = REGRESSIONS) -> Path:
    """Where the regression of that name belongs. Raises InputError for what is no name."""
    if not name or not name.replace("-", "").isalnum() or name != name.lower():
        raise InputError(f"'{name}' is no name for a regression", hint="lower-case letters, digits and '-'")
    return under / name


def _expected(path: Path, scenario: Scenario) -> Expected:
    documents = located.load(textfile.read(path), str(path))
    if len(documents) != 1:
        raise InputError([Problem(str(path), 1, 1, "expectations are one YAML mapping")])
    found = located.validate(Expected, documents[0])
    if len(found.outcomes) != len(scenario.steps):
        message = f"{len(found.outcomes)} outcomes for {len(scenario.steps)} steps"
        raise InputError([documents[0].problem(("outcomes",), message)])
    return found
