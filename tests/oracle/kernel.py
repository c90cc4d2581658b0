"""A node as network namespaces, and real packets through it: what the kernel does with a compiled
ruleset.

Six places for pods behind veths of the node, and one namespace for all that is not on the node. Packets are
made whole and sent by raw sockets, so that any protocol can be. One that turns up where its destination
lives was let through; a query that turns up at the proxy's port was redirected; any other was dropped.

Nothing waits for time to pass: veths hand packets on in order, on the processor of the sender. So when
the last packet of a round, from a place that no policy knows, has arrived, all before it have been
judged.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import TypeVar

from acns.datapath import constants, ruleset
from acns.datapath.model import EMPTY
from acns.datapath.nfnetlink import NetfilterSocket
from acns.datapath.nft import Nft
from acns.datapath.routes import Routes
from lab.kernel import links, netns, nft
from lab.kernel.links import End, Links
from lab.kernel.netns import Namespace

from . import strategies, wire
from .cluster import Cluster, Packet
from .semantics import Verdict

T = TypeVar("T")

NODE = "n1"
GATEWAY = strategies.gateway(NODE)
PLACES = tuple(f"10.0.1.{10 + index}" for index in range(6))
SENTINEL, BEYOND = "10.99.0.1", "10.99.0.2"
UPLINK, ROUTER = strategies.node_address(NODE), "172.18.0.1"
NODE_ADDRESSES = frozenset({UPLINK, strategies.external_address(NODE), GATEWAY})
OUTSIDE = (
    *strategies.OUTSIDE,
    *(f"10.0.2.{10 + index}" for index in range(6)),
    strategies.node_address("n2"), strategies.external_address("n2"), strategies.gateway("n2"),
    strategies.UNUSED, BEYOND,
)  # fmt: skip
DEADLINE_S = 10.0
ROUNDS = 50

_SYSCTLS = {
    "net/ipv4/ip_forward": 1,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/icmp_ratelimit": 0,
    "net/netfilter/nf_conntrack_checksum": 0,
}
_CT_DELETE = 1 << 8 | 2
_REQUEST_ACK = 0x5
_ETH_P_IP = 0x0800
_IP_TRANSPARENT = 19


@dataclass(frozen=True, slots=True)
class Shot:
    """A packet on its way: its tag in the round, and what it says."""

    tag: int
    packet: Packet


class MiniNode:
    """The namespaces, the node's tools, and who listens where. Use it in a `with` block."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as self._closing:
            self._build()
            self._closing = self._closing.pop_all()

    def _build(self) -> None:
        self._spaces = {name: self._space() for name in ("node", "outside", *PLACES, SENTINEL)}
        self._worker = self._closing.enter_context(ThreadPoolExecutor(1))
        self._on_node(netns.setns, self._spaces["node"].net)
        self._cable()
        self._nft: Nft = self._on_node(Nft)
        self._routes: Routes = self._on_node(Routes)
        self._conntrack: NetfilterSocket = self._on_node(NetfilterSocket)
        for one in (self._nft, self._routes, self._conntrack):
            self._closing.callback(one.close)
        self._routes.ensure_proxy_route()
        self._senders = {name: self._raw(name, socket.IPPROTO_RAW) for name in self._spaces}
        self._ears: dict[socket.socket, str] = dict(self._listeners())
        self._tag = 0
        self._warm_up()

    def __enter__(self) -> MiniNode:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def interfaces(self) -> Mapping[str, str]:
        """Address → the node's end of the link to it."""
        return {address: _link(index) for index, address in enumerate(PLACES)}

    def apply(self, rules: ruleset.Ruleset) -> None:
        """This table and nothing of any before: neither learned addresses nor connections."""
        self._nft.remove()
        self._nft.apply(ruleset.transaction(EMPTY, rules))
        self._conntrack.request(
            _CT_DELETE, _REQUEST_ACK, struct.pack("!BBH", socket.AF_UNSPEC, 0, 0), "flush"
        )

    def judge(self, packets: Iterable[Packet]) -> list[Verdict]:
        """Send them, and see where each comes out."""
        shots = [Shot(self._next_tag(), packet) for packet in packets]
        self._translate(shots)
        heard: dict[int, set[str]] = {}
        with _on_one_processor():
            for shot in shots:
                self._send(self._home(shot.packet.source), shot.packet, shot.tag)
            last = self._next_tag()
            self._send(SENTINEL, Packet(SENTINEL, BEYOND, "UDP", 9), last)
            self._listen(heard, last)
        return [self._verdict(shot.packet, heard.get(shot.tag, set())) for shot in shots]

    # --- a round --------------------------------------------------------------------------------------

    def _next_tag(self) -> int:
        self._tag += 1
        return self._tag

    def _send(self, sender: str, packet: Packet, tag: int) -> None:
        # A raw socket is not asked where to by the packet's own header.
        with contextlib.suppress(PermissionError):  # what is dropped at output is said to who sends it
            self._senders[sender].sendto(wire.packed(packet, tag), (packet.destination, 0))

    def _listen(self, heard: dict[int, set[str]], last: int) -> None:
        """Take in all that has come, until `last` is among it. What is sent first is heard first, so
        nothing is left in any ear then."""
        done = False
        while True:
            ready, _, _ = select.select(list(self._ears), [], [], 0 if done else DEADLINE_S)
            assert ready or done, "the packet that nobody judges did not arrive"
            if not ready:
                return
            for ear in ready:
                for data in _all_of(ear):
                    tag = wire.tag_of(data)
                    heard.setdefault(tag, set()).add(self._ears[ear])
                    done = done or tag == last

    def _verdict(self, packet: Packet, heard_at: set[str]) -> Verdict:
        home = self._home(packet.target[0])
        if "proxy" in heard_at:
            return Verdict.PROXY
        if home in heard_at:
            return Verdict.ALLOW
        # A connection to the proxy's listener is only seen to reach the node; errors and answers do, too.
        proxied = packet.protocol == "TCP" and "node" in heard_at and self._home(packet.source) != "node"
        return Verdict.PROXY if proxied else Verdict.DENY

    def can_tell(self, cluster: Cluster, packet: Packet) -> bool:
        """Not whether a connection to the node itself went to a server there or to the proxy; and there is no
        place for a pod of the node that claims an address of the other node's."""
        ends = {packet.source, packet.target[0]}
        local = {pod["status"]["podIP"] for pod in cluster.endpoints() if pod["spec"]["nodeName"] == NODE}
        blurred = packet.protocol == "TCP" and self._home(packet.target[0]) == "node"
        return not blurred and ends.isdisjoint(local - set(PLACES))

    def _home(self, address: str) -> str:
        if address in NODE_ADDRESSES:
            return "node"
        return address if address in self._spaces else "outside"

    def _translate(self, shots: Iterable[Shot]) -> None:
        """The Service translation, as kube-proxy's: each connection to the backend that was drawn for it."""
        rules = [
            f"ip daddr {shot.packet.destination} {shot.packet.protocol.lower()} "
            f"sport {wire.source_port(shot.tag)} dnat to {shot.packet.backend[0]}:{shot.packet.backend[1]}"
            for shot in shots
            if shot.packet.backend
        ]
        if rules:
            nft.load(self._spaces["node"], _services(rules))

    # --- building it ----------------------------------------------------------------------------------

    def _space(self) -> Namespace:
        return self._closing.enter_context(netns.keeping(netns.make()))

    def _on_node(self, function: Callable[..., T], *args: object) -> T:
        return self._worker.submit(function, *args).result(DEADLINE_S)

    def _cable(self) -> None:
        node, outside = self._spaces["node"], self._spaces["outside"]
        for space in self._spaces.values():
            netns.in_namespace(space, lambda: links.set_sysctls(_SYSCTLS))
        with Links(node) as here:
            here.up(links.LOOPBACK_INDEX)
            ours, theirs = End(node, "eth0", 2), End(outside, "eth0", 2)
            here.veth(ours, theirs)
            here.up(ours.index)
            here.addresses(ours.index, [IPv4Interface(f"{UPLINK}/24")])
            external = strategies.external_address(NODE)
            here.addresses(links.LOOPBACK_INDEX, [IPv4Interface(f"{external}/32")])
            here.route("0.0.0.0/0", ours.index, gateway=ROUTER)
            for index, address in enumerate((*PLACES, SENTINEL)):
                self._cable_pod(here, index, address)
        with Links(outside) as there:
            there.up(links.LOOPBACK_INDEX, theirs.index)
            there.addresses(theirs.index, [IPv4Interface(f"{ROUTER}/24")])
            there.addresses(
                links.LOOPBACK_INDEX, [IPv4Interface(f"{one}/32") for one in OUTSIDE], prefix_route=False
            )
            for network in ("10.0.1.0/24", f"{SENTINEL}/32", f"{external}/32"):
                there.route(network, theirs.index, gateway=UPLINK)

    def _cable_pod(self, here: Links, index: int, address: str) -> None:
        ours = End(self._spaces["node"], _link(index), 10 + index)
        theirs = End(self._spaces[address], "eth0", 2)
        here.veth(ours, theirs)
        here.up(ours.index)
        here.addresses(ours.index, [IPv4Interface(f"{GATEWAY}/32")])
        here.pod_route(f"{address}/32", ours.index)
        with Links(theirs.namespace) as there:
            there.up(links.LOOPBACK_INDEX, theirs.index)
            there.addresses(theirs.index, [IPv4Interface(f"{address}/32")])
            there.on_link_route(f"{GATEWAY}/32", theirs.index)
            there.route("0.0.0.0/0", theirs.index, gateway=GATEWAY)

    # --- sockets --------------------------------------------------------------------------------------

    def _raw(self, name: str, protocol: int) -> socket.socket:
        return self._open(name, socket.AF_INET, socket.SOCK_RAW, protocol)

    def _open(self, name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        made = netns.open_socket(self._spaces[name], family, kind, protocol)
        self._closing.callback(made.close)
        made.setblocking(False)
        return made

    def _listeners(self) -> Iterator[tuple[socket.socket, str]]:
        """The node is heard behind its rules; a pod, and the outside, on the link."""
        for protocol in wire.NUMBERS.values():
            yield self._raw("node", protocol), "node"
        for name in ("outside", *PLACES):
            ear = self._open(name, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
            ear.bind(("eth0", _ETH_P_IP))
            yield ear, name
        yield self._proxy(socket.SOCK_DGRAM), "proxy"
        self._proxy(socket.SOCK_STREAM).listen()  # who connects is heard as the node

    def _proxy(self, kind: int) -> socket.socket:
        made = self._open("node", socket.AF_INET, kind)
        made.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        made.bind((constants.PROXY_ADDRESS, constants.PROXY_PORT))
        return made

    def _warm_up(self) -> None:
        """One packet each way on every link: after that all neighbours are known, and nothing waits for
        them."""
        self._nft.remove()
        there_and_back = [(address, BEYOND) for address in PLACES] + [(BEYOND, address) for address in PLACES]
        sent = [Packet(source, destination, "UDP", 9) for source, destination in there_and_back]
        assert any(self.judge(sent) == [Verdict.ALLOW] * len(sent) for _ in range(ROUNDS)), "no way through"


def openings(packets: Iterable[Packet]) -> list[Packet]:
    """Those that open a connection: without ports there is one between two hosts, and what comes back is its
    answer."""
    found: list[Packet] = []
    for packet in packets:
        back = (packet.target[0], packet.source, "GRE")
        if packet.protocol != "GRE" or back not in [
            (one.source, one.target[0], one.protocol) for one in found
        ]:
            found.append(packet)
    return found


def _services(rules: Iterable[str]) -> str:
    hairpins = ", ".join(f"{address} . {address}" for address in PLACES)
    return f"""
add table ip services
delete table ip services
table ip services {{
    chain pre {{
        type nat hook prerouting priority -100; policy accept;
        {"; ".join(rules)}
    }}
    chain post {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr . ip daddr {{ {hairpins} }} masquerade
    }}
}}
"""


def _link(index: int) -> str:
    return f"pod{index}"


def _all_of(ear: socket.socket) -> Iterator[bytes]:
    """What is in its buffer; a packet that the link's owner sent itself is none that came."""
    while True:
        try:
            data, where = ear.recvfrom(2048)
        except BlockingIOError:
            return
        if ear.family != socket.AF_PACKET or where[2] != socket.PACKET_OUTGOING:
            yield data


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
