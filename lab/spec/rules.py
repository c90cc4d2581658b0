"""What must hold between the parts of a topology, checked together and reported where it is written.

Names must exist and be unique, addresses must be free and lie where they are routed, a policy file must
be there and inside the topology's folder, a statement must be about a pod and a name of this lab: a
misspelt name in `blocked` would otherwise be true for ever. Pure but for looking whether policy files
exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from acns.errors import Problem
from acns.located import Document, did_you_mean
from acns.located import Path as Where
from acns.shim.sources import listing
from lab.spec import (
    agent_rules,
    expect,
    external_rules,
    fault_rules,
    findings,
    inline,
    internet_rules,
    link_rules,
)
from lab.spec.overlay import folder_of
from lab.spec.plan import CLUSTER_DOMAIN, MAX_NODES, MAX_PODS, SERVICES, NodePlan
from lab.spec.topology import Manifest, Pod, Service, Topology

OBJECT_FILES = frozenset(
    {"namespaces.yaml", "nodes.yaml", "pods.yaml", "services.yaml", "endpointslices.yaml"}
)
"""The files that the lab writes itself; a policy's file may not take their names."""

_TAKEN_BY_THE_LAB = ("internet", "pod")
"""`internet/dns` and `pod/default/web` are processes; a node's are `NODE/shim` and `NODE/resolver`."""


def check(topology: Topology, document: Document) -> Iterator[Problem]:
    """Every problem of a topology whose shape is right."""
    yield from _nodes(topology, document)
    yield from agent_rules.check(topology, document)
    yield from external_rules.check(topology, document)
    yield from _pods(topology, document)
    yield from _crowded_nodes(topology, document)
    yield from _services(topology, document)
    yield from internet_rules.check(topology, document)
    yield from link_rules.check(topology, document)
    yield from fault_rules.check(topology, document)
    yield from _policies(topology, document)
    yield from _statements(topology, document)


def _nodes(topology: Topology, document: Document) -> Iterator[Problem]:
    if document.value.get("nodes") == []:
        yield document.problem(("nodes",), "a lab needs at least one node")
    for index, node in enumerate(topology.nodes):
        if node.name in _TAKEN_BY_THE_LAB:
            yield document.problem(("nodes", index, "name"), f"a node cannot be called '{node.name}' here")
    if len(topology.nodes) > MAX_NODES:
        yield document.problem(("nodes",), f"{len(topology.nodes)} nodes; a lab has room for {MAX_NODES}")
    yield from findings.twice(
        document, "node", ((("nodes", i, "name"), node.name) for i, node in enumerate(topology.nodes))
    )


def _pods(topology: Topology, document: Document) -> Iterator[Problem]:
    plans: dict[str, NodePlan] = {}
    for number, node in enumerate(topology.nodes[:MAX_NODES]):
        plans.setdefault(node.name, NodePlan(node.name, number))
    yield from findings.twice(
        document,
        "pod",
        ((("pods", i, "name"), f"{pod.namespace}/{pod.name}") for i, pod in enumerate(topology.pods)),
    )
    yield from findings.twice(
        document,
        "address",
        ((("pods", i, "address"), str(pod.address)) for i, pod in enumerate(topology.pods) if pod.address),
    )
    written = findings.written(document, "nodes")
    for index, pod in enumerate(topology.pods):
        if pod.node not in plans:
            if pod.node not in written:
                yield findings.unknown(document, ("pods", index, "node"), "node", pod.node, written)
        elif reason := _misplaced(pod, plans[pod.node]):
            yield document.problem(("pods", index, "address"), reason)


def _crowded_nodes(topology: Topology, document: Document) -> Iterator[Problem]:
    """Said once for each node, at the first pod that there is no address for."""
    taken: Counter[str] = Counter(pod.node for pod in topology.pods if pod.address)
    said: set[str] = set()
    for index, pod in enumerate(topology.pods):
        taken[pod.node] += pod.address is None
        if taken[pod.node] > MAX_PODS and pod.node not in said and pod.address is None:
            said.add(pod.node)
            count = sum(one.node == pod.node for one in topology.pods)
            yield document.problem(
                ("pods", index),
                f"node '{pod.node}' has {count} pods, and addresses for {MAX_PODS}",
                hint="put some of them on another node",
            )


def _misplaced(pod: Pod, node: NodePlan) -> str:
    if pod.address is None:
        return ""
    network = node.pod_cidr
    if pod.address not in network:
        return f"{pod.address} is outside {network}, the pods of node '{node.name}'"
    if pod.address in (network.network_address, network.broadcast_address, node.pod_gateway):
        return f"{pod.address} is not free: {network} keeps its first two addresses and its last"
    return ""


