"""A lab's network: namespaces, links, addresses and routes, shaped as a kind cluster's.

The holder's own namespace holds nothing but the underlay bridge. On it stand the nodes and the Internet's
router. Each pod hangs on its node by a veth in the style of the `ptp` plugin: a /32 gateway on the node's
end, a `scope host` route per pod, everything the pod sends routed by its node. Nodes reach each other's
pods through the underlay. IPv6 runs beside it on the same links, so that what blocks it can be seen to
block.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

from lab.kernel import links, netns
from lab.kernel.links import End, Links
from lab.kernel.netns import Namespace
from lab.spec.plan import Addressing, NodePlan, PodPlan

BRIDGE = "underlay"
INTERNET = "internet"
_BRIDGE_INDEX = 2
_ETH0_INDEX = 2
_INTERNET_PORT_INDEX = 9
_FIRST_INDEX = 10

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
    """The namespaces of a lab by place: `underlay`, `internet`, `node/NAME`, `pod/NAMESPACE/NAME`."""

    addressing: Addressing
    etc: Mapping[str, EtcFiles]
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    _owned: set[IPv4Address | IPv6Address] = field(default_factory=set)

    def make_namespaces(self) -> None:
        self.namespaces[BRIDGE] = netns.own()
        links.set_sysctls(_HOLDER_SYSCTLS)
        self._make(INTERNET, INTERNET, _HOST_SYSCTLS)
        for node in self.addressing.nodes:
            self._make(node_place(node.name), node.name, _NODE_SYSCTLS)
        for pod in self.addressing.pods:
            self._make(pod_place(pod.key), pod.name, _HOST_SYSCTLS)

    def link(self) -> None:
        """All links, addresses and routes."""
        with Links() as underlay:
            underlay.up(links.LOOPBACK_INDEX)
            underlay.bridge(BRIDGE, _BRIDGE_INDEX)
            self._plug(underlay, INTERNET, "internet", _INTERNET_PORT_INDEX)
            self._connect_internet()
            for node in self.addressing.nodes:
                self._plug(underlay, node_place(node.name), f"node{node.index}", _FIRST_INDEX + node.index)
                self._connect_node(node, underlay)

    def own_more(self, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        """Let the Internet's router own these addresses too."""
        new = [address for address in addresses if address not in self._owned]
        with Links(self.namespaces[INTERNET]) as internet:
            internet.addresses(links.LOOPBACK_INDEX, _host_interfaces(new))
        self._owned.update(new)

    def _make(self, place: str, host_name: str, sysctls: Mapping[str, int]) -> None:
        self.namespaces[place] = netns.make(_preparation(host_name, self.etc[place], sysctls))

    def _plug(self, underlay: Links, place: str, port: str, index: int) -> None:
        """A cable from the bridge to `eth0` of a namespace."""
        ours = End(self.namespaces[BRIDGE], port, index)
        underlay.veth(ours, End(self.namespaces[place], "eth0", _ETH0_INDEX))
        underlay.enslave(index, _BRIDGE_INDEX)

    def _connect_internet(self) -> None:
        plan = self.addressing
        router = (IPv4Interface(f"{plan.gateway}/24"), IPv6Interface(f"{plan.gateway_v6}/64"))
        with Links(self.namespaces[INTERNET]) as internet:
            internet.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
            internet.addresses(_ETH0_INDEX, router)
            for node in plan.nodes:
                # IPv4 of pods is masqueraded by their node; nobody does that for IPv6.
                internet.route(str(node.pod_cidr_v6), _ETH0_INDEX, gateway=str(node.address_v6))
        self.own_more([*plan.internet, *plan.internet_v6])

    def _connect_node(self, node: NodePlan, underlay: Links) -> None:
        namespace = self.namespaces[node_place(node.name)]
        with Links(namespace) as links_of_node:
            links_of_node.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
            links_of_node.addresses(_ETH0_INDEX, (node.underlay, node.underlay_v6))
            links_of_node.route("0.0.0.0/0", _ETH0_INDEX, gateway=str(self.addressing.gateway))
            links_of_node.route("::/0", _ETH0_INDEX, gateway=str(self.addressing.gateway_v6))
            for other in self.addressing.nodes:
                if other != node:
                    links_of_node.route(str(other.pod_cidr), _ETH0_INDEX, gateway=str(other.address))
                    links_of_node.route(str(other.pod_cidr_v6), _ETH0_INDEX, gateway=str(other.address_v6))
            for number, pod in enumerate(self.addressing.pods_of(node.name)):
                self._connect_pod(node, pod, underlay, links_of_node, _FIRST_INDEX + number)
        netns.in_namespace(namespace, lambda: links.set_sysctls({"net/ipv4/conf/eth0/rp_filter": 0}))

    def _connect_pod(
        self, node: NodePlan, pod: PodPlan, underlay: Links, links_of_node: Links, index: int
    ) -> None:
        inside = self.namespaces[pod_place(pod.key)]
        outside = self.namespaces[node_place(node.name)]
        underlay.veth(End(outside, pod.node_interface, index), End(inside, "eth0", _ETH0_INDEX))
        links_of_node.up(index)
        gateways = (IPv4Interface(node.pod_gateway), IPv6Interface(node.pod_gateway_v6))
        links_of_node.addresses(index, gateways, prefix_route=False)
        links_of_node.pod_route(f"{pod.address}/32", index)
        links_of_node.pod_route(f"{pod.address_v6}/128", index)
        with Links(inside) as links_of_pod:
            _address_pod(node, pod, links_of_pod)


def node_place(name: str) -> str:
    return f"node/{name}"


def pod_place(key: str) -> str:
    return f"pod/{key}"


def _address_pod(node: NodePlan, pod: PodPlan, links_of_pod: Links) -> None:
    """`eth0` of a pod: nothing is on the link but the gateway, which routes even between neighbours."""
    links_of_pod.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
    own = (
        IPv4Interface((pod.address, node.pod_cidr.prefixlen)),
        IPv6Interface((pod.address_v6, node.pod_cidr_v6.prefixlen)),
    )
    links_of_pod.addresses(_ETH0_INDEX, own, prefix_route=False)
    for gateway, cidr, source, everything in (
        (node.pod_gateway, node.pod_cidr, pod.address, "0.0.0.0/0"),
        (node.pod_gateway_v6, node.pod_cidr_v6, pod.address_v6, "::/0"),
    ):
        links_of_pod.on_link_route(f"{gateway}/{gateway.max_prefixlen}", _ETH0_INDEX, prefsrc=str(source))
        links_of_pod.route(str(cidr), _ETH0_INDEX, gateway=str(gateway), prefsrc=str(source))
        links_of_pod.route(everything, _ETH0_INDEX, gateway=str(gateway))


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


def nsswitch_text() -> str:
    """The machine's nsswitch.conf, but names come from /etc/hosts and DNS alone: `resolve` and `mymachines`
    would ask daemons of the machine, past the pod's own DNS server."""
    try:
        text = Path("/etc/nsswitch.conf").read_text()
    except OSError:
        text = "passwd: files\ngroup: files\nhosts: files dns\n"
    return re.sub(r"(?m)^\s*hosts:.*$", "hosts: files dns", text)


def _host_interfaces(addresses: Iterable[IPv4Address | IPv6Address]) -> list[links.Address]:
    """Each address by itself: /32 or /128."""
    return [
        IPv4Interface(address) if isinstance(address, IPv4Address) else IPv6Interface(address)
        for address in addresses
    ]
