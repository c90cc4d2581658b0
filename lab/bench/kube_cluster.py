"""A large cluster as an API server tells of it: objects as JSON, at their real size, and a stream of changes.

A pod's life is that of a rollout: created, scheduled, given its address, ready, then terminating, failed and
gone; seven events, of which three mean something to policy. All follows from the numbers: no randomness.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any

from acns import located
from lab.bench.cluster import NAMESPACE, NODE, BenchCluster, Scale

Value = dict[str, Any]

_FIRST_POD = int(IPv4Address("10.128.0.10"))
_FIRST_BEACON = int(IPv4Address("10.200.0.1"))
POD_BYTES = 7_500
"""Of a pod as recorded from a real API server, managedFields included."""


@dataclass(frozen=True, slots=True)
class KubeScale:
    """How large; `local`: pods on the measured node. `lives`: whole pod lives that the stream holds."""

    pods: int = 20_000
    nodes: int = 200
    policies: int = 2_000
    local: int = 100
    events_per_s: int = 200
    seconds: int = 30
    beacon_s: float = 2.0

    def as_json(self) -> Value:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a watch on pods; `beacon`: the address of which it tells the first time, to be timed."""

    type: str
    value: Value
    beacon: str = ""


class KubeCluster:
    """Objects by plural, and the stream."""

    def __init__(self, scale: KubeScale) -> None:
        self.scale = scale
        self.workloads = max(1, scale.pods // 10)

    def lists(self) -> dict[str, list[Value]]:
        """What is there at the beginning."""
        others = _manifests(self.scale)
        return {
            "namespaces": others["Namespace"],
            "nodes": [self._node(index) for index in range(self.scale.nodes)],
            "pods": [*others["Pod"], *(self.pod(index) for index in range(self.scale.pods))],
            "services": others["Service"],
            "endpointslices": others["EndpointSlice"],
            "networkpolicies": others["NetworkPolicy"],
            "ciliumnetworkpolicies": others["CiliumNetworkPolicy"],
            "ciliumclusterwidenetworkpolicies": [],
            "ciliumcidrgroups": [],
        }

    def address(self, index: int) -> str:
        return str(IPv4Address(_FIRST_POD + index))

    def pod(self, index: int) -> Value:
        node = NODE if index < self.scale.local else f"node-{index % self.scale.nodes}"
        return _running(
            self._bare(f"app-{index % self.workloads}-{index}", index % self.workloads),
            node,
            self.address(index),
        )

    def stream(self) -> Iterator[Told]:
        """For ever: replaced pods take the address of the one before."""
        every = max(1, int(self.scale.events_per_s * self.scale.beacon_s))
        told = itertools.count(1)
        beacons = itertools.count()
        for turn in itertools.count(1):
            for index in range(self.scale.local, self.scale.pods):
                for event in self._life(index, turn):
                    yield event
                    if next(told) % every == 0:
                        yield self._beacon(next(beacons))

    def _life(self, index: int, turn: int) -> Iterator[Told]:
        old = self.pod(index) if turn == 1 else self._next(index, turn - 1)
        yield Told("MODIFIED", _with(old, deletionTimestamp="2026-11-23T15:34:12Z"))
        yield Told("MODIFIED", {**old, "status": {**old["status"], "phase": "Failed"}})
        yield Told("DELETED", old)
        new = self._next(index, turn)
        bare = {**new, "spec": {**new["spec"], "nodeName": None}, "status": {"phase": "Pending"}}
        yield Told("ADDED", bare)
        yield Told("MODIFIED", {**new, "status": {"phase": "Pending"}})
        yield Told("MODIFIED", new)
        ready = [{"type": "Ready", "status": "True"}]
        yield Told("MODIFIED", {**new, "status": {**new["status"], "conditions": ready}})

    def _next(self, index: int, turn: int) -> Value:
        workload = index % self.workloads
        bare = self._bare(f"app-{workload}-{index}-{turn}", workload)
        return _running(bare, f"node-{index % self.scale.nodes}", self.address(index))

    def _beacon(self, number: int) -> Told:
        address = str(IPv4Address(_FIRST_BEACON + number))
        return Told("ADDED", _running(self._bare(f"beacon-{number}", 0), "node-1", address), address)

    def _bare(self, name: str, workload: int) -> Value:
        labels = {"app": f"app-{workload}", "tier": "bench", "pod-template-hash": f"{workload:08x}"}
        metadata = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "labels": labels}
        ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
        spec = {"serviceAccountName": "default", "containers": [{"name": "app", "ports": ports}]}
        return {"metadata": metadata, "spec": spec}

    def _node(self, index: int) -> Value:
        name = NODE if index == 0 else f"node-{index}"
        address = str(IPv4Address(int(IPv4Address("172.20.0.1")) + index))
        addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
        return {"metadata": {"name": name}, "spec": {}, "status": {"addresses": addresses}}


def _manifests(scale: KubeScale) -> dict[str, list[Value]]:
    """The policies of the other benchmarks, and a cluster's DNS."""
    import yaml

    made = BenchCluster(Scale(endpoints=0, policies=scale.policies, replicas=1))
    made.workloads = max(1, scale.pods // 10)
    kinds = ("Namespace", "Pod", "Service", "EndpointSlice", "NetworkPolicy", "CiliumNetworkPolicy")
    found: dict[str, list[Value]] = {kind: [] for kind in kinds}
    for text in made.manifests().values():
        for value in yaml.load_all(text, Loader=located.Loader):
            if value["kind"] in found:
                found[value["kind"]].append(value)
    return found


def _running(bare: Value, node: str, address: str) -> Value:
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "172.20.0.9"}
    return {**bare, "spec": {**bare["spec"], "nodeName": node}, "status": status}


def _with(value: Value, **metadata: Any) -> Value:
    return {**value, "metadata": {**value["metadata"], **metadata}}


def as_json(value: Value, version: int, kind: str = "", api_version: str = "") -> bytes:
    """With its version, and for pods filled up to the size of real ones."""
    metadata = {**value["metadata"], "resourceVersion": str(version)}
    named = {"kind": kind, "apiVersion": api_version} if kind else {}
    filled = {**named, **value, "metadata": metadata}
    if "containers" in value.get("spec", {}):
        size = len(json.dumps(filled))
        metadata["managedFields"] = [{"manager": "kubelet", "fieldsV1": _filling(POD_BYTES - size)}]
    return json.dumps(filled, separators=(",", ":")).encode()


def _filling(size: int) -> Value:
    """As managedFields are: many small keys."""
    return {f"f:field-{number:03}": {"f:a": {}, ".": {}} for number in range(max(0, size) // 40)}
