"""Who is at which address: the index of a cluster that resolving asks, kept up to date from one cluster to
the next.

It knows the endpoints (pods that own an address) with their labels, the nodes' addresses and the Services. An
address that several live pods claim has all of them; addresses of finished and of hostNetwork pods are
nobody's own. A node is also at the first address of each of its pod CIDRs, its pods' gateway (as host-local
IPAM gives it out), unless a pod has that one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from acns.policy.anchors import pairs_of
from acns.policy.changes import Change, Moves, between
from acns.policy.cluster import Cluster
from acns.policy.label_sets import LabelSet, LabelSets
from acns.policy.model import Endpoint
from acns.policy.objects import NamedPort, Namespace, Node, Pod
from acns.policy.selectors import Labels, Selector, pod_labels
from acns.policy.services import PROTOCOL_NUMBERS, Services

HOST_IDENTITY = "reserved:host"
REMOTE_NODE_IDENTITY = "reserved:remote-node"
WORLD_IDENTITY = "reserved:world"

_LONGEST_POD_CIDR = 30  # a shorter range has no address to spare for a gateway


@dataclass(frozen=True, slots=True)
class Resident:
    """A pod that owns (or claims) its address: what policy sees of it."""

    endpoint: Endpoint
    node_name: str
    named_ports: tuple[NamedPort, ...]
    label_set: LabelSet = field(compare=False)  # the endpoint's labels, arranged for look-ups

    @property
    def key(self) -> str:
        return self.endpoint.key

    @property
    def labels(self) -> Labels:
        return self.label_set.labels

    @property
    def identity(self) -> str:
        return self.label_set.identity


class Directory:
    """The index. `residents`: address → who claims it, by name; mostly one."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.cluster = Cluster()
        self.residents: dict[IPv4Address, tuple[Resident, ...]] = {}
        self.nodes: dict[str, frozenset[IPv4Address]] = {}
        self.node_addresses: frozenset[IPv4Address] = frozenset()
        self.cluster_addresses: frozenset[IPv4Address] = frozenset()
        self.services = Services()
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._gateways: frozenset[IPv4Address] = frozenset()
        self._label_sets = LabelSets()
        if cluster is not None:
            self.update(cluster)

    def update(self, cluster: Cluster) -> Moves:
        """Take over a newer cluster."""
        old, self.cluster = self.cluster, cluster
        pods = between(old.pods, cluster.pods)
        renamed = self._relabel(between(old.namespaces, cluster.namespaces))
        moved = [pod for pod in cluster.pods if pod.namespace in renamed] if renamed else []
        before = self._resettle(pods.gone, [*pods.come, *moved])
        nodes = self._settle_nodes(between(old.nodes, cluster.nodes), pods, before.keys())
        if nodes or any(bool(was) != (address in self.residents) for address, was in before.items()):
            self.cluster_addresses = self.node_addresses.union(self.residents)
        services, slices = between(old.services, cluster.services), between(old.slices, cluster.slices)
        seen = [each for address, was in before.items() for each in (*was, *self.residents.get(address, ()))]
        return Moves(
            addresses=frozenset(before),
            port_names=frozenset(port.name for each in seen for port in each.named_ports),
            labels=frozenset(
                pair for one in {each.label_set for each in seen} for pair in pairs_of(one.labels)
            ),
            backends=self.services.update(services, slices),
            nodes=nodes,
            services=bool(services or slices),
            cidr_groups=bool(between(old.cidr_groups, cluster.cidr_groups)),
            policies=between(old.policies, cluster.policies),
        )

    def everybody(self) -> Iterator[Resident]:
        """All residents, claimants of one address each for itself."""
        return (each for claimants in self.residents.values() for each in claimants)

    def candidates(self, selector: Selector) -> Collection[IPv4Address]:
        """The addresses of all pods that `selector` may match."""
        return set[IPv4Address]().union(*(one.addresses for one in self._label_sets.matching(selector)))

    def addresses_of(self, node_name: str) -> frozenset[IPv4Address]:
        """A node's own addresses."""
        return self.nodes.get(node_name, frozenset())

    def identity_at(self, address: IPv4Address, node_name: str) -> str:
        """The identity key of who is at `address`, as `node_name` sees it: a node, whoever claims its
        address; of several pods the first by name."""
        if address in self.node_addresses:
            return HOST_IDENTITY if address in self.addresses_of(node_name) else REMOTE_NODE_IDENTITY
        claimants = self.residents.get(address)
        return claimants[0].identity if claimants else WORLD_IDENTITY

    # --- pods ------------------------------------------------------------------------------------------

    def _relabel(self, namespaces: Change[Namespace]) -> set[str]:
        """The names of the namespaces whose labels are others now."""
        touched = {each.name: self._namespaces.get(each.name, {}) for each in namespaces.objects}
        for gone in namespaces.gone:
            self._namespaces.pop(gone.name, None)
        for come in namespaces.come:
            self._namespaces[come.name] = come.labels
        return {name for name, labels in touched.items() if self._namespaces.get(name, {}) != labels}

    def _resettle(self, gone: Iterable[Pod], come: Iterable[Pod]) -> dict[IPv4Address, tuple[Resident, ...]]:
        """Move pods out and in; returns who was where it is not as before. Residents that are as they were
        stay the same objects."""
        before: dict[IPv4Address, tuple[Resident, ...]] = {}
        for pod in gone:
            if address := _own_address(pod):
                before.setdefault(address, self.residents.get(address, ()))
                self._settle(address, self._others(address, pod))
        for pod in come:
            if address := _own_address(pod):
                before.setdefault(address, self.residents.get(address, ()))
                resident = self._resident(pod, address)
                self._settle(
                    address, sorted([*self._others(address, pod), resident], key=lambda one: one.key)
                )
        same = [address for address, was in before.items() if self.residents.get(address, ()) == was]
        for address in same:
            self._settle(address, before.pop(address))
        for address, was in before.items():
            self._carry(address, was, self.residents.get(address, ()))
        self._label_sets.settle()
        return before

    def _carry(self, address: IPv4Address, old: Iterable[Resident], new: Iterable[Resident]) -> None:
        """Keep the index of labels."""
        for each in old:
            self._label_sets.leave(each.label_set, address)
        for each in new:
            self._label_sets.enter(each.label_set, address)

    def _others(self, address: IPv4Address, pod: Pod) -> list[Resident]:
        return [each for each in self.residents.get(address, ()) if each.key != pod.key]

    def _settle(self, address: IPv4Address, claimants: Iterable[Resident]) -> None:
        if found := tuple(claimants):
            self.residents[address] = found
        else:
            self.residents.pop(address, None)

    def _resident(self, pod: Pod, address: IPv4Address) -> Resident:
        # The API server gives this label to every namespace.
        inherited = {"kubernetes.io/metadata.name": pod.namespace, **self._namespaces.get(pod.namespace, {})}
        labels = pod_labels(pod.labels, pod.namespace, pod.service_account, inherited)
        label_set = self._label_sets.of(labels)
        endpoint = Endpoint(pod.namespace, pod.name, address, label_set.labels.texts)
        ports = tuple(port for port in pod.named_ports if port.protocol in PROTOCOL_NUMBERS)
        return Resident(endpoint, pod.node_name, ports, label_set)

    # --- nodes -----------------------------------------------------------------------------------------

    def _settle_nodes(self, nodes: Change[Node], pods: Change[Pod], moved: Iterable[IPv4Address]) -> bool:
        """Whether some node has other addresses than before."""
        on_host = any(pod.host_network for pod in pods.objects)
        if not nodes and not on_host and self._gateways.isdisjoint(moved):
            return False
        gateways = dict(_gateways(self.cluster.nodes))
        self._gateways = frozenset().union(*gateways.values())
        found = _node_addresses(self.cluster)
        for name, addresses in gateways.items():
            # Not `-`, which would look at all residents for each node.
            found[name] |= {one for one in addresses if one not in self.residents}
        old, self.nodes = self.nodes, {name: frozenset(addresses) for name, addresses in found.items()}
        self.node_addresses = frozenset().union(*self.nodes.values())
        return self.nodes != old


def _own_address(pod: Pod) -> IPv4Address | None:
    return pod.pod_ip if pod.is_endpoint else None


def _node_addresses(cluster: Cluster) -> dict[str, set[IPv4Address]]:
    """Per node what its object says, and the address that its hostNetwork pods show."""
    found = {node.name: set(node.addresses) for node in cluster.nodes}
    for pod in cluster.pods:
        if pod.host_network and pod.pod_ip is not None and pod.node_name:
            found.setdefault(pod.node_name, set()).add(pod.pod_ip)
    return found


def _gateways(nodes: Iterable[Node]) -> Iterator[tuple[str, frozenset[IPv4Address]]]:
    for node in nodes:
        cidrs = (cidr for cidr in node.pod_cidrs if cidr.prefixlen <= _LONGEST_POD_CIDR)
        yield node.name, frozenset(cidr[1] for cidr in cidrs)
