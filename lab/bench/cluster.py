"""A cluster of any size for measurements: manifests as an API server would have them, and what DNS would say.

Everything follows from the `Scale` and its seed, so two runs measure the same thing, and a part (one pod, one
policy) can be made again with a change. The shape is what large clusters have: workloads of a few replicas
with equal labels, policies that select workloads by label, most of them with names of their own. All pods are
on one node, but for the DNS server's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from acns import scalars

Manifest = dict[str, Any]

NODE, OTHER_NODE = "node1", "node2"
NODE_ADDRESS, OTHER_NODE_ADDRESS = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")
DNS_SERVICE, DNS_POD = IPv4Address("10.96.0.10"), IPv4Address("10.245.0.53")
ZONE = "bench.example.com"
NAMESPACE = "shop"
WEB_PORT = 8080

_PODS = int(IPv4Address("10.244.0.2"))
_ADDRESSES = int(IPv4Address("198.18.0.0")), 1 << 17  # RFC 2544
_NAMES_PER_PATTERN = 2


@dataclass(frozen=True, slots=True)
class Scale:
    """How large. `selectors` and `addresses` are totals, spread evenly; `replicas`: pods of equal labels."""

    endpoints: int = 250
    policies: int = 500
    selectors: int = 2_000
    addresses: int = 20_000
    replicas: int = 5
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says of one name."""

    name: str
    addresses: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class _Selector:
    """One `toFQDNs` entry and the names under it."""

    entry: tuple[str, str]
    names: tuple[str, ...]


class BenchCluster:
    """The objects and the names of one scale."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.workloads = max(1, scale.endpoints // scale.replicas)

    # --- manifests -------------------------------------------------------------------------------------

    def manifests(self) -> dict[str, str]:
        """File name → YAML text: one file for each pod and each policy, one for the rest."""
        pods = {self.pod_file(index): self.pod(index) for index in range(self.scale.endpoints)}
        policies = {f"policy-{index:04}.yaml": self.policy(index) for index in range(self.scale.policies)}
        return {"cluster.yaml": _text(*_surroundings()), **pods, **policies}

    def write(self, folder: Path) -> None:
        """All manifests, as files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.manifests().items():
            (folder / name).write_text(text)

    def pod_file(self, index: int) -> str:
        return f"pod-{index:04}.yaml"

    def pod_address(self, index: int) -> IPv4Address:
        return IPv4Address(_PODS + index)

    def pod(self, index: int, workload: int | None = None) -> str:
        """One pod's manifest; with `workload` it carries the labels of that one instead of its own."""
        app = self._app(index % self.workloads if workload is None else workload)
        address = str(self.pod_address(index))
        container = {"name": "app", "ports": [{"name": "http", "containerPort": WEB_PORT, "protocol": "TCP"}]}
        return _text(
            _object(
                "v1",
                "Pod",
                {"name": f"pod-{index}", "namespace": NAMESPACE, "labels": {"app": app, "tier": "bench"}},
                spec={"nodeName": NODE, "serviceAccountName": "default", "containers": [container]},
                status={"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
            )
        )

    def policy(self, index: int) -> str:
        """One policy. Of each workload's policies every tenth is Kubernetes' own NetworkPolicy, the
        others name FQDNs."""
        rng = random.Random(f"{self.scale.seed} policy {index}")
        app, peer = self._app(index % self.workloads), self._app(rng.randrange(self.workloads))
        if self._is_plain(index):
            return _text(_network_policy(index, app, peer))
        egress = [*self._names(index), _to_app(peer, WEB_PORT)]
        if rng.random() < 0.2:
            egress.append(_to_network(rng))
        metadata = {"name": f"policy-{index}", "namespace": NAMESPACE}
        ingress = [
            {"fromEndpoints": [_labels(peer)], "toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}
        ]
        spec = {"endpointSelector": _labels(app), "egress": egress, "ingress": ingress}
        return _text(_object("cilium.io/v2", "CiliumNetworkPolicy", metadata, spec=spec))

    # --- names -----------------------------------------------------------------------------------------

    def answers(self) -> Iterator[Answer]:
        """What pods would learn: `addresses` in all, each selector its share."""
        names = [name for selectors in self._selectors.values() for one in selectors for name in one.names]
        first, count = _ADDRESSES
        for number, name in enumerate(names):
            mine = range(number, self.scale.addresses, len(names))
            yield Answer(name, tuple(IPv4Address(first + each % count) for each in mine))

    def asking_pod(self, name: str) -> IPv4Address:
        """A pod whose policies let it ask for the name."""
        policy = int(name.split(".")[-4].removeprefix("p"))
        return self.pod_address(policy % self.workloads)

    @cached_property
    def _selectors(self) -> Mapping[int, list[_Selector]]:
        """Policy → its selectors; every fourth is a pattern."""
        naming = [index for index in range(self.scale.policies) if not self._is_plain(index)]
        found: dict[int, list[_Selector]] = {index: [] for index in naming}
        for number in range(self.scale.selectors if naming else 0):
            policy = naming[number % len(naming)]
            zone = f"p{policy}.{ZONE}"
            if number // len(naming) % 4 == 3:
                names = tuple(f"n{each}.s{number}.{zone}" for each in range(_NAMES_PER_PATTERN))
                found[policy].append(_Selector(("matchPattern", f"*.s{number}.{zone}"), names))
            else:
                name = f"s{number}.{zone}"
                found[policy].append(_Selector(("matchName", name), (name,)))
        return found

    def _names(self, policy: int) -> list[Manifest]:
        entries = [dict([one.entry]) for one in self._selectors[policy]]
        if not entries:
            return []
        dns = {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": entries}}
        server = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}
        https = {"ports": [{"port": "443", "protocol": "TCP"}]}
        return [
            {"toEndpoints": [server], "toPorts": [dns]},
            {"toFQDNs": entries, "toPorts": [https]},
        ]

    def _is_plain(self, policy: int) -> bool:
        return policy // self.workloads % 10 == 9

    def _app(self, workload: int) -> str:
        return f"app-{workload}"


def _network_policy(index: int, app: str, peer: str) -> Manifest:
    selector = {"podSelector": _labels(peer)}
    ports = [{"protocol": "TCP", "port": WEB_PORT}]
    spec = {
        "podSelector": _labels(app),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [selector], "ports": ports}],
        "egress": [{"to": [selector], "ports": ports}],
    }
    metadata = {"name": f"policy-{index}", "namespace": NAMESPACE}
    return _object("networking.k8s.io/v1", "NetworkPolicy", metadata, spec=spec)


