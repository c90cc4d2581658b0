"""What the models cannot see of a scenario: names that must exist, words that must mean something."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Set
from ipaddress import IPv4Address
from typing import Any, Final

from acns import settings
from acns.errors import Problem
from acns.located import Document, did_you_mean
from acns.located import Path as Where
from acns.resolver.settings import ResolverSettings
from acns.shim.settings import ShimSettings
from lab.errors import InputError
from lab.repro.reading import oddities
from lab.repro.scenario import messages, packets, records
from lab.repro.scenario.model import (
    CONNECTED,
    FORWARDED,
    HELD,
    KINDS,
    SENT,
    Answer,
    Scenario,
    Step,
    endpoint,
)
from lab.runtime.faults import model as faults
from lab.spec.findings import twice, unknown, written
from lab.spec.plan import PODS, SERVICES, NodePlan

_OF_WIRE: Final = (messages.SILENT, *oddities.WORDS, FORWARDED, HELD)
_ICMP: Final = re.compile(r"icmp-[0-9]{1,3}/[0-9]{1,3}")
_OF_ASKING: Final = ("server", "edns", "socket", "answers")
_AGENTS: Final = {"shim": ShimSettings, "resolver": ResolverSettings}
_PLACES: Final = ("_file", "_socket", "_dir", "_ledger", "_listen")
_OWN: Final = ("node", "manifests", "state_dir", "fqdndata", "proxy_port", "listen_port")


def check(scenario: Scenario, document: Document, *, partly: bool = False) -> Iterator[Problem]:
    """Every problem. `partly`: entries are missing, so no number of a step can be right."""
    yield from _names(scenario, document)
    yield from _addresses(scenario, document)
    for agent in _AGENTS:
        yield from _settings(getattr(scenario, agent), document, agent)
    files = {policy.name for policy in scenario.policies}
    for index, step in enumerate(scenario.steps):
        where: Where = ("steps", index)
        problems = list(_kind(step, document, where))
        yield from problems or _step(scenario, step, document, where, files)
        if not partly:
            yield from _references(scenario, index, document, where)
        files |= {step.apply} if step.apply else set()


def _names(scenario: Scenario, document: Document) -> Iterator[Problem]:
    yield from twice(document, "node", ((("nodes", at), name) for at, name in enumerate(scenario.nodes)))
    for section in ("pods", "servers", "policies"):
        entries = getattr(scenario, section)
        places = (((section, index, "name"), entry.name) for index, entry in enumerate(entries))
        yield from twice(document, section.removesuffix("s").replace("ie", "y"), places)
    inside = {(server.namespace, server.name) for server in scenario.servers if server.labels}
    for index, pod in enumerate(scenario.pods):
        if (pod.namespace, pod.name) in inside:
            yield document.problem(("pods", index), f"a DNS server is called {pod.namespace}/{pod.name} too")


def _addresses(scenario: Scenario, document: Document) -> Iterator[Problem]:
    """They must be such as a lab can have."""
    places = [
        (("pods", index, "address"), str(pod.address))
        for index, pod in enumerate(scenario.pods)
        if pod.address
    ] + [
        (("servers", index, "address"), str(server.address)) for index, server in enumerate(scenario.servers)
    ]
    yield from twice(document, "address", places)
    for index, pod in enumerate(scenario.pods):
        node = scenario.node_of(pod)
        if node not in scenario.nodes:
            yield unknown(document, ("pods", index, "node"), "node", node, scenario.nodes)
        elif pod.address and not is_pods(pod.address, number := scenario.nodes.index(node)):
            hint = f"one of {NodePlan(node, number).pod_cidr} from .2 on"
            yield document.problem(("pods", index, "address"), f"{pod.address} is no pod's", hint=hint)
    for index, server in enumerate(scenario.servers):
        at: Where = ("servers", index, "address")
        if bool(server.labels) != (server.address in SERVICES):
            what = f"in the cluster, so its address is one of {SERVICES}" if server.labels else "outside"
            yield document.problem(at, f"{server.address} will not do: by its labels the server is {what}")
        elif not server.labels and not _is_outside(server.address):
            yield document.problem(at, f"{server.address} cannot be an address outside the cluster")


def is_pods(address: IPv4Address, node: int = 0) -> bool:
    """Whether a pod of the node with that number can have it."""
    network = NodePlan("", node).pod_cidr
    return address in network and address not in (network[0], network[1], network[255])


def is_somewhere(address: IPv4Address) -> bool:
    """Whether somebody can be there whom others reach."""
    return not (address.is_loopback or address.is_multicast or address.is_unspecified or address.is_reserved)


def _is_outside(address: IPv4Address) -> bool:
    return is_somewhere(address) and address not in PODS and address not in SERVICES


def is_labs_own(name: str) -> bool:
    """Whether the lab sets this setting of an agent itself."""
    return name.endswith(_PLACES) or name in _OWN


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING or field.name == "manifests"


def _settings(given: dict[str, Any], document: Document, agent: str) -> Iterator[Problem]:
    kind = _AGENTS[agent]
    own = {one.name: "own" for one in dataclasses.fields(kind) if _is_needed(one)}
    for name in given:
        if is_labs_own(name):
            yield document.problem((agent, name), f"the lab sets '{name}' itself", hint="leave it out")
    for mistake in settings.mistakes(kind, {**given, **own}):
        yield document.problem((agent, mistake.key), mistake.message, hint=mistake.hint)


# --- steps --------------------------------------------------------------------------------------------------


def _kind(step: Step, document: Document, where: Where) -> Iterator[Problem]:
    kinds = KINDS
    given = [kind for kind in kinds if getattr(step, kind) is not None] or ["wire"] * bool(step.wire)
    if len(given) != 1:
        what = " and ".join(f"'{one}'" for one in given) or "nothing"
        yield document.problem(where, f"a step is one of {', '.join((*kinds, 'wire'))}; this has {what}")
    elif step.kind != "ask":
        for name in _OF_ASKING:
            if getattr(step, name):
                yield document.problem((*where, name), f"'{name}' is for queries, not for '{given[0]}'")
    if step.wire and step.kind not in ("ask", "wire"):
        yield document.problem((*where, "wire"), f"'wire' is for queries, or alone, not for '{given[0]}'")
    if step.open_ms is not None and step.connect is None:
        yield document.problem((*where, "open_ms"), "'open_ms' is for connections")
    if (step.text is not None) != (step.apply is not None):
        yield document.problem(where, "'apply' and 'text' go together")


def _step(
    scenario: Scenario, step: Step, document: Document, where: Where, files: Set[str]
) -> Iterator[Problem]:
    yield from _who(scenario, step, document, where)
    for index, text in enumerate(step.wire):
        yield from _tried(document, (*where, "wire", index), packets.parse, text)
    match step.kind:
        case "ask":
            if step.ask is not None:
                yield from _tried(document, (*where, "ask"), messages.parse_ask, step.ask)
            for index, answer in enumerate(step.answers):
                yield from _answer(answer, document, (*where, "answers", index))
        case "connect":
            yield from _far_end(scenario, step, document, (*where, "connect"))
            yield from _one_of(step, document, where, CONNECTED)
        case "send":
            yield from _one_of(step, document, where, SENT)
        case "wire":
            yield from _came_back(step, document, where)
        case "remove" if step.remove and step.remove not in files:
            yield unknown(document, (*where, "remove"), "policy", step.remove, files)
        case "fault":
            yield from _fault(scenario, step, document, where)


def _far_end(scenario: Scenario, step: Step, document: Document, where: Where) -> Iterator[Problem]:
    try:
        address, _ = endpoint(step.connect or "")
    except ValueError:
        yield from _tried(document, where, endpoint, step.connect)
        return
    server = next((one for one in scenario.servers if one.address == address), None)
    if server is not None:
        text = f"{address} is the DNS server {server.name}, where nobody else listens"
        yield document.problem(where, text, hint="ask: NAME TYPE; over: tcp for a connection")
    elif not is_somewhere(address):
        yield document.problem(where, f"nobody can be at {address} whom a pod reaches")


def _fault(scenario: Scenario, step: Step, document: Document, where: Where) -> Iterator[Problem]:
    try:
        found = faults.read(step.fault or "")
    except InputError as error:
        yield document.problem((*where, "fault"), error.message, hint=error.hint)
        return
    if isinstance(found, faults.AgentFault) and found.node not in ("", *scenario.nodes):
        yield unknown(document, (*where, "fault"), "node", found.node, scenario.nodes)
    elif not isinstance(found, faults.AgentFault):
        hint = f"{' or '.join(faults.AGENT_ACTIONS)}, then shim or resolver"
        yield document.problem((*where, "fault"), "a step's fault is an agent's", hint=hint)


def _who(scenario: Scenario, step: Step, document: Document, where: Where) -> Iterator[Problem]:
    for key, section, needed in (
        ("pod", "pods", step.kind in ("ask", "connect", "wire")),
        ("server", "servers", step.kind == "ask"),
    ):
        name, known = getattr(step, key), written(document, section)
        if name is not None and name not in known:
            yield unknown(document, (*where, key), section.removesuffix("s"), name, known)
        elif name is None and needed and len(getattr(scenario, section)) != 1:
            yield document.problem(where, f"'{key}' is missing: there is not exactly one of the {section}")


def _answer(answer: Answer, document: Document, where: Where) -> Iterator[Problem]:
    for section in ("records", "authority", "additional"):
        for index, line in enumerate(getattr(answer, section)):
            yield from _tried(document, (*where, section, index), records.parse, line)
    yield from _tried(document, (*where, "rcode"), messages.rcode_number, answer.rcode)
    if answer.sender is not None:
        yield from _tried(document, (*where, "sender"), endpoint, answer.sender)
    if answer.octets is not None and (answer.records or answer.authority or answer.additional):
        yield document.problem(where, "an answer is either octets or records")


def _one_of(step: Step, document: Document, where: Where, words: tuple[str, ...]) -> Iterator[Problem]:
    if step.outcome and step.outcome not in words:
        hint = did_you_mean(step.outcome, words)
        yield document.problem((*where, "outcome"), f"'{step.outcome}' is no outcome of this", hint=hint)


def _came_back(step: Step, document: Document, where: Where) -> Iterator[Problem]:
    """Of recorded packets several words."""
    for word in step.outcome.split():
        if word not in _OF_WIRE and not _ICMP.fullmatch(word):
            hint = did_you_mean(word, _OF_WIRE) or f"{', '.join(_OF_WIRE)}, icmp-TYPE/CODE"
            yield document.problem((*where, "outcome"), f"'{word}' is no outcome of this", hint=hint)


def _references(scenario: Scenario, index: int, document: Document, where: Where) -> Iterator[Problem]:
    step = scenario.steps[index]
    for key in ("after", "send"):
        number = getattr(step, key)
        if number is None:
            continue
        if number > index:
            yield document.problem((*where, key), f"step {number} is not before step {index + 1}")
        elif key == "send" and scenario.steps[number - 1].kind != "connect":
            yield document.problem((*where, key), f"step {number} makes no connection")


def _tried(document: Document, where: Where, parse: Any, text: Any) -> Iterator[Problem]:
    try:
        parse(text)
    except ValueError as error:
        yield document.problem(where, str(error))
