"""Smaller scenarios of a scenario: without a part, or with a rounder number; pure, in an order that is always
the same. What is tried first takes away most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Any, Final

import yaml

from acns import located, scalars
from lab.repro.importing.importer import without
from lab.repro.scenario import packets
from lab.repro.scenario.model import Answer, Policy, Scenario, Step, endpoint

_ROUND_TTLS: Final = (600, 60, 10, 1)
_ROUND_MS: Final = (100_000, 10_000, 1_000, 100, 10, 1)

Candidates = Iterator[Scenario]


def of(scenario: Scenario) -> Candidates:
    """Each is smaller than the scenario by one thing; all its steps stay."""
    for make in (_unused, _nodes, _policies, _rules, _settings, _labels, _answers, _plainer, _rounder):
        yield from make(scenario)


def without_steps(scenario: Scenario, numbers: Sequence[int]) -> tuple[Scenario, set[int]]:
    """Without these, and without what is sent over connections that are gone; and which those are."""
    gone = set(numbers)
    gone |= {number for number, step in enumerate(scenario.steps, 1) if step.send in gone}
    return without(scenario, sorted(gone)), gone


def _unused(scenario: Scenario) -> Candidates:
    steps = scenario.steps
    pods = {scenario.pod_of(step).name for step in steps if step.kind in ("ask", "connect", "wire")}
    reached = {endpoint(step.connect)[0] for step in steps if step.connect is not None}
    reached |= {IPv4Address(packets.destination(packets.parse(text))) for step in steps for text in step.wire}
    kept = tuple(pod for pod in scenario.pods if pod.name in pods or pod.address in reached)
    if kept and len(kept) < len(scenario.pods):
        yield scenario.model_copy(update={"pods": kept})
    servers = {scenario.server_of(step).name for step in steps if step.kind == "ask"}
    if len(servers) < len(scenario.servers):
        used = tuple(one for one in scenario.servers if one.name in servers)
        yield scenario.model_copy(update={"servers": used})


def _nodes(scenario: Scenario) -> Candidates:
    """On one node; else without those that nobody is on, as long as that leaves all pod networks."""
    if len(scenario.nodes) == 1:
        return
    first = scenario.nodes[:1]
    pods = tuple(
        pod.model_copy(
            update={"node": None, "address": pod.address if scenario.node_of(pod) in first else None}
        )
        for pod in scenario.pods
    )
    yield scenario.model_copy(update={"nodes": first, "pods": pods})
    if scenario.nodes[-1] not in map(scenario.node_of, scenario.pods):
        yield scenario.model_copy(update={"nodes": scenario.nodes[:-1]})


def _policies(scenario: Scenario) -> Candidates:
    for index in range(len(scenario.policies)):
        yield scenario.model_copy(update={"policies": _less(scenario.policies, index)})


def _rules(scenario: Scenario) -> Candidates:
    """Without an entry of any list in a policy, or a whole document."""
    for index, policy in enumerate(scenario.policies):
        documents = [one for one in yaml.load_all(policy.text, Loader=located.Loader) if one is not None]
        for smaller in _less_entries(documents):
            if smaller:
                text = yaml.dump_all(smaller, Dumper=scalars.Dumper, sort_keys=False, width=100)
                made = Policy(name=policy.name, text=text)
                yield scenario.model_copy(update={"policies": _with(scenario.policies, index, made)})


def _settings(scenario: Scenario) -> Candidates:
    for agent in ("shim", "resolver"):
        given: dict[str, Any] = getattr(scenario, agent)
        for name in given:
            yield scenario.model_copy(update={agent: {k: v for k, v in given.items() if k != name}})


def _labels(scenario: Scenario) -> Candidates:
    for index, pod in enumerate(scenario.pods):
        for key in pod.labels:
            made = pod.model_copy(update={"labels": {k: v for k, v in pod.labels.items() if k != key}})
            yield scenario.model_copy(update={"pods": _with(scenario.pods, index, made)})


def _answers(scenario: Scenario) -> Candidates:
    for index, step in enumerate(scenario.steps):
        for number, answer in enumerate(step.answers):
            yield _stepped(scenario, index, answers=_less(step.answers, number))
            for section in ("additional", "authority", "records"):
                lines = getattr(answer, section)
                for place in range(len(lines)):
                    smaller = answer.model_copy(update={section: _less(lines, place)})
                    yield _stepped(scenario, index, answers=_with(step.answers, number, smaller))


def _plainer(scenario: Scenario) -> Candidates:
    for index, step in enumerate(scenario.steps):
        for field in ("edns", "socket", "open_ms"):
            if getattr(step, field) is not None:
                yield _stepped(scenario, index, **{field: None})
        if step.wire and step.kind == "ask":
            yield _stepped(scenario, index, wire=())
        elif len(step.wire) > 1:
            for place in range(len(step.wire)):
                yield _stepped(scenario, index, wire=_less(step.wire, place))


def _rounder(scenario: Scenario) -> Candidates:
    begin_ms = min((step.at_ms for step in scenario.steps), default=0.0)
    if begin_ms:
        yield scenario.model_copy(
            update={
                "steps": tuple(
                    one.model_copy(update={"at_ms": one.at_ms - begin_ms}) for one in scenario.steps
                )
            }
        )
    for index, step in enumerate(scenario.steps):
        for value in _rounded(step.at_ms):
            yield _stepped(scenario, index, at_ms=value)
        if step.open_ms:
            for value in _rounded(step.open_ms):
                yield _stepped(scenario, index, open_ms=value)
        for number, answer in enumerate(step.answers):
            for smaller in _rounder_answers(answer):
                yield _stepped(scenario, index, answers=_with(step.answers, number, smaller))


def _rounder_answers(answer: Answer) -> Iterator[Answer]:
    for value in _rounded(answer.after_ms):
        yield answer.model_copy(update={"after_ms": value})
    for place, line in enumerate(answer.records):
        owner, ttl, rest = line.split(" ", 2)
        for rounder in _ROUND_TTLS:
            if int(ttl) not in _ROUND_TTLS or rounder > int(ttl):
                made = _with(answer.records, place, f"{owner} {rounder} {rest}")
                yield answer.model_copy(update={"records": made})


def _rounded(value: float) -> Iterator[float]:
    """0, then fewer digits, coarsest first."""
    if value:
        yield 0.0
    for unit in _ROUND_MS:
        rounder = float(round(value / unit) * unit)
        if rounder != value and rounder:
            yield rounder


def _less_entries(value: Any) -> Iterator[Any]:
    """Without one entry of one list in it, outer lists first."""
    if isinstance(value, list):
        for index in range(len(value)):
            yield value[:index] + value[index + 1 :]
        for index, one in enumerate(value):
            for smaller in _less_entries(one):
                yield [*value[:index], smaller, *value[index + 1 :]]
    elif isinstance(value, dict):
        for key, one in value.items():
            for smaller in _less_entries(one):
                if smaller != []:
                    yield {**value, key: smaller}


def _stepped(scenario: Scenario, index: int, **changes: Any) -> Scenario:
    step: Step = scenario.steps[index].model_copy(update=changes)
    return scenario.model_copy(update={"steps": _with(scenario.steps, index, step)})


def _less(entries: Sequence[Any], index: int) -> tuple[Any, ...]:
    return (*entries[:index], *entries[index + 1 :])


def _with(entries: Sequence[Any], index: int, one: Any) -> tuple[Any, ...]:
    return (*entries[:index], one, *entries[index + 1 :])
