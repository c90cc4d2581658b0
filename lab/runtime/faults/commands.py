"""`invoke lab.fault`: one fault by hand, or a storm of them."""

from __future__ import annotations

import contextlib
import heapq
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from lab.backends.kind import commands as on_kind
from lab.errors import AcnsError, InputError
from lab.runtime.commands import remark
from lab.runtime.faults import inflict
from lab.runtime.faults.model import Fault, Mending, Options, as_object, parse
from lab.runtime.faults.storm import CALM_S, Step, Targets, storm
from lab.runtime.lab import Lab
from lab.spec.topology import DNSProgram

Observer = Callable[[Fault, Literal["begins", "fails", "is over"]], None]
"""Told of each fault of a storm just before it is made, where it cannot be, and just after it was mended."""

_DEFAULT_STORM_S: Final = 60.0
LONGEST_S: Final = 86_400.0
_INSTEAD: Final = "`stop` and `hang` last: --for says how long"
_STORMS_ELSEWHERE: Final = "bring the same topology up without --backend kind"


def fault(
    words: Sequence[str],
    name: str | None,
    options: Options,
    for_s: float | None,
    storm_seed: int | None,
    *,
    as_json: bool = False,
) -> int:
    """Make it happen; with `for_s` wait so long, and mend it. Without words: a storm."""
    if for_s is not None and not 0 < for_s <= LONGEST_S:
        raise InputError(f"--for is in seconds, up to a day, and {for_s:g} is not")
    if storm_seed is not None and for_s is not None and for_s <= CALM_S:
        raise InputError(f"nothing happens in the last {CALM_S:g} s of a storm", hint="--for a longer time")
    if storm_seed is not None:
        if as_json:
            raise InputError("a storm tells of itself line by line", hint="leave out --json")
        if words:
            raise InputError("a storm draws its faults itself", hint="leave out --storm, or the words")
        if on_kind.lab(name):
            raise InputError("--storm: a lab on kind has none", hint=_STORMS_ELSEWHERE)
        return _storm(Lab.attach(name), storm_seed, for_s or _DEFAULT_STORM_S)
    if kind := on_kind.lab(name):
        return kind.fault(words, options, for_s, as_json=as_json)
    wanted, lab = parse(words, options), Lab.attach(name)
    if isinstance(wanted, Mending):
        inflict.mend(lab, wanted)
        done = as_object(lab.name, wanted, lasts=False)
    else:
        done = _one(lab, inflict.resolved(lab, wanted), for_s)
    if as_json:
        print(json.dumps(done))
    return 0


def _one(lab: Lab, found: Fault, for_s: float | None) -> dict[str, object]:
    if for_s is None:
        inflict.inflict(lab, found)
        if found.lasts:
            remark(f"{found}: until `invoke lab.fault clear`")
        return as_object(lab.name, found, lasts=found.lasts)
    if not found.lasts:
        raise InputError(f"{found} is over at once, and takes no --for", hint=_INSTEAD)
    with _until_told_to_end(), lasting(lab, found):
        remark(f"{found}: for {for_s:g} s")
        time.sleep(for_s)
    return as_object(lab.name, found, lasts=False)


@contextlib.contextmanager
def _until_told_to_end() -> Iterator[None]:
    """SIGTERM ends what waits here as Ctrl-C does: what was broken is mended first."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)


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


def run(lab: Lab, steps: Sequence[Step], observer: Observer = lambda *_: None) -> None:
    """Go through a storm; everything is mended in the end, however it ends.

    When the lab or the observer holds it up, what is left comes later by as much: no fault gets shorter.
    """
    started = time.monotonic()
    mendings: list[tuple[float, int, Fault]] = []
    passing = ThreadPoolExecutor(1)  # an upgrade takes as long as the old one drains: the storm goes on
    try:
        for number, step in enumerate(steps):
            _mend_until(lab, started + step.at_s, mendings, observer)
            print(step, flush=True)
            observer(step.fault, "begins")
            begins = time.monotonic()
            started = begins - step.at_s
            if step.fault.lasts:
                _try(lab, step.fault, observer)
                heapq.heappush(mendings, (begins + step.until_s - step.at_s, number, step.fault))
            else:
                passing.submit(_pass, lab, step.fault, observer)
        _mend_until(lab, max((at for at, *_ in mendings), default=0.0), mendings, observer)
    finally:
        passing.shutdown()
        inflict.mend(lab, Mending("everything"))


def _pass(lab: Lab, found: Fault, observer: Observer) -> None:
    """A fault that does not last."""
    _try(lab, found, observer)
    observer(found, "is over")


def _try(lab: Lab, found: Fault, observer: Observer) -> None:
    """An agent that was just killed cannot be upgraded, nor hang: the storm goes on."""
    try:
        inflict.inflict(lab, found)
    except AcnsError as error:
        remark(f"{found}: {error.message}")
        observer(found, "fails")


def _storm(lab: Lab, seed: int, duration_s: float) -> int:
    with _until_told_to_end():
        run(lab, storm(seed, duration_s, targets(lab)))
    lab.wait_settled()
    return 0


def _mend_until(
    lab: Lab, moment: float, mendings: list[tuple[float, int, Fault]], observer: Observer
) -> None:
    """Wait for this moment, and mend what is due until then."""
    while mendings and mendings[0][0] <= moment:
        due, _, found = heapq.heappop(mendings)
        _wait_until(due)
        inflict.mend(lab, found)
        observer(found, "is over")
    _wait_until(moment)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
