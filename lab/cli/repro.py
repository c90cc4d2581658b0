"""The commands under `invoke repro.…`: a capture becomes a scenario, a scenario is run, shrunk and kept."""

from __future__ import annotations

import sys
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

_HOW = {
    "pure": "under a virtual clock: no root, no lab, always the same",
    "lab": "in a real lab (default, unless a saved scenario says else)",
    "wire": "in a real lab, recorded packets octet by octet (default where no other step says them)",
    "timing": "recorded (default), causal, or a factor of the recorded times such as 0.5",
    "shim": "a Python module in the shim's place",
    "resolver": "a Python module in the resolver's place",
}


@task(
    help={
        "scenario": "a scenario file, or the folder of a saved one, which is judged by what it expects",
        "runs": "run it so often, and say how many were the same",
        "json": "print JSON",
        **_HOW,
    }
)
def run(
    context: Context,
    scenario: str,
    pure: bool = False,
    lab: bool = False,
    wire: bool = False,
    timing: str = "",
    runs: int = 1,
    shim: str = "",
    resolver: str = "",
    json: bool = False,
) -> None:
    """Run a scenario; exit code 0 same as recorded, 1 diverged, 125 could not run (for `git bisect run`)."""
    try:
        from lab.repro import commands
    except ImportError as error:  # as between two commits that `git bisect` tries
        print(f"error: could not run: {error}", file=sys.stderr)
        sys.exit(125)
    typed = commands.Typed(_level(pure, lab, wire), timing, runs, shim, resolver, json)
    sys.exit(commands.run(scenario, typed))


@task(
    help={
        "scenario": "a scenario file, or the folder of a saved one",
        "output": "the file to write (default: stdout)",
        "step": "the number of the step that matters (default: where recording and model differ)",
        "json": "print JSON",
        **_HOW,
        "lab": "in real labs",
        "pure": f"{_HOW['pure']} (default where the step shows there)",
    }
)
def shrink(
    context: Context,
    scenario: str,
    output: str = "",
    step: int = 0,
    pure: bool = False,
    lab: bool = False,
    wire: bool = False,
    timing: str = "",
    shim: str = "",
    resolver: str = "",
    json: bool = False,
) -> None:
    """Make a scenario smaller, with rounder numbers, as long as it still shows the same."""
    from lab.repro import commands
    from lab.runtime.explaining import explained_errors

    with explained_errors():
        typed = commands.Typed(_level(pure, lab, wire), timing, 1, shim, resolver, json)
        sys.exit(commands.shrink(scenario, typed, step=step, output=output))


@task(
    help={
        "name": "of the regression: tests/regressions/NAME/",
        "scenario": "a scenario file",
        "recorded": "what must come of it is what was recorded (default: what comes of it now)",
        "folder": "instead of tests/regressions",
        "again": "in the place of one that is there",
        "json": "print JSON",
        **_HOW,
    }
)
def save(
    context: Context,
    name: str,
    scenario: str,
    recorded: bool = False,
    folder: str = "",
    again: bool = False,
    pure: bool = False,
    lab: bool = False,
    wire: bool = False,
    timing: str = "",
    shim: str = "",
    resolver: str = "",
    json: bool = False,
) -> None:
    """Keep a scenario as a regression test, with what must come of it."""
    from lab.repro import commands
    from lab.runtime.explaining import explained_errors

    with explained_errors():
        typed = commands.Typed(_level(pure, lab, wire), timing, 1, shim, resolver, json)
        sys.exit(commands.save(name, scenario, typed, as_recorded=recorded, folder=folder, again=again))


@task(
    name="import",
    iterable=["policy", "pod", "dns"],
    help={
        "capture": "a pcap or pcapng file, or a bundle of lab.bundle",
        "policy": "a file or folder of policies that were in force; may be repeated",
        "pod": "IP=NAME, IP=NAMESPACE/NAME, or with labels IP=NAME:app=web,tier=front; may be repeated",
        "dns": "the address of a DNS server; may be repeated (default: whoever is asked)",
        "flows": "what `hubble observe -o jsonpb` wrote: names and labels of pods",
        "also": "a YAML file with steps that no packet shows: policies that come or go, faults of agents",
        "output": "the scenario file to write (default: stdout)",
        "name": "of the scenario (default: the file's)",
        "begin": "leave out what began earlier, in seconds from the first packet",
        "end": "leave out what began later",
        "anonymise": "names and addresses are replaced, their relations kept",
        "json": "print JSON, to stdout whatever --output says",
    },
)
def import_(
    context: Context,
    capture: str,
    output: str = "",
    policy: Any = None,
    pod: Any = None,
    dns: Any = None,
    flows: str = "",
    also: str = "",
    name: str = "",
    begin: float = 0.0,
    end: float = 1e9,
    anonymise: bool = False,
    json: bool = False,
) -> None:
    """Make a scenario of a capture: who asked what, what was answered, who connected, what came of it."""
    from lab.repro import commands
    from lab.repro.reading import remembered
    from lab.runtime.explaining import explained_errors

    with explained_errors():
        given = (tuple(policy), tuple(pod), tuple(dns), flows, also, output, name, anonymise)
        typed = commands.Said(*given, begin_s=begin, end_s=end, json=json)
        with remembered.seldom_collecting():
            sys.exit(commands.import_(capture, typed))


@task(
    help={
        "capture": "a pcap or pcapng file, gzipped or not, or a bundle of lab.bundle",
        "output": "write a page (NAME.html) instead of printing",
        "json": "print JSON",
    }
)
def show(context: Context, capture: str, output: str = "", json: bool = False) -> None:
    """Who asked what, what that opened, where it went, and what is wrong with it: a timeline for each pod."""
    from lab.runtime.explaining import explained_errors

    with explained_errors():
        from lab.repro.reading import remembered
        from lab.repro.showing import commands

        with remembered.seldom_collecting():
            sys.exit(commands.show(capture, output=output, as_json=json))


def _level(pure: bool, lab: bool, wire: bool) -> str:
    """Several at once are refused where they are looked at."""
    return " ".join(name for name, typed in (("pure", pure), ("lab", lab), ("wire", wire)) if typed)


repro = Collection("repro", import_, show, run, shrink, save)
