"""Every address of a lab, worked out from the topology alone.

Pure, so that manifests, DNS files, links and tests all agree without asking a running lab. The numbers
are those of a kind cluster: an underlay of 172.18.0.0/24 whose .1 is the router to the Internet, one
10.244.N.0/24 of pods per node with its .1 on the node's side of every pod's veth, Services in 10.96.0.0/16.
Pods have IPv6 too (fd00:10:244:N::/64): what an IPv4-only policy does with it can only be shown where it
would work. Addresses written in the topology are kept; the others are given out from .2 upwards in the
file's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from itertools import chain

from acns.errors import InputError
from lab.spec.topology import Pod, Topology

UNDERLAY = IPv4Network("172.18.0.0/24")
UNDERLAY_V6 = IPv6Network("fd00:172:18::/64")
CLUSTER_DOMAIN = "cluster.local"
PODS = IPv4Network("10.244.0.0/16")
PODS_V6 = IPv6Network("fd00:10:244::/48")
SERVICES = IPv4Network("10.96.0.0/16")
MAX_NODES = 200
"""The underlay is a /24: .1 is the router, the rest leaves room."""
MAX_PODS = 253
"""Of one node: its pods are in a /24, whose .1 is their gateway."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """Addresses of one node. `index` is N of its pod networks."""

    name: str
    index: int

    @property
    def address(self) -> IPv4Address:
        return UNDERLAY[2 + self.index]

    @property
    def address_v6(self) -> IPv6Address:
        return UNDERLAY_V6[2 + self.index]

    @property
    def underlay(self) -> IPv4Interface:
        """The address of `eth0` with its prefix length."""
        return IPv4Interface((self.address, UNDERLAY.prefixlen))

    @property
    def underlay_v6(self) -> IPv6Interface:
        return IPv6Interface((self.address_v6, UNDERLAY_V6.prefixlen))

    @property
    def pod_cidr(self) -> IPv4Network:
        return IPv4Network((int(PODS.network_address) + (self.index << 8), 24))

    @property
    def pod_cidr_v6(self) -> IPv6Network:
        return IPv6Network((int(PODS_V6.network_address) + (self.index << 64), 64))

    @property
    def pod_gateway(self) -> IPv4Address:
        """What every pod of the node has as gateway: a /32 on the node's side of each veth."""
        return self.pod_cidr[1]

    @property
    def pod_gateway_v6(self) -> IPv6Address:
        return self.pod_cidr_v6[1]


@dataclass(frozen=True, slots=True)
class PodPlan:
    """Addresses of one pod, and the name of the node's end of its veth."""

    name: str
    namespace: str
    node: str
    address: IPv4Address
    address_v6: IPv6Address

    @property
    def key(self) -> str:
        """`namespace/name`: unique in the lab."""
        return f"{self.namespace}/{self.name}"

    @property
    def node_interface(self) -> str:
        return veth_name(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Addressing:
    """The addresses of a topology; the order of nodes and pods is the file's."""

    nodes: tuple[NodePlan, ...]
    pods: tuple[PodPlan, ...]
    internet: tuple[IPv4Address, ...]
    """IPv4 addresses on the Internet namespace's `lo`, its DNS servers' first."""
    internet_v6: tuple[IPv6Address, ...]
    internet_dns: IPv4Address
    gateway: IPv4Address = UNDERLAY[1]
    """The Internet's router as the nodes see it."""
    gateway_v6: IPv6Address = UNDERLAY_V6[1]

    @classmethod
    def of(cls, topology: Topology) -> Addressing:
        """Raises InputError when a network is too small; what else is wrong is `lab.spec.load`'s to say."""
        if len(topology.nodes) > MAX_NODES:
            raise InputError(f"{len(topology.nodes)} nodes, a lab has room for {MAX_NODES}")
        nodes = tuple(NodePlan(node.name, index) for index, node in enumerate(topology.nodes))
        taken = {pod.address for pod in topology.pods if pod.address is not None}
        free = {node.name: _free_addresses(node, taken) for node in nodes}
        by_name = {node.name: node for node in nodes}
        internet = topology.internet
        names = [records for _, records in internet.all_names()]
        servers = [internet.dns, *(server.address for server in internet.servers)]
        v4 = dict.fromkeys(chain(servers, *(name.a for name in names)))
        v6 = dict.fromkeys(chain.from_iterable(name.aaaa for name in names))
        pods = tuple(_place(pod, by_name[pod.node], free[pod.node]) for pod in topology.pods)
        return cls(nodes, pods, tuple(v4), tuple(v6), topology.internet.dns)

    def node(self, name: str) -> NodePlan:
        """The node of that name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def pod(self, name: str) -> PodPlan:
        """The pod called `name` or `namespace/name`; KeyError when there is none or more than one."""
        found = [pod for pod in self.pods if name in (pod.key, pod.name)]
        if len(found) != 1:
            raise KeyError(name)
        return found[0]

    def pods_of(self, node: str) -> tuple[PodPlan, ...]:
        return tuple(pod for pod in self.pods if pod.node == node)


def veth_name(namespace: str, pod: str) -> str:
    """`veth` + 8 hex digits, as a container runtime names the node's end; stable for a pod's name."""
    return "veth" + hashlib.sha256(f"{namespace}/{pod}".encode()).hexdigest()[:8]


def _free_addresses(node: NodePlan, taken: set[IPv4Address]) -> Iterator[IPv4Address]:
    hosts = node.pod_cidr.hosts()
    return (address for address in hosts if address != node.pod_gateway and address not in taken)


def _place(pod: Pod, node: NodePlan, free: Iterator[IPv4Address]) -> PodPlan:
    address = pod.address or next(free, None)
    if address is None:
        raise InputError(
            f"pod {pod.name}: node {node.name} has no address left in {node.pod_cidr}",
            hint="put some of its pods on another node",
        )
    return PodPlan(pod.name, pod.namespace, node.name, address, _twin(node, address))


def _twin(node: NodePlan, address: IPv4Address) -> IPv6Address:
    """The IPv6 address that ends as the IPv4 one does, so that a reader sees the pair."""
    return node.pod_cidr_v6[int(address) & 0xFF]
