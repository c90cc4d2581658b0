"""`invoke bench.lab`: what building a lab costs here, beside Mininet and beside the kernel's own limit.

The rounds of all contenders take turns. Network rounds run in namespaces that end with them; `lab.up` and
`lab.down` are the commands that a person types, with a state folder of their own. Speed is measured and not
tested: the exit code says that the measuring went well.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import lab
from acns.located import did_you_mean
from lab.bench import isolation, lab_plan, machine, measure, report
from lab.bench.lab_plan import LabPlan
from lab.bench.measure import Baseline, Limit, Measure
from lab.bench.progress import say
from lab.errors import InputError, ProcessFailed
from lab.runtime import state

_MODULE = "lab.bench.lab_part"
_REPOSITORY = Path(next(iter(lab.__path__))).parent
_EMPTY_TASKS = "from invoke.tasks import task\n\n\n@task\ndef nothing(context):\n    pass\n"
"""Invoke fails where there is no task at all."""
_BUILT_MS, _MANY_BUILT_MS, _UP_MS, _DOWN_MS = Limit(500), Limit(3_000), Limit(3_000), Limit(1_000)
_LISTED = Limit(130)
_MININET = Path("/usr/lib/python3/dist-packages/mininet")


def run(*, as_json: bool, quick: bool = False, only: str = "") -> int:
    """Measure and print. `only`: names of parts with commas between; all without."""
    plan, parts = lab_plan.QUICK if quick else lab_plan.FULL, chosen(only)
    found, measures = machine.facts(), [one for part in parts for one in _PARTS[part](plan)]
    if as_json:
        result = {
            "version": report.FORMAT_VERSION,
            "machine": asdict(found),
            "plan": plan.as_json(),
            "measures": [one.as_json() for one in measures],
        }
        print(json.dumps(result, indent=2))
    else:
        headline = (
            f"{plan.pods} and {plan.many_pods} pods, {plan.rounds} rounds; quickstart {plan.lives} times"
        )
        report.print_measures(found, headline, measures)
    return 0


def chosen(only: str) -> tuple[str, ...]:
    """The parts that are asked for, in the order in which they run. Raises InputError."""
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    for name in sorted(wanted - set(lab_plan.PARTS)):
        raise InputError(f"there is no part {name}", hint=did_you_mean(name, lab_plan.PARTS))
    return tuple(name for name in lab_plan.PARTS if not wanted or name in wanted)


def network(plan: LabPlan) -> Iterator[Measure]:
    """Namespaces, links, addresses, routes."""
    kernel, built, mininet, many = [], [], [], []
    for number in range(plan.rounds):
        say(f"network, round {number + 1} of {plan.rounds}")
        kernel.append(_round("kernel", plan.pods))
        built.append(1e3 * _round("network", plan.pods)["took_s"])
        if _MININET.is_dir():
            mininet.append(1e3 * _round("mininet", plan.pods)["took_s"])
        many.append(1e3 * _round("network", plan.many_pods)["took_s"])
    spaces, veths = ([1e3 * one[part] for one in kernel] for part in ("namespaces_s", "veths_s"))
    yield _samples("network", f"{plan.pods} bare namespaces", spaces, note="the kernel's own limit")
    yield _samples("network", f"{plan.pods} bare veth pairs", veths, note="the kernel's own limit")
    if mininet:
        yield _samples("network", f"Mininet, {plan.pods} hosts", mininet, note="one Linux bridge")
    else:
        say("Mininet is not compared with: apt-get install mininet bridge-utils")
    baseline = Baseline("Mininet", statistics.median(mininet)) if mininet else None
    name = f"{plan.pods} pods on one node"
    yield _samples("network", name, built, limit=_BUILT_MS, baseline=baseline)
    yield _samples("network", f"{plan.many_pods} pods", many, limit=_MANY_BUILT_MS)


def life(plan: LabPlan) -> Iterator[Measure]:
    """`lab.up quickstart` from nothing to a checked truth table, and `lab.down`, as their user sees them."""
    ups, downs = [], []
    with tempfile.TemporaryDirectory(dir="/run", prefix="acns-b") as folder:
        environment = {**os.environ, state.STATE_ROOT_VARIABLE: f"{folder}/l"}
        for number in range(plan.lives):
            say(f"life, round {number + 1} of {plan.lives}")
            try:
                ups.append(_timed_ms("lab.up", environment))
            finally:
                downs.append(_timed_ms("lab.down", environment))
    yield _samples("life", "lab.up, quickstart", ups, limit=_UP_MS, note="to a checked truth table")
    yield _samples("life", "lab.down", downs, limit=_DOWN_MS)


def listing(plan: LabPlan) -> Iterator[Measure]:
    """`invoke --list`, and the same with an empty tasks.py."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tasks.py").write_text(_EMPTY_TASKS)
        turns = [
            (_timed_ms("--list", dict(os.environ)), _timed_ms("--list", dict(os.environ), Path(folder)))
            for _ in range(plan.lists)
        ]
    full, empty = zip(*turns, strict=True)
    yield _samples("list", "invoke --list, empty tasks.py", empty)
    yield _samples("list", "invoke --list", full)
    yield measure.of_pairs("list", "of the empty one", full, empty, limit=_LISTED)


_PARTS: dict[str, Callable[[LabPlan], Iterator[Measure]]] = {
    "network": network,
    "life": life,
    "list": listing,
}


def _round(what: str, number: int) -> dict[str, float]:
    return isolation.run(_MODULE, {"what": what, "number": number})


def _timed_ms(task: str, environment: dict[str, str], folder: Path = _REPOSITORY) -> float:
    argv = [sys.executable, "-m", "invoke", task]
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    took_ms = 1e3 * (time.perf_counter() - started)
    if done.returncode:
        raise ProcessFailed(f"invoke {task} ended with code {done.returncode}:\n{done.stderr}")
    return took_ms


def _samples(part: str, name: str, samples: Sequence[float], **more: object) -> Measure:
    return measure.of_samples(part, name, samples, "ms", **more)
