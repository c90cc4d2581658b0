"""What must hold between the parts of a topology, checked together and reported where it is written.

Names must exist and be unique, addresses must be free and lie where they are routed, a policy file must
be there and inside the topology's folder, a statement must be about a pod and a name of this lab: a
misspelt name in `blocked` would otherwise be true for ever. Pure but for looking whether policy files
exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from acns.errors import Problem
from acns.located import Document, did_you_mean
from lab.spec import agent_rules, expect, external_rules
from lab.spec.overlay import folder_of
from lab.spec.plan import MAX_NODES, PODS, PODS_V6, SERVICES, UNDERLAY, UNDERLAY_V6, NodePlan
from lab.spec.topology import InternetName, Manifest, Pod, Service, Topology

CLUSTER_DOMAIN = "cluster.local"
OBJECT_FILES = frozenset(
    {"namespaces.yaml", "nodes.yaml", "pods.yaml", "services.yaml", "endpointslices.yaml"}
)
"""The files that the lab writes itself; a policy's file may not take their names."""

_TAKEN_BY_THE_LAB = ("internet", "pod")
"""`internet/dns` and `pod/default/web` are processes; a node's are `NODE/shim` and `NODE/resolver`."""

Where = tuple[str | int, ...]


def check(topology: Topology, document: Document) -> Iterator[Problem]:
    """Every problem of a topology whose shape is right."""
    yield from _nodes(topology, document)
    yield from agent_rules.check(topology, document)
    yield from external_rules.check(topology, document)
    yield from _pods(topology, document)
    yield from _services(topology, document)
    yield from _internet(topology, document)
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
    yield from _twice(
        document, "node", ((("nodes", i, "name"), node.name) for i, node in enumerate(topology.nodes))
    )


