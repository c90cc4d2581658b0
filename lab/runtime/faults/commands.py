"""`invoke lab.fault`: one fault by hand, or a storm of them."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Iterator, Sequence
from typing import Final

from lab.errors import AcnsError, InputError
from lab.runtime.commands import remark
from lab.runtime.faults import inflict
from lab.runtime.faults.model import Fault, Mending, Options, parse
from lab.runtime.faults.storm import Step, Targets, storm
from lab.runtime.lab import Lab
from lab.spec.topology import DNSProgram

_DEFAULT_STORM_S: Final = 60.0


def fault(
    words: Sequence[str], name: str | None, options: Options, for_s: float | None, storm_seed: int | None
) -> int:
    """Make it happen; with `for_s` wait so long, and mend it. Without words: a storm."""
    if storm_seed is not None:
        if words:
            raise InputError("a storm draws its faults itself", hint="leave out --storm, or the words")
        return _storm(Lab.attach(name), storm_seed, for_s or _DEFAULT_STORM_S)
    wanted, lab = parse(words, options), Lab.attach(name)
    if isinstance(wanted, Mending):
        inflict.mend(lab, wanted)
        return 0
    found = inflict.resolved(lab, wanted)
    if for_s is None:
        inflict.inflict(lab, found)
        if found.lasts:
            remark(f"{found}: until `invoke lab.fault clear`")
        return 0
    with lasting(lab, found):
        remark(f"{found}: for {for_s:g} s")
        time.sleep(for_s)
    return 0


@contextlib.contextmanager
def lasting(lab: Lab, found: Fault) -> Iterator[None]:
    """The fault, as long as the block runs."""
    inflict.inflict(lab, found)
    try:
        yield
    finally:
        inflict.mend(lab, found)


def targets(lab: Lab) -> Targets:
    """Everything in the lab that a storm may hit."""
    pods = zip(lab.topology.pods, lab.addressing.pods, strict=True)
    servers = [plan.key for pod, plan in pods if isinstance(pod.program, DNSProgram)]
    nodes = [node.name for node in lab.nodes]
    clients = [plan.key for plan in lab.addressing.pods if plan.key not in servers]
    return Targets(nodes, [*servers, inflict.INTERNET], [*nodes, *clients])


def run(lab: Lab, steps: Sequence[Step]) -> None:
    """Go through a storm; everything is mended in the end, however it ends."""
    started = time.monotonic()
    mendings: list[tuple[float, int, Fault]] = []
    try:
        for number, step in enumerate(steps):
            _mend_until(lab, started, step.at_s, mendings)
            _wait_until(started + step.at_s)
            print(step, flush=True)
            with contextlib.suppress(AcnsError):  # an agent that was just killed cannot be upgraded
                inflict.inflict(lab, step.fault)
            if step.fault.lasts:
                heapq.heappush(mendings, (step.until_s, number, step.fault))
        _mend_until(lab, started, float("inf"), mendings)
    finally:
        inflict.mend(lab, Mending("everything"))


def _storm(lab: Lab, seed: int, duration_s: float) -> int:
    run(lab, storm(seed, duration_s, targets(lab)))
    lab.wait_settled()
    return 0


def _mend_until(lab: Lab, started: float, at_s: float, mendings: list[tuple[float, int, Fault]]) -> None:
    """Mend what is due until then."""
    while mendings and mendings[0][0] <= at_s:
        until_s, _, found = heapq.heappop(mendings)
        _wait_until(started + until_s)
        inflict.mend(lab, found)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
