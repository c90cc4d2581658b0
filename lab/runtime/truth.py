"""What a running lab is found to be: its status, and its truth table."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.runtime import outside
from lab.runtime.supervise import ProcessStatus
from lab.spec import expect
from lab.spec.expect import Expectation, PolicyExpectation, Row
from lab.spec.status import AgentStatus, Health, NodeStatus, PodStatus, Status
from lab.spec.topology import AGENTS, Node, Pod, Service, Topology
from lab.world import manifests, musl, probe

if TYPE_CHECKING:
    from lab.runtime.lab import Lab

_PROBE_TIMEOUT_S = 60.0
_LOSSY_DEADLINE_S = 30.0
"""glibc's resolver asks again after 5 s, for each name of the search list."""
_PROBES_AT_ONCE = 32
_HEALTH: Mapping[str, Health] = {
    "ready": "ready",
    "starting": "starting",
    "not ready": "not ready",
    "stopped": "stopped",
    "held": "stopped",
}


def check(lab: Lab) -> list[Row]:
    """Try every expectation, each pod's from inside it, all pods at once; rows in the order of the file."""
    statements = [expect.parse_any(statement) for statement in lab.topology.expect]
    about_pods = [(number, one) for number, one in enumerate(statements) if isinstance(one, Expectation)]
    # What is traced from outside comes after: the kernel reports better when little happens.
    from_outside = [each for each in about_pods if each[1].is_traced]
    inside = [each for each in about_pods if not each[1].is_traced]
    found = _tried_inside(lab, inside, meanwhile=outside.prepare if from_outside else lambda: None)
    rows = outside.traced(lab, [wanted for _, wanted in from_outside])
    found.update(zip((number for number, _ in from_outside), rows, strict=True))
    policies = [(n, one) for n, one in enumerate(statements) if isinstance(one, PolicyExpectation)]
    problems = [_said_by_shim(lab, node.name).get("problems", ()) for node in lab.nodes] if policies else []
    found.update({n: outside.policy_row(one, problems) for n, one in policies})
    return [found[number] for number in range(len(statements))]


def unexpected_errors(topology: Topology, found: Status) -> int:
    """How many errors in manifests no statement of the topology expects."""
    statements = map(expect.parse_any, topology.expect)
    files = {one.file for one in statements if isinstance(one, PolicyExpectation)}
    if not files:
        return found.errors
    texts = manifests.policy_files(topology)
    places = set().union(*(manifests.places(texts[file]) for file in files if file in texts))
    return found.errors - sum(
        outside.error_file(problem) in files or outside.error_object(problem) in places
        for problem in found.problems
    )


def _tried_inside(
    lab: Lab, expectations: Sequence[tuple[int, Expectation]], *, meanwhile: Callable[[], None]
) -> dict[int, Row]:
    """By number; all pods at once. `meanwhile` is called while they are at it."""
    by_pod: dict[str, list[tuple[int, Expectation]]] = {}
    for number, expectation in expectations:
        by_pod.setdefault(expectation.pod, []).append((number, expectation))
    needs_musl = any(expectation.by_musl for _, expectation in expectations)
    by_musl = musl.program(lab.folder.path) if needs_musl else None
    found: dict[int, Row] = {}
    waiting = list(by_pod.items())
    while waiting:
        # A probe is a Python: not hundreds of them at once.
        now, waiting = waiting[:_PROBES_AT_ONCE], waiting[_PROBES_AT_ONCE:]
        with contextlib.ExitStack() as running:
            probes = [(_start_probe(lab, pod, asked, by_musl, running), asked) for pod, asked in now]
            meanwhile()
            for process, asked in probes:
                output, _ = process.communicate(timeout=_PROBE_TIMEOUT_S)
                found.update(zip((number for number, _ in asked), probe.rows(output), strict=True))
    return found


def status(lab: Lab) -> Status:
    """Everything at a glance; what an agent cannot be asked is None."""
    topology, addressing = lab.topology, lab.addressing
    processes = {one.name: one for one in lab.processes()}
    nodes = tuple(
        NodeStatus(plan.name, plan.address, tuple(_agents(lab, node, processes)))
        for node, plan in zip(topology.nodes, addressing.nodes, strict=True)
    )
    said = {node.name: _said_by_shim(lab, node.name) for node in addressing.nodes}
    pods = tuple(_pod(pod, lab, said[pod.node].get("endpoints", {}), processes) for pod in topology.pods)
    services = tuple((f"{one.namespace}/{one.name}", _ports(one)) for one in topology.services)
    problems = tuple(problem for one in said.values() for problem in one.get("problems", ()))
    errors = sum(one.get("errors", 0) for one in said.values())
    return Status(lab.name, topology.name, nodes, pods, services, str(lab.folder.path), problems, errors)


def _start_probe(
    lab: Lab,
    pod: str,
    asked: Sequence[tuple[int, Expectation]],
    by_musl: Path | None,
    running: contextlib.ExitStack,
) -> subprocess.Popen[str]:
    """The probe of one pod; it has its whole request on its stdin from the start."""
    request = running.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - closed with `running`
    expectations, authority = [one for _, one in asked], Path(lab.record.authority)
    is_slow = bool(lab.topology.links or lab.topology.faults)
    deadline_s = _LOSSY_DEADLINE_S if _loses_packets(lab.topology) else probe.DEADLINE_S
    request.write(
        probe.request_text(expectations, authority, deadline_s=deadline_s, musl=by_musl, slow_links=is_slow)
    )
    request.seek(0)
    process = lab.pod(pod).popen(
        [sys.executable, *probe.command()], stdin=request, stdout=subprocess.PIPE, text=True
    )
    running.enter_context(process)
    running.callback(process.kill)
    return process


def _loses_packets(topology: Topology) -> bool:
    """By intention: who asks again is to have the time for it."""
    return any(link.loss for link in topology.links) or any("lossy" in fault for fault in topology.faults)


def _agents(lab: Lab, node: Node, processes: Mapping[str, ProcessStatus]) -> Iterator[AgentStatus]:
    others = {agent: program.command[0] for agent, program in node.external.programs()}
    for agent in AGENTS:
        if one := processes.get(f"{node.name}/{agent}"):
            pid, external = lab.process(one.name).pid, Path(others.get(agent, "")).name
            yield AgentStatus(agent, _HEALTH[one.state], pid, one.detail, external, max(0, one.restarts))


def _said_by_shim(lab: Lab, node: str) -> Mapping[str, Any]:
    """What the node's shim says of its pods (`endpoints`) and manifests; empty when it cannot be asked."""
    try:
        return dict(lab.node(node).shim.http_get("/readyz").json())
    except (OSError, http.client.HTTPException, ValueError):
        return {}


def _pod(
    pod: Pod, lab: Lab, endpoints: Mapping[str, Any], processes: Mapping[str, ProcessStatus]
) -> PodStatus:
    plan = lab.addressing.pod(f"{pod.namespace}/{pod.name}")
    endpoint = endpoints.get(plan.key)
    running = processes.get(f"pod/{plan.key}")
    return PodStatus(
        name=pod.name,
        namespace=pod.namespace,
        node=pod.node,
        address=plan.address,
        address_v6=plan.address_v6,
        identity=endpoint["identity"] if endpoint else None,
        enforced=endpoint["enforced"] if endpoint else None,
        program=f"{pod.program.kind} ({running.state})" if pod.program and running else "idle",
        interface=plan.node_interface,
    )


def _ports(service: Service) -> str:
    return ", ".join(f"{service.cluster_ip}:{port.port}/{port.protocol.lower()}" for port in service.ports)
