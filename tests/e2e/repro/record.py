"""Make the regressions of known faults again: `python -m tests.e2e.repro.record NAME…|--all`.

Each story is played in a lab with the faulty agent while tcpdump listens; the capture is imported, what must
come of it is what comes of it with the right agents, and both go to `tests/regressions/NAME/`. With
`--measure N` nothing is written: each regression is run N times on the faulty version, and on the right one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path

from lab.backends.order import Agents
from lab.errors import ProcessFailed
from lab.repro import saved
from lab.repro.importing import given, importer
from lab.repro.running import order
from lab.repro.running.in_lab import Stage
from lab.repro.running.order import Found
from lab.repro.scenario import load
from lab.repro.scenario.model import Pod, Scenario
from lab.repro.scenario.topology import topology
from lab.spec.plan import Addressing

from . import recording
from .faults import FAULTS, STORIES

MAX_LINES = 60
MAX_FAILURES = 20


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.e2e.repro.record", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *FAULTS], help="which")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="run N times on both versions")
    typed = parser.parse_args(argv)
    names = list(FAULTS) if typed.all else typed.names
    if typed.measure:
        return max([measure(name, typed.measure) for name in names], default=0)
    for name in names:
        make(name)
    return 0


def make(name: str) -> None:
    """Record, import, save."""
    scenario = recorded(name)
    with Stage.up(scenario) as stage:
        found = stage.run()
    lines = load.dumps(scenario).count("\n")
    assert lines < MAX_LINES, f"{name}: {lines} lines"
    assert order.first_difference(found) is not None, f"{name}: the fault does not show"
    saved.write(saved.REGRESSIONS / name, scenario, found, "lab", "recorded")
    print(f"{name}: {lines} lines; {_shown(found)}", flush=True)


def recorded(name: str) -> Scenario:
    """The scenario of a capture of the faulty version."""
    story = load.load(STORIES / f"{name}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / f"{name}.pcap"
        recording.record(story, FAULTS[name], capture)
        about = given.Given(
            pods=_known(story),
            policies=story.policies,
            objects=given.objects_of(story.policies),
            also=tuple(
                step.model_copy(update={"after": None})
                for step in story.steps
                if step.kind in ("apply", "remove", "fault")
            ),
            shim=story.shim,
            resolver=story.resolver,
        )
        made = importer.imported(capture, about, name)
    return made.model_copy(update={"about": story.about})


def _known(story: Scenario) -> dict[IPv4Address, Pod]:
    """Of several pods somebody has to say which is which, as `--pod` does; a single one is inferred."""
    plans = {plan.name: plan.address for plan in Addressing.of(topology(story)).pods}
    return {plans[pod.name]: pod for pod in story.pods} if len(story.pods) > 1 else {}


def measure(name: str, runs: int) -> int:
    """How often a regression shows the fault, on both versions; 0 where that is always and never."""
    scenario, _ = saved.read(saved.REGRESSIONS / name)
    began_s = time.monotonic()
    faulty = _reproduced(scenario, FAULTS[name], runs)
    right = _reproduced(scenario, Agents(), runs)
    as_expected = right == 0
    took_s = time.monotonic() - began_s
    print(f"{name}: faulty {faulty}/{runs}, right {right}/{runs} ({took_s:.0f} s)", flush=True)
    return 0 if faulty == runs and as_expected else 1


def _reproduced(scenario: Scenario, agents: Agents, runs: int) -> int:
    """In one lab, as long as it comes up again: a machine too busy for that says nothing of a fault."""
    same = done = failures = 0
    while done < runs:
        try:
            with Stage.up(scenario, agents) as stage:
                while done < runs:
                    same += order.first_difference(stage.run()) is None
                    done += 1
        except ProcessFailed:
            failures += 1
            if failures > MAX_FAILURES:
                raise
    return same


def _shown(found: list[Found]) -> str:
    different = order.first_difference(found)
    assert different is not None
    return f"step {different.number}: faulty {different.recorded!r}, right {different.outcome!r}"


if __name__ == "__main__":
    sys.exit(main())
