"""A pod, its node and a server outside, as three network namespaces: what a measured packet crosses.

The pod hangs on its node by a veth, as a container runtime does it; the node forwards to the server's network
by another. The server owns the addresses that names resolve to. Several wires stand side by side, equal but
for the rules on the node, so that what is compared runs at the same time in the same process.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from lab.bench.cluster import NODE_ADDRESS
from lab.errors import ProcessFailed
from lab.kernel import links, netns
from lab.kernel.links import End, Links
from lab.kernel.netns import Namespace

POD_INTERFACE = "veth-measured"
UPLINK = "eth0"
_POD_INDEX, _UPLINK_INDEX, _ETH0_INDEX = 11, 10, 2
_POD_GATEWAY = IPv4Interface("10.244.0.1/32")
_SERVER_GATEWAY = IPv4Interface("172.18.0.1/24")
_NODE = IPv4Interface(f"{NODE_ADDRESS}/24")

_QUIET = {"net/ipv6/conf/all/disable_ipv6": 1, "net/ipv6/conf/default/disable_ipv6": 1}
_FORWARDING = {"net/ipv4/ip_forward": 1, **_QUIET}


@dataclass(frozen=True, slots=True)
class Wire:
    """Descriptors of the three namespaces, and the addresses at both ends."""

    node: Namespace
    pod: Namespace
    server: Namespace
    pod_address: IPv4Address
    server_address: IPv4Address

    def socket(self, kind: int) -> socket.socket:
        """A socket of the pod's, not yet connected."""
        return netns.open_socket(self.pod, socket.AF_INET, kind)


@contextlib.contextmanager
def laid(pod_address: IPv4Address, server_addresses: Sequence[IPv4Address]) -> Iterator[Wire]:
    """A wire for the time of a block, without any rules. Measurements go to the first server address."""
    with contextlib.ExitStack() as stack:

        def namespace(sysctls: dict[str, int]) -> Namespace:
            return stack.enter_context(netns.keeping(netns.make(lambda: links.set_sysctls(sysctls))))

        wire = Wire(
            namespace(_FORWARDING), namespace(_QUIET), namespace(_QUIET), pod_address, server_addresses[0]
        )
        _connect(wire, server_addresses)
        yield wire


@contextlib.contextmanager
def serving(namespace: Namespace, argv: Sequence[str], ready: str) -> Iterator[int]:
    """A server program in the namespace, from when it has printed `ready` to the block's end; its pid.

    Raises ProcessFailed where it ends by itself: what was measured then is worth nothing.
    """

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with netns.in_namespace(namespace, start) as process:
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if ready in line:
                    break
            else:
                raise ProcessFailed(f"{' '.join(argv)} ended before it was ready:\n{''.join(said)}")
            yield process.pid
            if process.poll() is not None:
                raise ProcessFailed(f"{' '.join(argv)} ended before its time:\n{process.stdout.read()}")
        finally:
            process.kill()


def echoing(wire: Wire, port: int) -> contextlib.AbstractContextManager[int]:
    """The echo server at the wire's far end."""
    argv = [sys.executable, "-m", "lab.bench.echo", str(wire.server_address), str(port)]
    return serving(wire.server, argv, "ready")


def _connect(wire: Wire, server_addresses: Sequence[IPv4Address]) -> None:
    with Links() as own:
        own.veth(End(wire.node, POD_INTERFACE, _POD_INDEX), End(wire.pod, UPLINK, _ETH0_INDEX))
        own.veth(End(wire.node, UPLINK, _UPLINK_INDEX), End(wire.server, UPLINK, _ETH0_INDEX))
    with Links(wire.node) as node:
        node.up(links.LOOPBACK_INDEX, _POD_INDEX, _UPLINK_INDEX)
        node.addresses(_POD_INDEX, [_POD_GATEWAY], prefix_route=False)
        node.addresses(_UPLINK_INDEX, [_NODE])
        node.pod_route(f"{wire.pod_address}/32", _POD_INDEX)
        node.route("0.0.0.0/0", _UPLINK_INDEX, gateway=str(_SERVER_GATEWAY.ip))
    with Links(wire.pod) as pod:
        pod.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
        pod.addresses(_ETH0_INDEX, [IPv4Interface(wire.pod_address)])
        pod.on_link_route(str(_POD_GATEWAY), _ETH0_INDEX)
        pod.route("0.0.0.0/0", _ETH0_INDEX, gateway=str(_POD_GATEWAY.ip))
    with Links(wire.server) as server:
        server.up(links.LOOPBACK_INDEX, _ETH0_INDEX)
        server.addresses(_ETH0_INDEX, [_SERVER_GATEWAY])
        server.addresses(links.LOOPBACK_INDEX, map(IPv4Interface, server_addresses))
        server.route(f"{wire.pod_address}/32", _ETH0_INDEX, gateway=str(NODE_ADDRESS))