def _labels(app: str) -> Manifest:
    return {"matchLabels": {"app": app}}


def _to_app(app: str, port: int) -> Manifest:
    ports = [{"port": str(port), "protocol": "TCP"}]
    return {"toEndpoints": [_labels(app)], "toPorts": [{"ports": ports}]}


def _to_network(rng: random.Random) -> Manifest:
    network = f"203.0.113.{rng.randrange(8) * 32}/27"
    ports = [{"port": str(rng.choice((443, 5432, 6379))), "protocol": "TCP"}]
    return {"toCIDRSet": [{"cidr": network}], "toPorts": [{"ports": ports}]}


def _surroundings() -> Iterator[Manifest]:
    """Namespaces, nodes, and the cluster's DNS: a Service, its EndpointSlice and its pod on another node."""
    for name in (NAMESPACE, "kube-system"):
        yield _object("v1", "Namespace", {"name": name, "labels": {"kubernetes.io/metadata.name": name}})
    for name, address in ((NODE, NODE_ADDRESS), (OTHER_NODE, OTHER_NODE_ADDRESS)):
        addresses = [{"type": "InternalIP", "address": str(address)}]
        yield _object("v1", "Node", {"name": name}, status={"addresses": addresses})
    ports = [{"name": name, "port": 53, "protocol": protocol} for name, protocol in _DNS_PORTS]
    backend = {"addresses": [str(DNS_POD)], "conditions": {"ready": True}, "nodeName": OTHER_NODE}
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    yield _object(
        "v1",
        "Pod",
        {**metadata, "labels": {"k8s-app": "kube-dns"}},
        spec={"nodeName": OTHER_NODE, "serviceAccountName": "coredns", "containers": [{"name": "dns"}]},
        status={"phase": "Running", "podIP": str(DNS_POD), "podIPs": [{"ip": str(DNS_POD)}]},
    )
    yield _object(
        "v1",
        "Service",
        metadata,
        spec={"clusterIP": str(DNS_SERVICE), "ports": ports, "selector": {"k8s-app": "kube-dns"}},
    )
    yield _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        addressType="IPv4",
        endpoints=[backend],
        ports=ports,
    )


_DNS_PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))


def _object(version: str, kind: str, metadata: Manifest, **parts: Any) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}


def _text(*manifests: Manifest) -> str:
    return yaml.dump_all(manifests, Dumper=scalars.ManifestDumper, sort_keys=False, explicit_start=True)
