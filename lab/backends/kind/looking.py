"""What a lab on kind is found to be: its status, and its truth table.

What runs says the API server; what is enforced, the shim of each node; what pods can do is tried inside them,
by the same probe as in a lab of network namespaces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from acns.errors import AcnsError
from lab.backends.kind import asking, cluster, objects, tools
from lab.backends.kind.objects import AGENTS
from lab.runtime.outside import WARNING
from lab.spec import expect
from lab.spec.expect import Expectation, PolicyExpectation, Row
from lab.spec.status import AgentStatus, Health, NodeStatus, PodStatus, Status
from lab.spec.topology import AGENTS as AGENT_NAMES
from lab.world import manifests, probe

if TYPE_CHECKING:
    from lab.backends.kind.kind_lab import KindLab

Item = Mapping[str, Any]
_PROBE: Final = ("python3", "-m", "acns.telemetry.probe", "/run/acns/shim-http.sock")
_PATIENCE_S: Final = 60.0
CILIUM: Final = ("ciliumnetworkpolicies.cilium.io", "ciliumclusterwidenetworkpolicies.cilium.io")


def status(lab: KindLab) -> Status:
    """Everything at a glance."""
    placed = cluster.placing(lab.topology, lab.name, None)
    running = lab.tools.get("pods", "-A")
    nodes = cluster.nodes_of(lab.tools.get("nodes"))
    agents = [one for one in running if one["metadata"]["namespace"] == AGENTS]
    said = {node.name: _said_by_shim(lab, agents, node.name) for node in nodes}
    endpoints = {key: value for one in said.values() for key, value in one.get("endpoints", {}).items()}
    own = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in running}
    # All nodes have the same objects, so each says the same of them.
    problems = tuple(dict.fromkeys(problem for one in said.values() for problem in one.get("problems", ())))
    return Status(
        lab=lab.name,
        topology=lab.topology.name,
        nodes=tuple(NodeStatus(one.name, one.address, _agents_on(agents, one.name)) for one in nodes),
        pods=tuple(
            _pod_status(
                pod.namespace, pod.name, placed[pod.node], own.get((pod.namespace, pod.name)), endpoints
            )
            for pod in objects.pods(lab.topology)
        ),
        problems=problems,
        errors=sum(WARNING not in problem for problem in problems),
    )


def is_settled(lab: KindLab) -> bool:
    """Whether the shims know all pods of the lab, and have said of every policy what they think of it."""
    if any(pod.enforced is None for pod in status(lab).pods):
        return False
    return all(_is_judged(one) for kind in CILIUM for one in lab.tools.get(kind, "-A"))


def _is_judged(item: Item) -> bool:
    """As it is now: Cilium's own definition does not say of which generation a condition is."""
    generation = item["metadata"].get("generation")
    conditions = item.get("status", {}).get("conditions", ())
    return any(one.get("observedGeneration", generation) == generation for one in conditions)


def check(lab: KindLab) -> tuple[list[Row], list[str]]:
    """The truth table; and the statements that are not tried here, each with its reason."""
    addresses = _addresses(lab)
    rows: list[Row] = []
    left_out = []
    by_pod: dict[str, list[Expectation]] = {}
    for text in lab.topology.expect:
        statement = expect.parse_any(text)
        if reason := objects.untried(statement, lab.topology):
            left_out.append(f"{text}: {reason}")
        elif isinstance(statement, PolicyExpectation):
            rows.append(_policy_row(lab, statement))
        elif statement.is_traced:
            rows.append(asking.row(lab, statement))
        else:
            translated = objects.translated(statement, addresses)
            by_pod.setdefault(statement.pod, []).append(translated)
    for pod, asked in by_pod.items():
        rows += _probed(lab, pod, asked)
    return rows, left_out


def _probed(lab: KindLab, pod: str, asked: Sequence[Expectation]) -> list[Row]:
    request = probe.request_text(asked, Path(f"{objects.FILES}/ca.pem"))
    command = lab.exec_argv(pod, ["python3", *probe.command()], "--stdin")
    return probe.rows(tools.checked(command, text=request, timeout_s=_PATIENCE_S).out)


