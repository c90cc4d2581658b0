"""A node, two pods and an Internet, as four network namespaces, and the real kernel between them.

Each namespace belongs to one worker thread: what is submitted to it runs there, and when the thread ends and
its sockets are closed the kernel removes everything. Addresses and the Service table look like those of a
kind node.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import pytest

from acns.datapath import base, constants, ruleset
from acns.datapath.elements import Elements
from acns.datapath.grants import PREFIXES
from acns.datapath.nft import Nft
from acns.datapath.routes import Routes
from acns.datapath.ruleset import Grants, Ruleset
from acns.dns import pattern
from acns.dns.pattern import FQDNSelector
from acns.policy import model

from ...waiting import until as poll

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
DEADLINE_S = 10.0

POD_A, POD_B, NODE = "10.244.1.3", "10.244.1.4", "172.18.0.2"
SERVER, OTHER_SERVER, REMOTE_POD = "203.0.113.7", "203.0.113.8", "10.244.0.3"
CLUSTER_IP, HAIRPIN_IP = "10.96.0.10", "10.96.0.77"
POD_A6, POD_B6, INTERNET6, NODE6 = "fd00:10:244:1::a", "fd00:10:244:1::b", "2001:db8::7", "fd00:10:244:1::1"
API = pattern.match_name("api.example.com")

ORIGIN = model.Origin("ns/policy", "egress", 0, "policy.yaml", 7, 3)
FREE = model.DirectionPolicy()

LOOPBACK = "ip link set lo up"

NODE_SETUP = f"""
set -e
{LOOPBACK}
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add veth-a type veth peer name eth0 netns $POD_A
ip link add veth-b type veth peer name eth0 netns $POD_B
ip link add eth0 type veth peer name eth0 netns $INTERNET
for pod in a b; do
    ip addr add 10.244.1.1/32 dev veth-$pod
    ip -6 addr add {NODE6}/128 dev veth-$pod nodad
    ip link set veth-$pod up