def _pods(topology: Topology, document: Document) -> Iterator[Problem]:
    plans: dict[str, NodePlan] = {}
    for number, node in enumerate(topology.nodes[:MAX_NODES]):
        plans.setdefault(node.name, NodePlan(node.name, number))
    yield from _twice(
        document,
        "pod",
        ((("pods", i, "name"), f"{pod.namespace}/{pod.name}") for i, pod in enumerate(topology.pods)),
    )
    yield from _twice(
        document,
        "address",
        ((("pods", i, "address"), str(pod.address)) for i, pod in enumerate(topology.pods) if pod.address),
    )
    written = _written(document, "nodes")
    for index, pod in enumerate(topology.pods):
        if pod.node not in plans:
            if pod.node not in written:
                yield _unknown(document, ("pods", index, "node"), "node", pod.node, written)
        elif reason := _misplaced(pod, plans[pod.node]):
            yield document.problem(("pods", index, "address"), reason)


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
    yield from _twice(
        document,
        "Service",
        ((("services", i, "name"), f"{s.namespace}/{s.name}") for i, s in enumerate(services)),
    )
    yield from _twice(
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
    yield from _twice(document, "port", (((*where, "ports", i, "name"), port.name) for i, port in ports))
    yield from _twice(
        document,
        "port",
        (((*where, "ports", i, "port"), f"{port.port}/{port.protocol}") for i, port in ports),
    )


def _internet(topology: Topology, document: Document) -> Iterator[Problem]:
    names = topology.internet.names
    if reason := _unroutable(topology.internet.dns):
        yield document.problem(("internet", "dns"), reason)
    known = _written_names(document)
    for name, records in names.items():
        where: Where = ("internet", "names", name)
        if name.endswith(f".{CLUSTER_DOMAIN}"):
            yield document.problem(
                where, f"'{name}' lies under {CLUSTER_DOMAIN}, which the cluster's DNS answers"
            )
        yield from _records(records, document, where)
        if records.cname and records.cname not in known:
            yield _unknown(document, (*where, "cname"), "name", records.cname, known)
        elif records.cname and _loops(name, names):
            yield document.problem((*where, "cname"), f"the CNAMEs from '{name}' lead back to themselves")


def _records(records: InternetName, document: Document, where: Where) -> Iterator[Problem]:
    if records.cname and (records.a or records.aaaa):
        yield document.problem(
            (*where, "cname"), "a name with a CNAME has no other records (RFC 1034 §3.6.2)"
        )
    if records.rotate and len(records.a) < 2:
        yield document.problem((*where, "rotate"), "rotate needs at least two addresses in 'a'")
    places: list[tuple[Where, IPv4Address | IPv6Address]] = [
        *(((*where, "a", index), address) for index, address in enumerate(records.a)),
        *(((*where, "aaaa", index), address) for index, address in enumerate(records.aaaa)),
    ]
    for place, address in places:
        if reason := _unroutable(address):
            yield document.problem(place, reason)


def _unroutable(address: IPv4Address | IPv6Address) -> str:
    """Why the Internet cannot own this address; empty when it can."""
    if any(address in network for network in (UNDERLAY, UNDERLAY_V6, PODS, PODS_V6, SERVICES)):
        return f"{address} belongs to the cluster's own networks"
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return f"{address} is not an address that can be routed"
    return ""


def _loops(name: str, names: dict[str, InternetName]) -> bool:
    seen = {name}
    while (records := names.get(name)) and records.cname:
        name = records.cname
        if name in seen:
            return True
        seen.add(name)
    return False


def _policies(topology: Topology, document: Document) -> Iterator[Problem]:
    for index, policy in enumerate(topology.policies):
        if reason := _policy_problem(policy, folder_of(document, ("policies", index, "file"))):
            yield document.problem(("policies", index), reason)
    yield from _twice(
        document,
        "file name",
        (
            (("policies", i), Path(policy.file).name)
            for i, policy in enumerate(topology.policies)
            if policy.file
        ),
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
    if path.suffix not in (".yaml", ".yml", ".json") or path.name in OBJECT_FILES:
        return f"'{path.name}': a policy file is called *.yaml, and not like a file of the lab's own objects"
    return ""


def _statements(topology: Topology, document: Document) -> Iterator[Problem]:
    known_pods = _written(document, "pods")
    known_names = _written_names(document) | set(service_names(topology))
    for index, statement in enumerate(topology.expect):
        where: Where = ("expect", index)
        try:
            wanted = expect.parse(statement)
        except ValueError as error:
            yield document.problem(where, str(error))
            continue
        yield from _known_pod(topology, document, where, wanted.pod, known_pods)
        # A refused name may be any: that is the point of it.
        if (
            wanted.verb != "refused"
            and not wanted.address
            and wanted.name.rstrip(".").lower() not in known_names
        ):
            yield _unknown(document, where, "name", wanted.name, known_names)
    yield from _twice(
        document,
        "statement",
        ((("expect", i), " ".join(text.split())) for i, text in enumerate(topology.expect)),
    )


def _known_pod(
    topology: Topology, document: Document, where: Where, name: str, known: set[str]
) -> Iterator[Problem]:
    found = [pod for pod in topology.pods if name in (pod.name, f"{pod.namespace}/{pod.name}")]
    if len(found) > 1:
        full = " or ".join(f"'{pod.namespace}/{pod.name}'" for pod in found)
        yield document.problem(where, f"there are {len(found)} pods called '{name}'", hint=f"write {full}")
    elif not found and name.rpartition("/")[2] not in known:
        yield _unknown(document, where, "pod", name, known)


def service_names(topology: Topology) -> Iterator[str]:
    """The DNS names of the Services, no trailing dot: the full ones and those that search lists complete."""
    for service in topology.services:
        short = f"{service.name}.{service.namespace}"
        yield from (f"{short}.svc.{CLUSTER_DOMAIN}", f"{short}.svc", short, service.name)


def _written(document: Document, section: str) -> set[str]:
    """The names in a section as the file has them, also of entries that are wrong elsewhere."""
    entries = document.value.get(section)
    entries = entries if isinstance(entries, list) else []
    return {
        entry["name"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }


def _written_names(document: Document) -> set[str]:
    internet = document.value.get("internet")
    names = internet.get("names") if isinstance(internet, dict) else None
    return set(names) if isinstance(names, dict) else set()


def _unknown(document: Document, where: Where, what: str, name: str, known: Iterable[str]) -> Problem:
    return document.problem(where, f"there is no {what} '{name}'", hint=did_you_mean(name, known))


def _twice(document: Document, what: str, places: Iterable[tuple[Where, str]]) -> Iterator[Problem]:
    seen: Counter[str] = Counter()
    first: dict[str, Where] = {}
    for where, key in places:
        seen[key] += 1
        if seen[key] == 1:
            first[key] = where
        else:
            before, now = document.position(first[key]), document.position(where)
            place = f"line {before.line}" if before.path == now.path else f"{before.path}:{before.line}"
            yield document.problem(where, f"{what} '{key}' is given twice; first in {place}")
