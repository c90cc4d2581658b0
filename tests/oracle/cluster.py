"""A cluster as its manifests say, and the plain facts about it that need no policy.

Nothing here is a value of the product: manifests are dicts as YAML reads them. What is said twice, here
and in the product, is said twice on purpose: that is what makes a comparison worth something.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import yaml

Manifest = dict[str, Any]

POLICY_KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy")


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, as it leaves its sender.

    `port` is the type for ICMP and means nothing for other portless protocols. `backend` is what the Service
    translation makes of the destination, None where it is no Service's. `name` is what it asks if it is a DNS
    query.
    """

    source: str
    destination: str
    protocol: str  # TCP, UDP, SCTP, ICMP, GRE
    port: int = 0
    backend: tuple[str, int] | None = None
    name: str = ""

    @property
    def target(self) -> tuple[str, int]:
        """Where it goes after Service translation: what policy judges."""
        return self.backend or (self.destination, self.port)

    def __str__(self) -> str:
        behind = f" (backend {self.backend[0]}:{self.backend[1]})" if self.backend else ""
        asks = f" asking {self.name}" if self.name else ""
        return f"{self.protocol} {self.source} -> {self.destination}:{self.port}{behind}{asks}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Manifests, the agents' enforcement mode, and which names have been looked up: name → addresses."""

    manifests: tuple[Manifest, ...]
    enforcement: str = "default"
    learned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def kind(self, *kinds: str) -> Iterator[Manifest]:
        return (one for one in self.manifests if one["kind"] in kinds)

    def policies(self) -> Iterator[Manifest]:
        return self.kind(*POLICY_KINDS)

    def text(self) -> str:
        """What a user would write."""
        return yaml.dump_all(self.manifests, Dumper=_Dumper, sort_keys=False)

    def endpoints(self) -> list[Manifest]:
        """Pods that own an address: finished ones keep theirs in `status` only, and those on the host's
        network have none."""
        return [
            pod
            for pod in self.kind("Pod")
            if pod["status"].get("podIP")
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
            and not pod["spec"].get("hostNetwork")
        ]

    def node_addresses(self, node: Manifest) -> set[str]:
        """A node's own addresses, its pods' gateway (the first host address of each pod CIDR) included."""
        listed = {one["address"] for one in node["status"]["addresses"] if one["type"].endswith("IP")}
        gateways = {str(IPv4Network(cidr)[1]) for cidr in node["spec"].get("podCIDRs", [])}
        return listed | gateways

    def backends(
        self, service: Manifest, port: Manifest, *, ready_only: bool = True
    ) -> list[tuple[str, int]]:
        """Where kube-proxy may send a connection to this port of the Service: its ready endpoints."""
        found = []
        for one in self.slices(service):
            numbers = [
                each["port"]
                for each in one["ports"]
                if each.get("name", "") == port.get("name", "")
                and each.get("protocol", "TCP") == port.get("protocol", "TCP")
            ]
            for endpoint in one["endpoints"]:
                if not ready_only or endpoint.get("conditions", {}).get("ready", True):
                    found += [(address, number) for address in endpoint["addresses"] for number in numbers]
        return found

    def slices(self, service: Manifest) -> list[Manifest]:
        meta = service["metadata"]
        return [
            one
            for one in self.kind("EndpointSlice")
            if one["metadata"]["namespace"] == meta["namespace"]
            and one["metadata"]["labels"].get("kubernetes.io/service-name") == meta["name"]
        ]

    def service_ports(self) -> Iterator[tuple[str, Manifest, Manifest]]:
        """ClusterIP, the Service, one of its ports."""
        for service in self.kind("Service"):
            address = service["spec"].get("clusterIP", "None")
            if address != "None":
                yield from ((address, service, port) for port in service["spec"]["ports"])

    def claimants(self, address: str) -> list[Manifest]:
        """The live pods that have this address."""
        return [pod for pod in self.endpoints() if pod["status"]["podIP"] == address]


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Without anchors: every object is written out, as people do. Texts are quoted, so all readers agree."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _quoted(dumper: Any, value: str) -> yaml.Node:
    node: yaml.Node = dumper.represent_scalar("tag:yaml.org,2002:str", value, style="'")
    return node


_Dumper.add_representer(str, _quoted)


def within(address: str, cidr: str) -> bool:
    """Whether a CIDR (a bare address is a /32; host bits count for nothing) holds an IPv4 address."""
    return ":" not in cidr and IPv4Address(address) in IPv4Network(cidr, strict=False)
