"""What the commands under `invoke repro.…` do, apart from reading the command line."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.backends.order import Agents
from lab.errors import InputError
from lab.repro import saved, table
from lab.repro.running import order, pure
from lab.repro.running.order import Found, Timing
from lab.repro.saved import LEVELS, Expected, Level
from lab.repro.scenario import load
from lab.repro.scenario.model import Scenario
from lab.runtime.explaining import FORMAT_VERSION, explained_errors, remark

COULD_NOT_RUN: Final = 125
"""What `git bisect run` takes for: skip this one."""
MAX_RUNS: Final = 10_000

Run = Callable[[Timing], list[Found]]


@dataclass(frozen=True, slots=True)
class Typed:
    """The options of running as they were typed; empty: as the saved scenario says, else the default."""

    level: str = ""
    timing: str = ""
    runs: int = 1
    shim: str = ""
    resolver: str = ""
    json: bool = False

    @property
    def agents(self) -> Agents:
        return Agents(self.shim or Agents().shim, self.resolver or Agents().resolver)


def run(path: str, typed: Typed) -> int:
    """0: all runs the same as recorded (or expected, of a saved one); 1: one diverged; 125: could not run."""
    with could_not_run():
        if not 1 <= typed.runs <= MAX_RUNS:
            raise InputError(f"{typed.runs} runs", hint=f"--runs 1 to {MAX_RUNS}")
        scenario, expected = saved.read(Path(path))
        timing = order.timing(typed.timing or (expected.timing if expected else "recorded"))
        with running(scenario, level_of(typed.level, expected, scenario), typed.agents) as once:
            found = []
            for number in range(typed.runs):
                found.append(saved.judged(once(timing), expected))
                if order.shows_nothing(found[-1]):
                    raise InputError(
                        "no step that was played says what came of it",
                        hint="`outcome:` says it; --wire plays recorded packets",
                    )
                if typed.runs > 1:
                    remark(f"run {number + 1} of {typed.runs}: {table.verdict(found[-1])}")
        return _told(scenario, found, "expected" if expected else "recorded", typed)
    raise AssertionError("not reached")


def save(
    name: str, path: str, typed: Typed, *, as_recorded: bool, folder: str = "", again: bool = False
) -> int:
    """`tests/regressions/NAME/`: what must come of it is what comes of it now, or what was recorded. `again`:
    in the place of what is there."""
    scenario, _ = saved.read(Path(path))
    timing, level = typed.timing or "recorded", level_of(typed.level, None, scenario)
    place = saved.folder_of(name, Path(folder)) if folder else saved.folder_of(name)
    if place.exists() and not again:
        raise InputError(f"{place} is there already", hint="another name, or --again to write it anew")
    if as_recorded:
        found = [Found(n, step.outcome, step.outcome) for n, step in enumerate(scenario.steps, 1)]
    else:
        with running(scenario, level, typed.agents) as once:
            found = once(order.timing(timing))
        if not typed.json:
            table.print_table(scenario, found)
    saved.write(place, scenario, found, level, timing)
    different = order.first_difference(found)
    if typed.json:
        differs_at = different.number if different else None
        print(json.dumps({"version": FORMAT_VERSION, "folder": str(place), "differs_at": differs_at}))
    about = f"differs from what was recorded at step {different.number}" if different else "is as recorded"
    remark(f"{place}: what is expected {about}; to be corrected, if need be, in its {saved.EXPECTED}")
    return 0


@dataclass(frozen=True, slots=True)
class Said:
    """The options of `repro.import` as they were typed."""

    policies: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    flows: str = ""
    also: str = ""
    output: str = ""
    name: str = ""
    anonymise: bool = False
    begin_s: float = 0.0
    end_s: float = math.inf
    json: bool = False


def import_(path: str, said: Said) -> int:
    """The scenario of a capture or a bundle, to a file or to stdout; what was assumed is said on stderr."""
    from lab.repro.importing import anonymise, bundles, given, importer
    from lab.repro.reading import zipped

    name = importer.name_given(said.name) if said.name else importer.name_of(Path(said.output or path))
    policies, objects = given.policies(said.policies)
    about = given.Given(
        pods=given.pods(said.pods),
        dns=given.addresses(said.dns),
        policies=policies,
        objects=objects,
        also=given.also(Path(said.also)) if said.also else (),
        span_s=given.span(said.begin_s, said.end_s),
    )
    if said.flows:
        about = given.with_pods(about, given.hubble_pods(Path(said.flows)))
    if zipped.is_zip(Path(path)):
        scenario = bundles.imported(Path(path), about, name)
    else:
        scenario = importer.imported(Path(path), about, name)
    if said.anonymise:
        scenario = anonymise.anonymised(scenario)
    for assumption in scenario.assumptions:
        remark(f"assumed: {assumption}")
    _written(scenario, said.output, said.json)
    if said.output:
        remark(f"{said.output}: {len(scenario.steps)} steps; invoke repro.run {said.output}")
    return 0


def shrink(path: str, typed: Typed, *, step: int = 0, output: str = "") -> int:
    """The smallest scenario that still shows the same, to a file or to stdout."""
    from lab.repro.running.in_lab import Stages
    from lab.repro.shrinking import shrink as shrinking

    scenario, expected = saved.read(Path(path))
    timing = order.timing(typed.timing or (expected.timing if expected else "recorded"))
    number = step or shrinking.symptom(scenario, timing)
    if not 1 <= number <= len(scenario.steps):
        raise InputError(f"there is no step {number}", hint=f"--step 1 to {len(scenario.steps)}")
    is_pure = shrinking.is_pure(scenario, number, timing)
    level: Level = "pure" if is_pure and not typed.level else level_of(typed.level, None, scenario)
    remark(f"step {number} is what matters, run {'under a virtual clock' if level == 'pure' else 'in labs'}")
    with contextlib.closing(Stages(typed.agents, by_wire=level == "wire")) as stages:

        def once(made: Scenario) -> list[Found]:
            return stages.run(made, timing)

        made = shrinking.Shrinking(scenario, number, None if level == "pure" else once, timing, remark)
        found = made.shrunk()
    was, now = len(scenario.steps), len(found.steps)
    remark(f"{was} steps became {now}, in {made.runs} runs; what matters is step {made.symptom}")
    _written(found, output, typed.json, step=made.symptom, runs=made.runs)
    return 0


def _written(scenario: Scenario, file: str, as_json: bool, **more: int) -> None:
    """To a file or to stdout; as JSON with `more` beside it, and always to stdout."""
    if file:
        load.save(scenario, Path(file))
    if as_json:
        value = {"file": file or None, **more, "scenario": load.as_value(scenario)}
        print(json.dumps({"version": FORMAT_VERSION, **value}, indent=2))
    elif not file:
        print(load.dumps(scenario), end="")


@contextlib.contextmanager
def running(scenario: Scenario, level: Level, agents: Agents) -> Iterator[Run]:
    """A way to run the scenario again and again."""
    if level == "pure":
        if agents != Agents():
            raise InputError("other agents run in a lab only", hint="leave --pure out")
        yield lambda timing: pure.run(scenario, timing)
        return
    from lab.repro.running.in_lab import Stage

    with Stage.up(scenario, agents) as stage:
        yield functools.partial(stage.run, by_wire=level == "wire")


def level_of(typed: str, expected: Expected | None, scenario: Scenario) -> Level:
    """Where nothing is said a lab; by wire, where nothing else plays all of it."""
    if not typed:
        return expected.level if expected else "wire" if scenario.needs_wire else "lab"
    found = next((one for one in LEVELS if one == typed), None)
    if found is None:
        raise InputError(f"'{typed}' is no one way to run", hint="one of --pure, --lab, --wire")
    return found


@contextlib.contextmanager
def could_not_run() -> Iterator[None]:
    """Whatever goes wrong in the block ends the program with 125, its reason said."""
    try:
        with explained_errors():
            yield
    except SystemExit as error:
        interrupted = isinstance(error.code, int) and error.code >= 128
        raise SystemExit(error.code if interrupted else COULD_NOT_RUN) from None


def _told(scenario: Scenario, runs: Sequence[Sequence[Found]], wanted: str, typed: Typed) -> int:
    same = sum(order.first_difference(found) is None for found in runs)
    if typed.json:
        print(table.as_json(scenario, runs))
    else:
        shown = next((found for found in runs if order.first_difference(found)), runs[-1])
        table.print_table(scenario, shown, wanted)
        remark(table.verdict(shown, wanted))
        if len(runs) > 1:
            print(f"{same} of {len(runs)} runs the same as {wanted}: {1 - same / len(runs):.0%} diverged")
    return 0 if same == len(runs) else 1