def _services(topology: Topology, document: Document) -> Iterator[Problem]:
    services = topology.services
    yield from findings.twice(
        document,
        "Service",
        ((("services", i, "name"), f"{s.namespace}/{s.name}") for i, s in enumerate(services)),
    )
    yield from findings.twice(
        document,
        "address",
        ((("services", i, "cluster_ip"), str(s.cluster_ip)) for i, s in enumerate(services)),
    )
    for index, service in enumerate(services):
        yield from _service(service, document, ("services", index))


def _service(service: Service, document: Document, where: Where) -> Iterator[Problem]:
    if service.cluster_ip not in SERVICES:
        yield document.problem(
            (*where, "cluster_ip"), f"{service.cluster_ip} is outside {SERVICES}, the Services"
        )
    if not service.selector:
        yield document.problem((*where, "selector"), "an empty selector would select no pod")
    if not service.ports:
        yield document.problem((*where, "ports"), "a Service needs at least one port")
    ports = [(i, port) for i, port in enumerate(service.ports)]
    yield from findings.twice(
        document, "port", (((*where, "ports", i, "name"), port.name) for i, port in ports)
    )
    yield from findings.twice(
        document,
        "port",
        (((*where, "ports", i, "port"), f"{port.port}/{port.protocol}") for i, port in ports),
    )


def _policies(topology: Topology, document: Document) -> Iterator[Problem]:
    for index, policy in enumerate(topology.policies):
        if reason := _policy_problem(policy, folder_of(document, ("policies", index, "file"))):
            yield document.problem(("policies", index), reason)
    yield from findings.twice(
        document,
        "file name",
        ((("policies", i), name) for i, name in enumerate(_policy_names(topology))),
    )


def _policy_problem(policy: Manifest, folder: Path) -> str:
    if (policy.file is None) == (policy.inline is None):
        return "give either 'file' or 'inline'"
    if policy.file is None:
        return ""
    try:
        path = (folder / policy.file).resolve()
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # too long, a NUL, a folder that we may not enter
        return f"the policy file cannot be read: {error}"
    if not path.is_relative_to(folder):
        return f"'{policy.file}' is outside the topology's folder"
    if not is_file:
        # Not deeper: the topology may lie at the root of something huge.
        near = (*folder.glob("*.yaml"), *folder.glob("*/*.yaml"))
        known = (str(one.relative_to(folder)) for one in near if one.is_file())
        hint = did_you_mean(policy.file, known) if folder.exists() else ""
        return f"there is no file '{policy.file}' beside the topology" + (f" ({hint})" if hint else "")
    if not listing.is_manifest(path) or path.name in OBJECT_FILES:
        return f"'{path.name}': a policy file is called *.yaml, and not like a file of the lab's own objects"
    return ""


def _statements(topology: Topology, document: Document) -> Iterator[Problem]:
    for index, statement in enumerate(topology.expect):
        where: Where = ("expect", index)
        try:
            wanted = expect.parse_any(statement)
        except ValueError as error:
            yield document.problem(where, str(error))
            continue
        if isinstance(wanted, expect.PolicyExpectation):
            files = set(_policy_names(topology))
            if wanted.file not in files:
                yield findings.unknown(document, where, "policy file", wanted.file, files)
        else:
            yield from _statement(wanted, topology, document, where)
    yield from findings.twice(
        document,
        "statement",
        ((("expect", i), " ".join(text.split())) for i, text in enumerate(topology.expect)),
    )


def _statement(
    wanted: expect.Expectation, topology: Topology, document: Document, where: Where
) -> Iterator[Problem]:
    yield from findings.known_pod(topology, document, where, wanted.pod, findings.written(document, "pods"))
    known = {*findings.every_written_name(document), *service_names(topology)}
    is_free = expect.VERBS[wanted.verb].may_be_any_name or not wanted.is_about_names
    if not is_free and wanted.name.rstrip(".").lower() not in known:
        yield findings.unknown(document, where, "name", wanted.name, known)


def _policy_names(topology: Topology) -> Iterator[str]:
    """What the shims call the policies."""
    for index, policy in enumerate(topology.policies):
        yield Path(policy.file).name if policy.file else inline.file_name(index)


def service_names(topology: Topology) -> Iterator[str]:
    """The DNS names of the Services, no trailing dot: the full ones and those that search lists complete."""
    for service in topology.services:
        short = f"{service.name}.{service.namespace}"
        yield from (f"{short}.svc.{CLUSTER_DOMAIN}", f"{short}.svc", short, service.name)
