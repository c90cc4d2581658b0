"""DNS queries on their way to the resolver: with their destination, and never past a dead one."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Network
from typing import Any

import pytest

from acns.datapath import constants
from acns.policy import model

pytestmark = pytest.mark.root

CLUSTER_IP, REMOTE_POD, POD_A = "10.96.0.10", "10.244.0.3", "10.244.1.3"
SERVER, OTHER_SERVER = "203.0.113.7", "203.0.113.8"

IP_TRANSPARENT, IP_RECVORIGDSTADDR, SO_MARK = 19, 20, 36
TRANSPARENT = (socket.SOL_IP, IP_TRANSPARENT, 1)
REUSE = (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
MARKED = (socket.SOL_SOCKET, SO_MARK, constants.MARK_FROM_PROXY)


def udp_resolver(world: Any) -> socket.socket:
    options = (TRANSPARENT, REUSE, (socket.SOL_IP, IP_RECVORIGDSTADDR, 1))
    made: socket.socket = world.node.socket(socket.AF_INET, socket.SOCK_DGRAM, *options)
    made.bind((constants.PROXY_ADDRESS, constants.PROXY_PORT))
    return made


def tcp_resolver(world: Any) -> socket.socket:
    made: socket.socket = world.node.socket(socket.AF_INET, socket.SOCK_STREAM, TRANSPARENT, REUSE, MARKED)
    made.bind((constants.PROXY_ADDRESS, constants.PROXY_PORT))
    made.listen()
    return made


def receive(resolver: socket.socket) -> tuple[bytes, tuple[str, int], tuple[str, int]]:
    """A query, who sent it, and whom it was for."""
    data, ancillary, _, source = resolver.recvmsg(512, 128)
    (value,) = [value for _, kind, value in ancillary if kind == IP_RECVORIGDSTADDR]
    port, address = struct.unpack_from("!2xH4s", value)
    return data, source, (socket.inet_ntoa(address), port)


def answer(world: Any, data: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
    made = world.node.socket(socket.AF_INET, socket.SOCK_DGRAM, TRANSPARENT, REUSE, MARKED)
    made.bind(source)
    made.sendto(data, destination)


@pytest.mark.parametrize("server", [CLUSTER_IP, REMOTE_POD])
def test_udp_queries_reach_the_resolver_and_are_answered_by_the_server_asked(world: Any, server: str) -> None:
    world.apply(dns=(world.dns(world.kube_dns()),))
    resolver, client = udp_resolver(world), world.udp(world.a, POD_A, 40053)
    for query in (b"first", b"again, from the same port"):
        client.sendto(query, (server, 53))
        data, source, destination = receive(resolver)
        assert (data, source, destination) == (query, (POD_A, 40053), (server, 53))
        answer(world, b"answer", destination, source)
        assert client.recvfrom(100) == (b"answer", (server, 53))
    assert CLUSTER_IP not in world.node.run("conntrack", "-L", "-p", "udp")


def test_a_tcp_query_reaches_the_resolver_and_its_answer_comes_back(world: Any) -> None:
    world.apply(dns=(world.dns(world.kube_dns()),))
    resolver = tcp_resolver(world)
    client = world.connect(world.a, CLUSTER_IP, 53)
    session, source = resolver.accept()
    assert session.getsockname() == (CLUSTER_IP, 53)
    assert source == client.getsockname()
    world.talk(client, session)


def test_what_a_proxy_asks_of_a_service_is_translated_though_it_has_the_mark_of_its_answers(
    world: Any,
) -> None:
    """Cilium's proxy marks its sockets towards the servers too, with the pod's identity in the upper half."""
    world.apply(dns=(world.dns(world.kube_dns()),))
    backend = world.udp(world.internet, REMOTE_POD, 53)
    identity = 4321
    marked = (socket.SOL_SOCKET, SO_MARK, identity << 16 | constants.MARK_FROM_PROXY)
    upstream = world.node.socket(socket.AF_INET, socket.SOCK_DGRAM, marked)
    upstream.connect((CLUSTER_IP, 53))
    upstream.send(b"query")
    data, source = backend.recvfrom(100)
    assert data == b"query"
    backend.sendto(b"answer", source)
    assert upstream.recv(100) == b"answer"


@pytest.mark.parametrize("routed", [True, False], ids=["routed", "routing rule missing too"])
@pytest.mark.parametrize("server", [CLUSTER_IP, REMOTE_POD])
def test_without_a_resolver_queries_reach_nobody(world: Any, server: str, routed: bool) -> None:
    backend_udp = world.udp(world.internet, REMOTE_POD, 53)
    backend_tcp = world.listen(world.internet, REMOTE_POD, 53)
    world.apply(world.allow(model.Everything()), dns=(world.dns(world.kube_dns()),))
    if not routed:
        world.remove_proxy_route()
    world.udp(world.a, POD_A).sendto(b"?", (server, 53))
    tcp = world.a.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.settimeout(0.2)
    with pytest.raises(TimeoutError):
        tcp.connect((server, 53))
    assert world.counter("unproxied") >= 2
    assert_silent(backend_udp, backend_tcp)


def test_without_the_routing_rule_queries_reach_nobody(world: Any) -> None:
    backend = world.udp(world.internet, REMOTE_POD, 53)
    world.apply(world.allow(model.Everything()), dns=(world.dns(world.kube_dns()),))
    resolver = udp_resolver(world)
    world.remove_proxy_route()
    world.udp(world.a, POD_A).sendto(b"?", (REMOTE_POD, 53))
    (redirected,) = [name for name in world.nft.counters() if name.startswith("q_")]
    assert world.counter(redirected) == 1
    world.udp(world.b, "10.244.1.4").sendto(b"from a free pod", (REMOTE_POD, 53))
    assert backend.recv(100) == b"from a free pod"
    assert_silent(backend, resolver)


def test_other_servers_ports_and_pods_are_not_redirected(world: Any) -> None:
    world.apply(world.allow(model.Everything()), dns=(world.dns(world.kube_dns()),))
    resolver = udp_resolver(world)
    for where, address, port in (
        (world.a, SERVER, 53),
        (world.a, REMOTE_POD, 54),
        (world.b, REMOTE_POD, 53),
    ):
        server = world.udp(world.internet, address, port)
        world.udp(where, POD_A if where is world.a else "10.244.1.4").sendto(b"?", (address, port))
        assert server.recv(100) == b"?"
        server.close()
    assert_silent(resolver)


def test_a_network_of_servers_means_no_pod_and_no_service(world: Any) -> None:
    anywhere = model.DNSServers(
        "cidr", networks=(IPv4Network("0.0.0.0/0"),), ports=frozenset({(17, 53), (6, 5353)})
    )
    world.apply(world.allow(model.Everything()), dns=(world.dns(anywhere),))
    resolver, client = udp_resolver(world), world.udp(world.a, POD_A)
    client.sendto(b"outside", (SERVER, 53))
    assert receive(resolver)[2] == (SERVER, 53)
    backend = world.udp(world.internet, REMOTE_POD, 53)
    for address in (CLUSTER_IP, REMOTE_POD):
        client.sendto(b"inside", (address, 53))
        assert backend.recv(100) == b"inside"
    client.sendto(b"tcp only", (SERVER, 5353))
    assert_silent(resolver)


def test_a_denied_server_of_a_network_is_neither_redirected_nor_reached(world: Any, until: Any) -> None:
    anywhere = model.DNSServers("cidr", networks=(IPv4Network("0.0.0.0/0"),), ports=frozenset({(17, 53)}))
    other = world.udp(world.internet, OTHER_SERVER, 53)
    allow, deny = world.allow(model.World()), world.allow(world.cidr(f"{OTHER_SERVER}/32"), 53, "ANY")
    world.apply(allow, deny=(deny,), dns=(world.dns(anywhere),))
    resolver, client = udp_resolver(world), world.udp(world.a, POD_A)
    client.sendto(b"denied", (OTHER_SERVER, 53))
    until(lambda: world.dropped("de") == 1, "dropped by the deny")
    client.sendto(b"allowed", (SERVER, 53))
    assert receive(resolver)[0] == b"allowed"
    assert_silent(resolver, other)


def test_a_deny_of_networks_means_no_service(world: Any) -> None:
    """Before translation a ClusterIP looks like any address; it is a pod, which no CIDR selects."""
    everything = model.DNSServers(
        "everything", networks=(IPv4Network("0.0.0.0/0"),), ports=frozenset({(17, 53)}), outside_only=False
    )
    world.apply(deny=(world.allow(world.cidr("0.0.0.0/0")),), dns=(world.dns(everything),))
    resolver, client = udp_resolver(world), world.udp(world.a, POD_A)
    client.sendto(b"a pod, in truth", (CLUSTER_IP, 53))
    assert receive(resolver)[2] == (CLUSTER_IP, 53)


def assert_silent(*listeners: socket.socket) -> None:
    """Nothing came; asked after the packet's fate is known, so there is nothing to wait for."""
    for listener in listeners:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept() if listener.type == socket.SOCK_STREAM else listener.recv(100)


