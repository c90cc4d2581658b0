"""A capture, or a bundle, as a scenario."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from acns.errors import Bug, InputError
from acns.located import Document
from lab.repro.importing import roles as inferring
from lab.repro.importing import steps as stepping
from lab.repro.importing.given import Given
from lab.repro.importing.roles import Roles
from lab.repro.reading import capture
from lab.repro.reading.evidence import DNS_PORT, End, Evidence, Flow, Limits
from lab.repro.scenario import rules
from lab.repro.scenario.model import Scenario, Step, endpoint
from lab.repro.scenario.topology import is_inside

MAX_STEPS: Final = 10_000
"""A scenario is to be read by people; what is longer is cut, and said to be."""
LONGEST_S: Final = 86_400.0
"""Of steps' times."""
_SHOWN_TROUBLES: Final = 5


def imported(path: Path, given: Given, name: str = "") -> Scenario:
    """Raises InputError: no capture, nothing in it that a scenario can be made of."""
    return from_evidence(capture.read(path, Limits()), given, name or name_of(path))


def from_evidence(evidence: Evidence, given: Given, name: str) -> Scenario:
    """Raises InputError where nothing in it can be a step."""
    is_long = evidence.last_ns - evidence.first_ns > LONGEST_S * 1e9
    begin_s, end_s = given.span_s
    evidence = _between(evidence, begin_s, min(end_s, LONGEST_S))
    talk = inferring.dialogue(evidence, (DNS_PORT,))
    roles = inferring.infer(evidence, talk, given)
    found = stepping.steps(evidence, talk, roles, given.also, MAX_STEPS)
    cut = [f"only the first {MAX_STEPS} steps are here; --begin and --end say which"] if found.is_cut else []
    if is_long:
        cut.append("only the first day of the capture is here; `editcap -A` cuts out another")
    if not found.steps:
        raise InputError(
            "nothing in the capture can be a step", hint="--pod IP=NAME and --dns IP say who is who"
        )
    scenario = Scenario(
        scenario=name,
        assumptions=(
            *given.assumptions,
            *roles.assumptions,
            *found.assumptions,
            *cut,
            *_troubles(evidence),
        ),
        shim=dict(given.shim),
        resolver=dict(given.resolver),
        nodes=given.nodes,
        pods=tuple(roles.pods.values()),
        servers=tuple(roles.servers.values()),
        policies=given.policies,
        steps=_placed(found.steps, roles),
    )
    made = _told_inside(scenario)
    if problems := list(rules.check(made, Document(name, made.model_dump(mode="json"), {}))):
        if given.shim or given.resolver:
            raise InputError(problems)  # settings that were given, and are none
        raise Bug("what was imported is no scenario:\n" + "\n".join(map(str, problems[:5])))
    return made


def _between(evidence: Evidence, begin_s: float, end_s: float) -> Evidence:
    """What began in this time, counted from the first packet."""
    first_ns, end_ns = evidence.first_ns, evidence.first_ns + round(end_s * 1e9)

    def is_in(at_ns: int) -> bool:
        return begin_s <= (at_ns - first_ns) / 1e9 <= end_s

    return replace(
        evidence,
        messages=tuple(one for one in evidence.messages if is_in(one.at_ns)),
        flows=tuple(_until(one, end_ns) for one in evidence.flows if is_in(one.first_ns)),
        odd=tuple(one for one in evidence.odd if is_in(one.at_ns)),
    )


def _until(flow: Flow, end_ns: int) -> Flow:
    """What was known of it then."""
    if flow.last_ns <= end_ns:
        return flow
    is_over = flow.ended_ns is not None and flow.ended_ns <= end_ns
    ended = {} if is_over else {"ended_ns": None, "end": End.OPEN}
    return replace(flow, last_ns=end_ns, **ended)  # type: ignore[arg-type]


def name_of(path: Path) -> str:
    """What a scenario of this file is called."""
    stem = path.name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40].rstrip("-") or "scenario"


def name_given(text: str) -> str:
    """A name that somebody chose. Raises InputError."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise InputError(
            f"'{text}' is no name of a scenario", hint="a-z, 0-9 and -, at most 63: --name slow-dns"
        )
    return text


def _placed(steps: Iterable[Step], roles: Roles) -> tuple[Step, ...]:
    """Answers with addresses that have moved tell the new ones."""
    moved = {str(old): str(new) for old, new in roles.moved.items()}
    return tuple(_told(step, moved) if moved and step.answers else step for step in steps)


def _told(step: Step, moved: dict[str, str]) -> Step:
    answers = tuple(
        said.model_copy(
            update={
                section: tuple(_moved(line, moved) for line in getattr(said, section))
                for section in ("records", "authority", "additional")
            }
        )
        for said in step.answers
    )
    words = [moved.get(word, word) for word in step.outcome.split(" ")]
    return step.model_copy(update={"answers": answers, "outcome": " ".join(words)})


def _moved(line: str, moved: dict[str, str]) -> str:
    head, _, data = line.rpartition(" ")
    return f"{head} {moved[data]}" if data in moved and head.endswith(" A") else line


def _told_inside(scenario: Scenario) -> Scenario:
    """Connections to addresses of a cluster at which the scenario has nobody are left out, and said to be."""
    pods = {pod.address for pod in scenario.pods}
    gone = {
        number
        for number, step in enumerate(scenario.steps, 1)
        if step.connect is not None
        and is_inside(endpoint(step.connect)[0])
        and endpoint(step.connect)[0] not in pods
    }
    gone |= {number for number, step in enumerate(scenario.steps, 1) if step.send in gone}
    if not gone:
        return scenario
    text = f"{len(gone)} steps to addresses in the cluster at which no pod is known are left out"
    return without(scenario, gone).model_copy(update={"assumptions": (*scenario.assumptions, text)})


def without(scenario: Scenario, numbers: Collection[int]) -> Scenario:
    """Without these steps; the others' references follow, and end where what they meant is gone."""
    gone = frozenset(numbers)
    kept = [number for number in range(1, len(scenario.steps) + 1) if number not in gone]
    now = {old: new for new, old in enumerate(kept, 1)}
    steps = []
    for old in kept:
        step = scenario.steps[old - 1]
        update = {}
        if step.after is not None:
            update["after"] = now.get(step.after)
        if step.send is not None:
            update["send"] = now[step.send]
        steps.append(step.model_copy(update=update) if update else step)
    return scenario.model_copy(update={"steps": tuple(steps)})


def _troubles(evidence: Evidence) -> Iterator[str]:
    for trouble in evidence.troubles[:_SHOWN_TROUBLES]:
        yield f"in the capture: {str(trouble)[:200]}"
    if (more := len(evidence.troubles) + evidence.counts.untold - _SHOWN_TROUBLES) > 0:
        yield f"in the capture: {more} more such"
