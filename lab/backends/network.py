"""A lab's network: namespaces, links, addresses and routes, shaped as a kind cluster's.

The holder's own namespace holds nothing but the underlay bridge. On it stand the nodes and the Internet's
router. Each pod hangs on its node by a veth in the style of the `ptp` plugin: a /32 gateway on the node's
end, a `scope host` route per pod, everything the pod sends routed by its node. Nodes reach each other's
pods through the underlay. IPv6 runs beside it on the same links, so that what blocks it can be seen to
block.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

from lab.errors import AcnsError
from lab.kernel import links, netns
from lab.kernel.links import End, Links
from lab.kernel.netns import Namespace
from lab.kernel.rtnetlink import SCOPE_LINK, Address, Route
from lab.spec.plan import UNDERLAY, UNDERLAY_V6, Addressing, NodePlan, PodPlan

BRIDGE = "underlay"
INTERNET = "internet"
_BRIDGE_INDEX = 2
_ETH0_INDEX = 2
_FIRST_INDEX = 10

InternetAddress = IPv4Address | IPv6Address

_HOLDER_SYSCTLS = {"net/ipv6/conf/default/disable_ipv6": 1, "net/bridge/bridge-nf-call-iptables": 0}
_HOST_SYSCTLS = {
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/ip_unprivileged_port_start": 0,
    "net/ipv6/conf/all/disable_ipv6": 0,
    "net/ipv6/conf/default/disable_ipv6": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/accept_ra": 0,
}
_NODE_SYSCTLS = {
    # Written first: turning forwarding on resets other parameters.
    "net/ipv4/ip_forward": 1,
    "net/ipv6/conf/all/forwarding": 1,
    **_HOST_SYSCTLS,
    "net/ipv4/conf/all/rp_filter": 1,
    "net/ipv4/conf/default/rp_filter": 1,
    "net/ipv4/conf/lo/rp_filter": 0,
    "net/ipv4/conf/all/src_valid_mark": 0,
    "net/ipv4/conf/all/route_localnet": 1,
    "net/ipv4/conf/all/accept_local": 0,
    "net/ipv4/ip_nonlocal_bind": 0,
    "net/netfilter/nf_conntrack_tcp_be_liberal": 1,
}
"""As recorded on a kind node with kube-proxy."""


@dataclass(frozen=True, slots=True)
class EtcFiles:
    """Files (on the machine's disk) that one namespace shall see under /etc."""

    resolv_conf: Path
    hosts: Path
    nsswitch: Path


@dataclass(slots=True)
class Network:
    """The namespaces of a lab by place: `underlay`, `internet`, `node/NAME`, `pod/NAMESPACE/NAME`.

    Nodes and pods come and go, with their links; what stays is not touched.
    """

    namespaces: dict[str, Namespace] = field(default_factory=dict)
    nodes: dict[str, NodePlan] = field(default_factory=dict)
    """The nodes that are there, by name."""
    pods: dict[str, PodPlan] = field(default_factory=dict)
    """The pods that are there, by key."""
    _owned: set[InternetAddress] = field(default_factory=set)
    _ports: dict[str, int] = field(default_factory=dict)
    """Interface numbers of the veths, on the bridge and on nodes, by the place of the other end."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(_FIRST_INDEX))

    def begin(self, addressing: Addressing, etc: EtcFiles) -> None:
        """The underlay, and the Internet's router on it."""
        self.namespaces[BRIDGE] = netns.own()
        links.set_sysctls(_HOLDER_SYSCTLS)
        self._make(INTERNET, INTERNET, etc, _HOST_SYSCTLS)
        with Links() as underlay:
            underlay.up(links.LOOPBACK_INDEX)
            underlay.bridge(BRIDGE, _BRIDGE_INDEX)
            self._plug(underlay, INTERNET, "internet")
        with Links(self.namespaces[INTERNET]) as internet:
            internet.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
            router = (addressing.gateway, UNDERLAY.prefixlen), (addressing.gateway_v6, UNDERLAY_V6.prefixlen)
            internet.addresses(_ETH0_INDEX, (IPv4Interface(router[0]), IPv6Interface(router[1])))
        self.own(addressing)

    def add(self, nodes: Sequence[NodePlan], pods: Sequence[PodPlan], etc: Mapping[str, EtcFiles]) -> None:
        """More nodes and pods, with all links, addresses and routes; none of them where one fails."""
        try:
            self._add(nodes, pods, etc)
        except BaseException:
            self._take_back(nodes, pods)
            raise

    def _add(self, nodes: Sequence[NodePlan], pods: Sequence[PodPlan], etc: Mapping[str, EtcFiles]) -> None:
        wanted = [(node_place(node.name), node.name, _NODE_SYSCTLS) for node in nodes]
        wanted += [(pod_place(pod.key), pod.name, _HOST_SYSCTLS) for pod in pods]
        with ThreadPoolExecutor(os.cpu_count()) as makers:
            list(makers.map(lambda one: self._make(one[0], one[1], etc[one[0]], one[2]), wanted))
        with Links() as underlay, underlay.batch():
            for node in nodes:
                self._plug(underlay, node_place(node.name), f"node{node.index}")
            for pod in pods:
                self._hang(underlay, pod)
        for node in nodes:
            self._connect_node(node)
        self._connect_pods(pods)

    def remove(self, nodes: Iterable[str], pods: Iterable[str]) -> None:
        """These nodes and pods, by name and by key; nothing may run in them any more."""
        for key in pods:
            pod = self.pods.pop(key)
            with Links(self.namespaces[node_place(pod.node)]) as links_of_node:
                links_of_node.delete(self._ports.pop(pod_place(key)))
            self.namespaces.pop(pod_place(key)).void()
        for name in nodes:
            node = self.nodes.pop(name)
            with Links() as underlay:
                underlay.delete(self._ports.pop(node_place(name)))
            for other, link in self._others(node):
                with link:
                    link.no_routes(_routes_to(node, other))
            self.namespaces.pop(node_place(name)).void()

    def link_number(self, pod: str) -> int:
        """Of the node's end of a pod's cable: a number that no other has, before or after."""
        return self._ports[pod_place(pod)]

    def _take_back(self, nodes: Sequence[NodePlan], pods: Sequence[PodPlan]) -> None:
        """What there is of these, of which some may be whole and some not begun."""
        for pod in pods:
            self.pods.pop(pod.key, None)
            self._unplug(pod_place(pod.key), node_place(pod.node))
        for node in nodes:
            self.nodes.pop(node.name, None)
            self._unplug(node_place(node.name), BRIDGE)
            for other, link in self._others(node):
                with link:
                    for route in _routes_to(node, other):
                        with contextlib.suppress(AcnsError):
                            link.no_routes([route])

    def _unplug(self, place: str, other_end: str) -> None:
        """A namespace goes, if it is there, with its cable, if it has one."""
        port, there = self._ports.pop(place, None), self.namespaces.get(other_end)
        if port is not None and there is not None:
            with contextlib.suppress(AcnsError), Links(there) as links_there:
                links_there.delete(port)
        if (namespace := self.namespaces.pop(place, None)) is not None:
            namespace.void()

    def own(self, addressing: Addressing) -> None:
        """Let the Internet's router own the addresses of the Internet, and no others."""
        wanted: list[InternetAddress] = [*addressing.internet, *addressing.internet_v6]
        self.own_more(wanted)
        gone = self._owned.difference(wanted)
        with Links(self.namespaces[INTERNET]) as internet, internet.batch():
            internet.no_routes(_local_routes(gone))
            internet.no_addresses(links.LOOPBACK_INDEX, _v6_interfaces(gone))
        self._owned = set(wanted)

    def own_more(self, addresses: Iterable[InternetAddress]) -> None:
        """Let the Internet's router own these addresses too.

        IPv4 ones are its own by a local route each: an interface's addresses are a list, which the kernel
        walks for each that it adds. With 20,000 there that took it a millisecond, and a batch kept a CPU from
        all else for seconds. (IPv6 ones are in a table, and to be bound to they have to be addresses.)
        """
        new = [address for address in addresses if address not in self._owned]
        with Links(self.namespaces[INTERNET]) as internet, internet.batch():
            internet.routes(_local_routes(new))
            internet.addresses(links.LOOPBACK_INDEX, _v6_interfaces(new))
        self._owned.update(new)

    def _make(self, place: str, host_name: str, etc: EtcFiles, sysctls: Mapping[str, int]) -> None:
        self.namespaces[place] = netns.make(_preparation(host_name, etc, sysctls))

    def _port(self, place: str) -> int:
        """A number that no interface had before."""
        self._ports[place] = next(self._numbers)
        return self._ports[place]

    def _plug(self, underlay: Links, place: str, port: str) -> None:
        """A cable from the bridge to `eth0` of a namespace."""
        ours = End(self.namespaces[BRIDGE], port, self._port(place))
        underlay.veth(ours, End(self.namespaces[place], "eth0", _ETH0_INDEX))
        underlay.enslave(ours.index, _BRIDGE_INDEX)

    def _hang(self, underlay: Links, pod: PodPlan) -> None:
        """A cable from a pod's node to its `eth0`."""
        place = pod_place(pod.key)
        ours = End(self.namespaces[node_place(pod.node)], pod.node_interface, self._port(place))
        underlay.veth(ours, End(self.namespaces[place], "eth0", _ETH0_INDEX), is_up=True)

    def _connect_node(self, node: NodePlan) -> None:
        namespace = self.namespaces[node_place(node.name)]
        with Links(namespace) as links_of_node, links_of_node.batch():
            links_of_node.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
            links_of_node.addresses(_ETH0_INDEX, (node.underlay, node.underlay_v6))
            links_of_node.routes(_default_routes(_ETH0_INDEX, UNDERLAY[1], UNDERLAY_V6[1]))
            for other in self.nodes.values():
                links_of_node.routes(_routes_to(other, node))
        for neighbour, link in self._others(node):
            with link:
                link.routes(_routes_to(node, neighbour))
        netns.in_namespace(namespace, lambda: links.set_sysctls({"net/ipv4/conf/eth0/rp_filter": 0}))
        self.nodes[node.name] = node

    def _others(self, node: NodePlan) -> Iterator[tuple[NodePlan | None, Links]]:
        """Who has routes to that node's pods: the other nodes, and (None) the Internet's router."""
        yield None, Links(self.namespaces[INTERNET])
        for other in self.nodes.values():
            if other != node:
                yield other, Links(self.namespaces[node_place(other.name)])

    def _connect_pods(self, pods: Sequence[PodPlan]) -> None:
        by_node: dict[str, list[PodPlan]] = {}
        for pod in pods:
            by_node.setdefault(pod.node, []).append(pod)
        for name, hung in by_node.items():
            with Links(self.namespaces[node_place(name)]) as links_of_node, links_of_node.batch():
                for pod in hung:
                    _address_port(self.nodes[name], pod, self._ports[pod_place(pod.key)], links_of_node)
        planned = {self.namespaces[pod_place(pod.key)]: pod for pod in pods}

        def address(inside: Namespace) -> None:
            with Links() as links_of_pod, links_of_pod.batch():
                _address_pod(self.nodes[planned[inside].node], planned[inside], links_of_pod)

        netns.in_each(planned, address)
        self.pods.update({pod.key: pod for pod in pods})


def node_place(name: str) -> str:
    return f"node/{name}"


def pod_place(key: str) -> str:
    return f"pod/{key}"


def _default_routes(index: int, gateway: IPv4Address, gateway_v6: IPv6Address) -> list[Route]:
    return [Route(IPv4Network("0.0.0.0/0"), index, gateway), Route(IPv6Network("::/0"), index, gateway_v6)]


def _routes_to(node: NodePlan, whose: NodePlan | None) -> list[Route]:
    """To that node's pods. The Internet's router (None) has none for IPv4, which the node masquerades;
    nobody does that for IPv6."""
    routes = [Route(node.pod_cidr, _ETH0_INDEX, node.address)] if whose else []
    return [*routes, Route(node.pod_cidr_v6, _ETH0_INDEX, node.address_v6)]


def _address_port(node: NodePlan, pod: PodPlan, index: int, links_of_node: Links) -> None:
    """The node's end of a pod's veth."""
    gateways = (IPv4Interface(node.pod_gateway), IPv6Interface(node.pod_gateway_v6))
    links_of_node.addresses(index, gateways, prefix_route=False)
    links_of_node.pod_route(f"{pod.address}/32", index)
    links_of_node.pod_route(f"{pod.address_v6}/128", index)


def _address_pod(node: NodePlan, pod: PodPlan, links_of_pod: Links) -> None:
    """`eth0` of a pod: nothing is on the link but the gateway, which routes even between neighbours."""
    links_of_pod.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
    own = (
        IPv4Interface((pod.address, node.pod_cidr.prefixlen)),
        IPv6Interface((pod.address_v6, node.pod_cidr_v6.prefixlen)),
    )
    links_of_pod.addresses(_ETH0_INDEX, own, prefix_route=False)
    on_link = (
        Route(IPv4Network(node.pod_gateway), _ETH0_INDEX, source=pod.address, scope=SCOPE_LINK),
        Route(IPv6Network(node.pod_gateway_v6), _ETH0_INDEX, source=pod.address_v6),
    )
    links_of_pod.routes(on_link)
    links_of_pod.routes(
        (
            Route(node.pod_cidr, _ETH0_INDEX, node.pod_gateway, source=pod.address),
            Route(node.pod_cidr_v6, _ETH0_INDEX, node.pod_gateway_v6, source=pod.address_v6),
        )
    )
    links_of_pod.routes(_default_routes(_ETH0_INDEX, node.pod_gateway, node.pod_gateway_v6))


def _preparation(host_name: str, etc: EtcFiles, sysctls: Mapping[str, int]) -> Callable[[], None]:
    def prepare() -> None:
        netns.mount("sysfs", "/sys", "sysfs", netns.MS_NOSUID_NODEV_NOEXEC)
        netns.bind(str(etc.resolv_conf), "/etc/resolv.conf")
        netns.bind(str(etc.hosts), "/etc/hosts")
        if Path("/etc/nsswitch.conf").exists():
            netns.bind(str(etc.nsswitch), "/etc/nsswitch.conf")
        if Path("/run/nscd").is_dir():
            # Its cache answers for the whole machine, by a socket that no network namespace keeps out.
            netns.mount("tmpfs", "/run/nscd", "tmpfs", netns.MS_NOSUID_NODEV_NOEXEC)
        socket.sethostname(host_name)
        links.set_sysctls(sysctls)

    return prepare


def _local_routes(addresses: Iterable[InternetAddress]) -> list[Route]:
    """Each IPv4 address by itself."""
    return [
        Route(IPv4Network(address), links.LOOPBACK_INDEX, is_local=True)
        for address in addresses
        if isinstance(address, IPv4Address)
    ]


def _v6_interfaces(addresses: Iterable[InternetAddress]) -> list[Address]:
    """Each IPv6 address by itself."""
    return [IPv6Interface(address) for address in addresses if isinstance(address, IPv6Address)]
