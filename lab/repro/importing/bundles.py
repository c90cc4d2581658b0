"""A bundle of a lab as a scenario, with nothing to infer: pods, labels, policies, settings, faults are in it.

Only the files that are needed are read, each and all together under a bound, by their names; none is unpacked
to a place that the bundle chooses.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from acns.errors import InputError
from lab.backends.order import Order
from lab.report.bundle import FORMAT, VERSION
from lab.repro.importing import given as giving
from lab.repro.importing import importer
from lab.repro.importing.given import Given
from lab.repro.reading import zipped
from lab.repro.reading.evidence import Evidence, Limits
from lab.repro.scenario import rules
from lab.repro.scenario.model import Pod, Policy, Scenario, Step
from lab.runtime.events import LabEvent
from lab.runtime.faults import model as faults
from lab.spec.topology import Topology

_MAX_SMALL_BYTES: Final = 16 << 20
_MAX_TOGETHER_BYTES: Final = 32 << 20
_MAX_ENTRIES: Final = 10_000
_UNREADABLE: Final = (*zipped.BROKEN, KeyError, TypeError, AttributeError)
_GENERATED: Final = frozenset(
    {"namespaces.yaml", "nodes.yaml", "pods.yaml", "services.yaml", "endpointslices.yaml"}
)


@dataclass(slots=True)
class _Files:
    """The small files of a bundle."""

    archive: zipfile.ZipFile
    _left: int = _MAX_TOGETHER_BYTES

    def read(self, name: str, *, optional: bool = False) -> bytes:
        """At most so many octets, whatever the zip's directory says of the size. Raises InputError."""
        limit = min(self._left, _MAX_SMALL_BYTES)
        try:
            with self.archive.open(name) as file:
                data = file.read(limit + 1)
        except KeyError:
            if optional:
                return b""
            raise InputError(f"the bundle has no {name}", hint="its missing.txt says why") from None
        self._left -= len(data)
        if self._left < 0:
            raise InputError(f"the bundle's files are larger than {_MAX_TOGETHER_BYTES >> 20} MiB together")
        if len(data) > limit:
            raise InputError(f"{name} in the bundle is larger than {_MAX_SMALL_BYTES >> 20} MiB")
        return data


def imported(path: Path, given: Given, name: str) -> Scenario:
    """What is given beside it comes first. Raises InputError for what is no bundle of a lab."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = _Files(archive)
            _check(files, path)
            order = Order.from_json(json.loads(files.read("topology.json")))
            events = files.read("events.jsonl", optional=True)
            evidence = zipped.captured(archive, Limits())
            policies = tuple(_policies(files))
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a bundle that can be read: {error}") from error
    return importer.from_evidence(evidence, _with(given, order, policies, events, evidence), name)


def _check(files: _Files, path: Path) -> None:
    about = json.loads(files.read("bundle.json"))
    if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("version") != VERSION:
        raise InputError(f"{path}: no {FORMAT} of version {VERSION}", hint="made by another lab.bundle?")


def _with(given: Given, order: Order, found: tuple[Policy, ...], events: bytes, evidence: Evidence) -> Given:
    topology = order.topology
    nodes = tuple(one.name for one in topology.nodes)
    servers = _dns_services(topology)
    addresses = {(plan.namespace, plan.name): plan.address for plan in order.addressing.pods}
    backends = {
        addresses[pod.namespace, pod.name]
        for pod in topology.pods
        if any(service.namespace == pod.namespace and service.selector.items() <= pod.labels.items()
               for service in topology.services if service.cluster_ip in servers)
    }  # fmt: skip
    pods = {
        addresses[pod.namespace, pod.name]: Pod(
            name=pod.name,
            namespace=pod.namespace,
            labels=pod.labels,
            node=pod.node if pod.node != nodes[0] else None,
        )
        for pod in topology.pods
        if addresses[pod.namespace, pod.name] not in backends
    }
    node = topology.nodes[0]
    policies = given.policies or found
    assumed = [*given.assumptions]
    if any((one.shim, one.resolver) != (node.shim, node.resolver) for one in topology.nodes):
        assumed.append(f"the agents of all nodes have the settings of {node.name}'s")
    return replace(
        giving.with_pods(given, pods),
        policies=policies,
        objects=given.objects or giving.objects_of(policies),
        also=(*given.also, *_faults(events, evidence, nodes)),
        shim=_settings(node.shim),
        resolver=_settings(node.resolver),
        assumptions=tuple(assumed),
        nodes=nodes,
    )


def _policies(files: _Files) -> Iterator[Policy]:
    """The files in force that are not the lab's own; the model refuses a name that is no plain file's."""
    folder = "policies/"
    for path in sorted(files.archive.namelist())[:_MAX_ENTRIES]:
        name = path.removeprefix(folder)
        if path.startswith(folder) and name and name not in _GENERATED:
            yield Policy(name=name, text=files.read(path).decode())


def _dns_services(topology: Topology) -> set[IPv4Address]:
    return {
        service.cluster_ip for service in topology.services if any(port.port == 53 for port in service.ports)
    }


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if not rules.is_labs_own(name)}


def _faults(events: bytes, evidence: Evidence, nodes: tuple[str, ...]) -> Iterator[Step]:
    """Agents' faults in the time of the capture."""
    for line in events.splitlines():
        try:
            value = json.loads(line)
            fault = faults.read(str(value["fault"])) if value["event"] == LabEvent.FAULT_BEGINS else None
            at_ms = (float(value["ts"]) * 1e9 - evidence.first_ns) / 1e6
        except (ValueError, KeyError, TypeError, InputError):
            continue
        if isinstance(fault, faults.AgentFault) and at_ms >= 0 and fault.node in ("", *nodes):
            text = f"{fault.action} {fault.agent}" if fault.node in ("", nodes[0]) else str(fault)
            yield Step(at_ms=round(at_ms, 3), fault=text)