done
ip route add {POD_A} dev veth-a scope host
ip route add {POD_B} dev veth-b scope host
ip -6 route add {POD_A6} dev veth-a
ip -6 route add {POD_B6} dev veth-b
ip addr add {NODE}/24 dev eth0
ip -6 addr add fd00:18::2/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 172.18.0.1
ip -6 route add default via fd00:18::1
nft -f - <<'NFT'
table ip services {{
    chain pre {{
        type nat hook prerouting priority -100; policy accept;
        ip daddr {CLUSTER_IP} meta l4proto {{ tcp, udp }} th dport 53 dnat to {REMOTE_POD}
        ip daddr {HAIRPIN_IP} tcp dport 80 dnat to {POD_A}:8080
    }}
    chain out {{
        type nat hook output priority -100; policy accept;
        ip daddr {CLUSTER_IP} meta l4proto {{ tcp, udp }} th dport 53 dnat to {REMOTE_POD}
    }}
    chain post {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr {POD_A} ip daddr {POD_A} masquerade
    }}
}}
NFT
"""

POD_SETUP = """
set -e
ip link set lo up
ip addr add $ADDRESS/32 dev eth0
ip -6 addr add $ADDRESS6/128 dev eth0 nodad
ip link set eth0 up
ip route add 10.244.1.1 dev eth0 scope link
ip route add default via 10.244.1.1
ip -6 route add fd00:10:244:1::1 dev eth0
ip -6 route add default via fd00:10:244:1::1
"""

INTERNET_SETUP = f"""
set -e
{LOOPBACK}
sysctl -qw net.ipv6.conf.all.forwarding=1
ip addr add 172.18.0.1/24 dev eth0
ip -6 addr add fd00:18::1/64 dev eth0 nodad
ip link set eth0 up
for address in {SERVER} {OTHER_SERVER} {REMOTE_POD}; do ip addr add $address/32 dev lo; done
ip -6 addr add {INTERNET6}/128 dev lo nodad
ip route add 10.244.1.0/24 via {NODE}
ip -6 route add fd00:10:244:1::/64 via fd00:18::2
"""


class NetNS:
    """A network namespace and the thread that lives in it."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, initializer=_unshare)
        self.tid = self.do(threading.get_native_id)
        self._sockets: list[socket.socket] = []

    def do(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run it in the namespace."""
        return self._worker.submit(function, *args, **kwargs).result(DEADLINE_S * 3)

    def run(self, *argv: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        """A command in the namespace; its standard output."""
        done: subprocess.CompletedProcess[str] = self.do(
            subprocess.run, argv, capture_output=True, text=True, env={**os.environ, **(env or {})}
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def shell(self, script: str, **env: str) -> str:
        """A script in the namespace."""
        return self.run("sh", "-c", script, env=env)

    def socket(
        self, family: int, kind: int, *options: tuple[int, int, int], protocol: int = 0
    ) -> socket.socket:
        """A socket of the namespace, closed with the namespace."""
        made: socket.socket = self.do(socket.socket, family, kind, protocol)
        made.settimeout(DEADLINE_S)
        if kind == socket.SOCK_STREAM:  # gone when closed, also what it accepts: no retries into later tests
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        for option in options:
            made.setsockopt(*option)
        self._sockets.append(made)
        return made

    def read(self, path: str) -> str:
        """A file of /proc as this namespace sees it."""
        return self.do(Path(path).read_text)

    def tcp_segments_received(self) -> int:
        """TCP segments that reached this namespace's stack."""
        return self._statistic("Tcp", "InSegs")

    def icmp_received(self) -> int:
        """ICMP messages that reached this namespace's stack."""
        return self._statistic("Icmp", "InMsgs")

    def _statistic(self, protocol: str, name: str) -> int:
        lines = self.read("/proc/thread-self/net/snmp").splitlines()
        names, values = (line.split() for line in lines if line.startswith(f"{protocol}:"))
        return int(values[names.index(name)])

    def close_sockets(self) -> None:
        """Close what the tests opened."""
        for one in self._sockets:
            one.close()
        self._sockets.clear()

    def close(self) -> None:
        self.close_sockets()
        self._worker.shutdown()


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    # While a link-local address is tentative, a node cannot look for its neighbours: seconds, on a new link.
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")


@dataclass
class World:
    """The four namespaces, the agents' tools on the node, and the words that the tests speak."""

    node: NetNS
    a: NetNS
    b: NetNS
    internet: NetNS
    nft: Nft
    routes: Routes
    grants: Grants = field(default_factory=Grants.fresh)
    groups: dict[str, frozenset[IPv4Address]] = field(default_factory=dict)
    ruleset: Ruleset | None = None

    # --- policy ------------------------------------------------------------------------------------------

    def allow(self, peer: model.Peer, port: int | None = None, protocol: str = "TCP") -> model.Match:
        """One atom of an allow (or deny) rule."""
        return self.match(peer, None if port is None else model.Ports(model.Protocol(protocol), port, port))

    def match(self, peer: model.Peer, traffic: model.Traffic) -> model.Match:
        return model.Match(peer, traffic, ORIGIN)

    def fqdn(self, selector: FQDNSelector = API) -> model.FQDN:
        return model.FQDN(selector)

    def cidr(self, *networks: str) -> model.CIDRs:
        return model.CIDRs("cidr:" + ",".join(networks), tuple(map(IPv4Network, networks)))

    def pods(self, key: str, *addresses: str) -> model.Addresses:
        """A selector, and the pods that it selects from now on."""
        self.groups[key] = frozenset(map(IPv4Address, addresses))
        return model.Addresses(key)

    def dns(self, servers: model.DNSServers) -> model.DNSAllow:
        return model.DNSAllow(servers, None, True, ORIGIN)

    def kube_dns(self) -> model.DNSServers:
        exact = {(address, protocol) for address in (CLUSTER_IP, REMOTE_POD) for protocol in (6, 17)}
        return model.DNSServers(
            "kube-dns",
            frozenset(
                model.ServerAddress(IPv4Address(address), protocol, 53, "dns") for address, protocol in exact
            ),
        )

    def only(self, *allows: model.Match, deny: tuple[model.Match, ...] = ()) -> model.DirectionPolicy:
        """A direction that is enforced."""
        return model.DirectionPolicy(True, allows, deny)

    def policy(
        self,
        *,
        a: model.DirectionPolicy = FREE,
        to_a: model.DirectionPolicy = FREE,
        b: model.DirectionPolicy = FREE,
        to_b: model.DirectionPolicy = FREE,
        dns: tuple[model.DNSAllow, ...] = (),
        dns_b: tuple[model.DNSAllow, ...] = (),
    ) -> model.NodePolicy:
        """Egress of pod a, ingress to it, and the same for pod b."""
        pod_a = model.Endpoint("ns", "a", IPv4Address(POD_A), frozenset())
        pod_b = model.Endpoint("ns", "b", IPv4Address(POD_B), frozenset())
        return model.NodePolicy(
            node="node",
            endpoints=(
                model.EndpointPolicy(pod_a, a, to_a, dns),
                model.EndpointPolicy(pod_b, b, to_b, dns_b),
            ),
            cluster_addresses=frozenset(map(IPv4Address, (POD_A, POD_B, REMOTE_POD, NODE))),
            service_addresses=frozenset(map(IPv4Address, (CLUSTER_IP, HAIRPIN_IP))),
            node_addresses=frozenset({IPv4Address(NODE)}),
            groups=dict(self.groups),
        )

    def apply(
        self,
        *allows: model.Match,
        deny: tuple[model.Match, ...] = (),
        dns: tuple[model.DNSAllow, ...] = (),
        learned: Mapping[str, float] | None = None,
        interfaces: Mapping[IPv4Address, str] | None = None,
    ) -> str:
        """Restrict pod a's egress to these, and nothing else; the transaction's text."""
        return self.enforce(
            self.policy(a=self.only(*allows, deny=deny), dns=dns), learned=learned, interfaces=interfaces
        )

    def enforce(
        self,
        node: model.NodePolicy,
        *,
        learned: Mapping[str, float] | None = None,
        interfaces: Mapping[IPv4Address, str] | None = None,
        **options: Any,
    ) -> str:
        """Bring the kernel to this policy; the transaction's text."""
        timeouts = {IPv4Address(address): timeout_s for address, timeout_s in (learned or {}).items()}
        links = self.routes.links()
        places = links.interfaces if interfaces is None else interfaces
        options = {"uplinks": links.uplinks, **options}
        self.ruleset = ruleset.compile_ruleset(node, places, self.grants, {API: timeouts}, **options)
        text = ruleset.transaction(self.nft.inventory(), self.ruleset)
        self.nft.apply(text)
        return text

    def elements(self, **options: bool) -> Elements:
        return self.node.do(Elements, **options)

    def remove_proxy_route(self) -> None:
        """Take away what `Routes.ensure_proxy_route` makes."""
        self.node.run("ip", "rule", "del", "pref", str(constants.RULE_PREF), check=False)
        self.node.run("ip", "route", "flush", "table", str(constants.ROUTE_TABLE), check=False)

    def counter(self, name: str) -> int:
        """Packets of a named counter."""
        return self.nft.counters()[name][0]

    def dropped(self, *prefixes: str) -> int:
        """Packets dropped by counters of these kinds: `eg`, `er`, `in`, `ir` are what no rule allows (sent
        by a pod, answers to it, sent to a pod, its answers), `de` and `di` what a rule denies."""
        wanted = tuple(f"{prefix}_" for prefix in prefixes or ("eg",))
        return sum(packets for name, (packets, _) in self.nft.counters().items() if name.startswith(wanted))

    def drops(self) -> int:
        """IPv4 packets dropped, for whatever reason of ours. (IPv6 is never silent: links announce
        themselves.)"""
        reasons = [counter for counter in base.COUNTERS if counter != "ipv6"]
        return self.dropped("eg", "er", "in", "ir", "de", "di") + sum(map(self.counter, reasons))

    def rule(self, text: str, *, deny: bool = False) -> str:
        """The id of the rule that says this, in the policy last applied."""
        assert self.ruleset is not None
        described = self.ruleset.descriptions.items()
        (found,) = [id_ for id_, one in described if (one.kind, one.text, one.deny) == ("rule", text, deny)]
        return found

    def rule_of(self, direction: model.Direction) -> str:
        """The id of the only rule that allows something in that direction."""
        assert self.ruleset is not None
        (found,) = [name for name in self.ruleset.counters if name.startswith(PREFIXES[direction])]
        return found

    until = staticmethod(poll)

    # --- traffic -----------------------------------------------------------------------------------------

    def listen(self, where: NetNS, address: str, port: int, family: int = socket.AF_INET) -> socket.socket:
        server = where.socket(family, socket.SOCK_STREAM, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
        server.bind((address, port))
        server.listen()
        return server

    def udp(self, where: NetNS, address: str, port: int = 0) -> socket.socket:
        made = where.socket(socket.AF_INET, socket.SOCK_DGRAM, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
        made.bind((address, port))
        return made

    def udp6(self, where: NetNS, port: int = 0) -> socket.socket:
        made = where.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind((self.address6(where), port))
        return made

    def address6(self, where: NetNS) -> str:
        """The address that others reach it at."""
        ends = ((self.a, POD_A6), (self.b, POD_B6), (self.internet, INTERNET6), (self.node, NODE6))
        return next(address for one, address in ends if one is where)

    def connect(self, where: NetNS, address: str, port: int) -> socket.socket:
        """A connection that must come about."""
        client = where.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.connect((address, port))
        return client

    def talk(self, client: socket.socket, server: socket.socket) -> None:
        """Both ends hear each other."""
        client.sendall(b"ping")
        assert server.recv(100) == b"ping"
        server.sendall(b"pong")
        assert client.recv(100) == b"pong"

    @contextlib.contextmanager
    def download(self, server: socket.socket, client: socket.socket) -> Iterator[None]:
        """The server sends without end and the client reads all it gets; the client itself sends nothing."""
        stop = threading.Event()

        def send() -> None:
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    server.sendall(b"x" * 4096)

        def read() -> None:
            with contextlib.suppress(OSError):
                while not stop.is_set() and client.recv(65536):
                    pass

        threads = [threading.Thread(target=send), threading.Thread(target=read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for one in (server, client):
                one.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)

    def is_connected(self, where: NetNS, address: str, port: int) -> bool:
        """Whether a connection comes about, or the kernel on the node counts its SYN as dropped."""
        before = self.dropped("eg", "in", "de", "di")
        client = where.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        client.connect_ex((address, port))

        def outcome() -> str:
            if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and _has_peer(client):
                return "connected"
            return "dropped" if self.dropped("eg", "in", "de", "di") > before else ""

        connected = poll(outcome, f"{address}:{port} connected or dropped") == "connected"
        if not connected:
            client.close()  # it would go on trying
        return connected


def _has_peer(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True


@pytest.fixture
def until() -> Callable[..., Any]:
    """`until(condition, what)`: poll with a deadline."""
    return poll


@pytest.fixture(scope="module")
def four_namespaces() -> Iterator[dict[str, NetNS]]:
    spaces = {name: NetNS() for name in ("node", "a", "b", "internet")}
    try:
        node, a, b, internet = spaces.values()
        node.shell(NODE_SETUP, POD_A=str(a.tid), POD_B=str(b.tid), INTERNET=str(internet.tid))
        a.shell(POD_SETUP, ADDRESS=POD_A, ADDRESS6=POD_A6)
        b.shell(POD_SETUP, ADDRESS=POD_B, ADDRESS6=POD_B6)
        internet.shell(INTERNET_SETUP)
        yield spaces
    finally:
        for space in spaces.values():
            space.close()


@pytest.fixture
def world(four_namespaces: dict[str, NetNS]) -> Iterator[World]:
    """A node without rules of ours; the namespaces are shared by a module."""
    node = four_namespaces["node"]
    nft, routes = node.do(Nft), node.do(Routes)
    made = World(
        node, four_namespaces["a"], four_namespaces["b"], four_namespaces["internet"], nft=nft, routes=routes
    )
    routes.ensure_proxy_route()
    try:
        yield made
    finally:
        for space in four_namespaces.values():
            space.close_sockets()
        nft.remove()
        made.remove_proxy_route()
        node.run("conntrack", "-F", check=False)
        nft.close()
        routes.close()


def _empty() -> Iterator[NetNS]:
    space = NetNS()
    try:
        space.shell(LOOPBACK)
        yield space
    finally:
        space.close()


@pytest.fixture
def alone() -> Iterator[NetNS]:
    """An empty namespace."""
    yield from _empty()


@pytest.fixture
def another() -> Iterator[NetNS]:
    """One more."""
    yield from _empty()