AS_POD = (socket.SOL_SOCKET, SO_MARK, constants.MARK_AS_POD)


@pytest.mark.parametrize("transparent", [True, False], ids=["transparent", "not transparent"])
def test_answer_to_what_was_asked_as_a_pod_comes_to_who_asked_and_never_to_the_pod(
    world: Any, transparent: bool
) -> None:
    world.enforce(world.policy(a=world.only(), dns=(world.dns(world.kube_dns()),)), transparent=transparent)
    server, pod = world.udp(world.internet, SERVER, 53), world.udp(world.a, POD_A, 40053)
    asking = world.node.socket(socket.AF_INET, socket.SOCK_DGRAM, TRANSPARENT, REUSE, AS_POD)
    asking.bind((POD_A, 40053))
    asking.connect((SERVER, 53))
    asking.send(b"?")
    assert server.recvfrom(100) == (b"?", (POD_A, 40053))
    server.sendto(b"answer", (POD_A, 40053))
    if transparent:
        assert asking.recv(100) == b"answer"
    asking.close()  # the resolver dies: its rule is left, its socket is not
    before = world.drops()
    server.sendto(b"late", (POD_A, 40053))
    world.until(lambda: world.drops() > before, "dropped")
    assert_silent(pod)


def test_answer_over_tcp_to_what_was_asked_as_a_pod_comes_to_who_asked(world: Any) -> None:
    world.enforce(world.policy(a=world.only(), dns=(world.dns(world.kube_dns()),)), transparent=True)
    listener = world.listen(world.internet, SERVER, 53)
    asking = world.node.socket(socket.AF_INET, socket.SOCK_STREAM, TRANSPARENT, REUSE, AS_POD)
    asking.bind((POD_A, 40054))
    asking.connect((SERVER, 53))
    server, source = listener.accept()
    assert source == (POD_A, 40054)
    world.talk(asking, server)
