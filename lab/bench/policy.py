"""`invoke bench.policy`: what enforcing a large cluster's policies costs on this machine.

Here the parts are chosen and run, one after the other, each in namespaces of its own; what they hand back
becomes the report. Speed is measured and not tested: the exit code says that the measuring went well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from acns.located import did_you_mean
from lab.bench import isolation, machine, plans, report
from lab.bench.measure import Measure
from lab.bench.plans import Plan
from lab.bench.progress import say
from lab.errors import InputError

_MODULE = "lab.bench.part"
_RUNS_IN = {"memory": "mappings"}
"""Parts that come of another's run."""


def run(*, as_json: bool, quick: bool = False, only: str = "", seed: int = 1) -> int:
    """Measure and print. `only`: names of parts with commas between; all without."""
    plan = plans.QUICK if quick else plans.FULL
    result = measured(replace(plan, scale=replace(plan.scale, seed=seed)), chosen(only))
    if as_json:
        print(report.result_json(result))
    else:
        report.print_result(result)
    return 0


def chosen(only: str) -> tuple[str, ...]:
    """The parts that are asked for, in the order in which they run. Raises InputError."""
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    for name in sorted(wanted - set(plans.PARTS)):
        raise InputError(f"there is no part {name}", hint=did_you_mean(name, plans.PARTS))
    return tuple(name for name in plans.PARTS if not wanted or name in wanted)


def measured(plan: Plan, parts: tuple[str, ...]) -> report.Result:
    """The parts' measures, on this machine."""
    found = machine.facts()
    return report.Result(found, plan, tuple(_measures(plan, parts)))


def _measures(plan: Plan, parts: tuple[str, ...]) -> Iterator[Measure]:
    runs = dict.fromkeys(_RUNS_IN.get(part, part) for part in parts)
    for run_name in runs:
        say(run_name)
        answer = isolation.run(_MODULE, {"part": run_name, "plan": plan.as_json()})
        measures = [Measure.from_json(values) for values in answer["measures"]]
        yield from (one for one in measures if one.part in parts)