def _addresses(lab: KindLab) -> dict[str, str]:
    """The planned address of each pod → the one that the cluster gave it."""
    real = {
        f"{one['metadata']['namespace']}/{one['metadata']['name']}": one["status"].get("podIP", "")
        for one in lab.tools.get("pods", "-A")
    }
    return {str(plan.address): real[plan.key] for plan in lab.addressing.pods if real.get(plan.key)}


def _policy_row(lab: KindLab, wanted: PolicyExpectation) -> Row:
    """What the cluster says of the policies in that file: when they are applied, and in their status."""
    text = manifests.policy_files(lab.topology).get(wanted.file, "")
    argv = lab.tools.kubectl_argv("apply", "--dry-run=server", "-f", "-")
    applied = tools.run(argv, text=objects.served_policy(text, wanted.file))
    here = manifests.places(text)
    said = [applied.err, *_refusals(lab, here)]
    refused = [message for message in said if wanted.text in message]
    actual = "refused" if refused else "refused otherwise" if any(said) else "taken"
    detail = (refused or [message for message in said if message] or [""])[0].strip()[:200]
    return Row(wanted.file, wanted.text, None, "refused", actual, bool(refused), detail)


def _refusals(lab: KindLab, here: Set[manifests.Place]) -> list[str]:
    found = []
    for kind in CILIUM:
        for one in lab.tools.get(kind, "-A"):
            conditions = one.get("status", {}).get("conditions", ())
            bad = [each.get("message", "") for each in conditions if each.get("status") == "False"]
            found += bad if manifests.place(one) in here else []
    return found


def _said_by_shim(lab: KindLab, agents: Sequence[Mapping[str, Any]], node: str) -> Mapping[str, Any]:
    try:
        return dict(json.loads(shim_says(lab, agents, node, "/readyz")))
    except ValueError:
        return {}


def shim_says(lab: KindLab, agents: Sequence[Item], node: str, page: str) -> str:
    """A page of the shim's on that node; "" where it does not answer."""
    pod = agent_pod(agents, "shim", node)
    if pod is None:
        return ""
    # Not ready is an exit code of 1, and says why.
    return tools.run(lab.tools.kubectl_argv(*page_argv(pod, page))).out.strip()


def page_argv(shim: Item, page: str) -> list[str]:
    """What of `kubectl` asks that pod for it."""
    return ["-n", AGENTS, "exec", shim["metadata"]["name"], "--", *_PROBE, page]


def agents(lab: KindLab) -> list[Item]:
    """The agents' pods; none where the API server does not answer."""
    try:
        return lab.tools.get("pods", "-n", AGENTS)
    except AcnsError:
        return []


def _agents_on(agents: Sequence[Mapping[str, Any]], node: str) -> tuple[AgentStatus, ...]:
    found = []
    for agent in AGENT_NAMES:
        pod = agent_pod(agents, agent, node)
        if pod is None:
            found.append(AgentStatus(agent, "stopped", detail="no pod"))
            continue
        containers = pod["status"].get("containerStatuses", ())
        waiting = [one["state"].get("waiting", {}).get("reason", "") for one in containers]
        restarts = sum(one.get("restartCount", 0) for one in containers)
        detail = " ".join([pod["metadata"]["name"], *filter(None, waiting)])
        health: Health = "ready" if _is_ready(pod) else "not ready"
        found.append(AgentStatus(agent, health, detail=detail, restarts=restarts))
    return tuple(found)


def _pod_status(
    namespace: str, name: str, node: str, item: Mapping[str, Any] | None, endpoints: Mapping[str, Any]
) -> PodStatus:
    said = endpoints.get(f"{namespace}/{name}")
    status = item["status"] if item else {}
    return PodStatus(
        name=name,
        namespace=namespace,
        node=node,
        address=IPv4Address(status.get("podIP") or "0.0.0.0"),
        identity=said["identity"] if said else None,
        enforced=said["enforced"] if said else None,
        program=str(status.get("phase", "not there")),
    )


def agent_pod(agents: Sequence[Mapping[str, Any]], agent: str, node: str) -> Mapping[str, Any] | None:
    """Of two, the ready one: in an update there are two."""
    mine = [
        one
        for one in agents
        if one["metadata"]["name"].startswith(f"acns-{agent}-") and one["spec"].get("nodeName") == node
    ]
    return next((one for one in mine if _is_ready(one)), mine[0] if mine else None)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
