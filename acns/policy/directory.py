"""Who is at which address: the index of a cluster that resolving asks.

Built once per cluster. It knows the endpoints (pods that own an address) with their labels, the nodes'
addresses, and the *fronts*: a Service's ClusterIP and port with the backends behind it. Addresses of finished
and of hostNetwork pods are nobody's own and select nothing; of two pods that claim the same address the first
by name counts, and `doubles` has the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.policy.cluster import Cluster
from acns.policy.model import Endpoint, identity_key
from acns.policy.objects import EndpointSlice, Pod, Service, Spec
from acns.policy.selectors import Labels, Selector, pod_labels

PROTOCOL_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}

HOST_IDENTITY = "reserved:host"
REMOTE_NODE_IDENTITY = "reserved:remote-node"
WORLD_IDENTITY = "reserved:world"

Backend = tuple[IPv4Address, int]  # address, port
FrontKey = tuple[IPv4Address, int, int]  # address, protocol number, port


@dataclass(frozen=True, slots=True)
class Resident:
    """A pod that owns its address, with its labels."""

    pod: Pod
    address: IPv4Address
    labels: Labels

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.pod.namespace, self.pod.name, self.address, self.labels.texts)


@dataclass(frozen=True, slots=True)
class Front:
    """One port of a Service as pods see it, before translation. Backends count whether ready or not: what a
    policy means must not change with every readiness probe."""

    service: str
    address: IPv4Address
    protocol: int
    port: int
    backends: frozenset[Backend]

    @property
    def key(self) -> FrontKey:
        return (self.address, self.protocol, self.port)


class Directory:
    """The index. Nothing in it changes after it is made; selections are remembered."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.residents: dict[IPv4Address, Resident] = {}
        self.doubles: list[tuple[Pod, Pod]] = []
        namespace_labels = _namespace_labels(cluster)
        for pod in cluster.pods:
            self._add_pod(pod, namespace_labels.get(pod.namespace, {}))
        self.nodes = _node_addresses(cluster)
        self.fronts = {front.key: front for front in _fronts(cluster)}
        self.node_addresses = frozenset().union(*self.nodes.values())
        self.cluster_addresses = self.node_addresses.union(self.residents)
        self.service_addresses = frozenset(
            address for service in cluster.services for address in service.cluster_ips
        )
        self._specs: dict[Selector, list[tuple[int, Spec]]] = {}
        for number, spec in enumerate(spec for policy in cluster.policies for spec in policy.specs):
            self._specs.setdefault(spec.subject, []).append((number, spec))
        self._selected: dict[Selector, frozenset[IPv4Address]] = {}

    def _add_pod(self, pod: Pod, namespace_labels: Mapping[str, str]) -> None:
        if not pod.is_endpoint or pod.pod_ip is None:
            return
        if first := self.residents.get(pod.pod_ip):
            self.doubles.append((pod, first.pod))
            return
        # The API server gives this label to every namespace.
        inherited = {"kubernetes.io/metadata.name": pod.namespace, **namespace_labels}
        labels = pod_labels(pod.labels, pod.namespace, pod.service_account, inherited)
        self.residents[pod.pod_ip] = Resident(pod, pod.pod_ip, labels)

    def on_node(self, node_name: str) -> list[Resident]:
        """The endpoints of a node, sorted by key."""
        local = (each for each in self.residents.values() if each.pod.node_name == node_name)
        return sorted(local, key=lambda resident: resident.pod.key)

    def selected(self, selector: Selector) -> frozenset[IPv4Address]:
        """The addresses of all pods, on any node, that `selector` matches."""
        if selector not in self._selected:
            self._selected[selector] = frozenset(
                address for address, resident in self.residents.items() if selector.matches(resident.labels)
            )
        return self._selected[selector]

    def specs_for(self, resident: Resident) -> list[Spec]:
        """What applies to an endpoint, in the order of policies. Many policies share few selectors."""
        numbered = [
            each
            for subject, specs in self._specs.items()
            if subject.matches(resident.labels)
            for each in specs
        ]
        return [spec for _, spec in sorted(numbered, key=lambda each: each[0])]

    def addresses_of(self, node_name: str) -> frozenset[IPv4Address]:
        """A node's own addresses."""
        return self.nodes.get(node_name, frozenset())

    def identity_at(self, address: IPv4Address, node_name: str) -> str:
        """The identity key of who is at `address`, as `node_name` sees it."""
        if resident := self.residents.get(address):
            return identity_key(resident.labels.texts)
        if address in self.addresses_of(node_name):
            return HOST_IDENTITY
        return REMOTE_NODE_IDENTITY if address in self.node_addresses else WORLD_IDENTITY


def _namespace_labels(cluster: Cluster) -> dict[str, Mapping[str, str]]:
    return {namespace.name: namespace.labels for namespace in cluster.namespaces}


def _node_addresses(cluster: Cluster) -> dict[str, frozenset[IPv4Address]]:
    """Per node what its object says, and the address that its hostNetwork pods show."""
    found = {node.name: set(node.addresses) for node in cluster.nodes}
    for pod in cluster.pods:
        if pod.host_network and pod.pod_ip is not None and pod.node_name:
            found.setdefault(pod.node_name, set()).add(pod.pod_ip)
    return {name: frozenset(addresses) for name, addresses in found.items()}


def _fronts(cluster: Cluster) -> Iterator[Front]:
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for each in cluster.slices:
        slices.setdefault((each.namespace, each.service), []).append(each)
    for service in cluster.services:
        yield from _fronts_of(service, slices.get((service.namespace, service.name), []))


def _fronts_of(service: Service, slices: list[EndpointSlice]) -> Iterator[Front]:
    for port in service.ports:
        number = PROTOCOL_NUMBERS.get(port.protocol)
        if number is None:
            continue
        backends = frozenset(
            (address, target.port)
            for each in slices
            for target in each.ports
            # Slices repeat the name of the Service's port; an unnamed one is the only one.
            if (target.name, target.protocol) == (port.name, port.protocol)
            for endpoint in each.endpoints
            for address in endpoint.addresses
        )
        for address in service.cluster_ips:
            yield Front(service.key, address, number, port.port, backends)
