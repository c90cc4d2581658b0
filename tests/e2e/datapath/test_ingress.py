"""What may come to a restricted pod, by real packets: peers, ports, its node, itself, IPv6."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from acns.policy import model

pytestmark = pytest.mark.root

SERVER, REMOTE_POD, POD_A, POD_B, HAIRPIN = (
    "203.0.113.7",
    "10.244.0.3",
    "10.244.1.3",
    "10.244.1.4",
    "10.96.0.77",
)
POD_A6, POD_B6, INTERNET6 = "fd00:10:244:1::a", "fd00:10:244:1::b", "2001:db8::7"


def restrict(world: Any, *allows: model.Match, deny: tuple[model.Match, ...] = (), **more: Any) -> str:
    """Restrict what comes to pod a."""
    text: str = world.enforce(world.policy(to_a=world.only(*allows, deny=deny)), **more)
    return text


def test_the_world_reaches_the_port_that_is_open_to_it_and_no_pod_does(world: Any) -> None:
    for port in (8080, 9090):
        world.listen(world.a, POD_A, port)
    restrict(world, world.allow(model.World(), 8080))
    assert world.is_connected(world.internet, POD_A, 8080)
    assert not world.is_connected(world.internet, POD_A, 9090)
    assert not world.is_connected(world.b, POD_A, 8080)


def test_a_cidr_lets_in_who_is_inside_it_but_no_pod(world: Any) -> None:
    world.listen(world.a, POD_A, 8080)
    restrict(world, world.allow(world.cidr("172.18.0.0/24", "10.0.0.0/8"), 8080))
    assert world.is_connected(world.internet, POD_A, 8080)  # from 172.18.0.1
    assert not world.is_connected(world.b, POD_A, 8080)
    restrict(world, world.allow(world.cidr("192.0.2.0/24"), 8080))
    assert not world.is_connected(world.internet, POD_A, 8080)


def test_selected_pods_are_let_in_until_they_are_selected_no_more(world: Any, until: Any) -> None:
    server = world.listen(world.a, POD_A, 8080)
    restrict(world, world.allow(world.pods("app=b", POD_B), 8080))
    assert not world.is_connected(world.internet, POD_A, 8080)
    client = world.connect(world.b, POD_A, 8080)
    peer, _ = server.accept()
    world.talk(client, peer)
    restrict(world, world.allow(world.pods("app=b", REMOTE_POD), 8080))
    received = world.a.tcp_segments_received()
    client.send(b"still there?")
    until(lambda: world.dropped("in"), "cut")
    peer.send(b"still here!")
    until(lambda: world.dropped("ir"), "cut the other way")
    assert world.a.tcp_segments_received() == received


def test_a_pod_that_nobody_may_reach_is_reached_by_its_node_and_by_itself(world: Any) -> None:
    server = world.listen(world.a, POD_A, 8080)
    restrict(world)
    for opener in (world.b, world.internet):
        assert not world.is_connected(opener, POD_A, 8080)
    for opener, address, port in ((world.node, POD_A, 8080), (world.a, POD_A, 8080), (world.a, HAIRPIN, 80)):
        client = world.connect(opener, address, port)
        peer, _ = server.accept()
        world.talk(client, peer)


@pytest.mark.parametrize("peer", [model.Host(), model.Everything()])
def test_a_deny_that_means_the_node_stops_what_it_opens_and_nothing_else(world: Any, peer: Any) -> None:
    server = world.listen(world.a, POD_A, 8080)
    restrict(world, world.allow(model.Everything()), deny=(world.allow(peer, 8080),))
    assert not world.is_connected(world.node, POD_A, 8080)
    assert world.dropped("di")
    assert world.is_connected(world.internet, POD_A, 8080) == (peer != model.Everything())
    server.close()
    world.listen(world.a, POD_A, 8081)
    assert world.is_connected(world.node, POD_A, 8081)


def test_a_deny_for_others_leaves_the_node_alone(world: Any) -> None:
    world.listen(world.a, POD_A, 8080)
    restrict(world, deny=(world.allow(model.World()), world.allow(world.pods("others", POD_B))))
    assert world.is_connected(world.node, POD_A, 8080)


def test_a_connection_of_the_node_is_cut_both_ways_by_a_deny(world: Any, until: Any) -> None:
    server = world.listen(world.a, POD_A, 8080)
    restrict(world)
    client = world.connect(world.node, POD_A, 8080)
    peer, _ = server.accept()
    world.talk(client, peer)
    restrict(world, deny=(world.allow(model.Host()),))
    peer.sendall(b"from the pod")
    until(lambda: world.dropped("di"), "cut as it comes back")
    before = world.dropped("di")
    client.sendall(b"from the node")
    until(lambda: world.dropped("di") > before, "cut as it goes")


def test_what_the_pod_opens_itself_is_answered(world: Any) -> None:
    server = world.listen(world.internet, SERVER, 443)
    restrict(world)
    client = world.connect(world.a, SERVER, 443)
    peer, _ = server.accept()
    world.talk(client, peer)
    client = world.udp(world.a, POD_A)
    client.connect((SERVER, 9))
    client.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


def test_icmp_errors_of_the_pod_reach_who_was_let_in(world: Any) -> None:
    restrict(world, world.allow(model.World(), 9, "UDP"))
    client = world.udp(world.internet, SERVER)
    client.connect((POD_A, 9))
    client.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


def test_a_connection_from_before_the_policy_is_judged_by_it(world: Any, until: Any) -> None:
    server = world.listen(world.a, POD_A, 8080)
    client = world.connect(world.internet, POD_A, 8080)
    peer, _ = server.accept()
    restrict(world, world.allow(model.World(), 8080))
    world.talk(client, peer)
    restrict(world, world.allow(model.World(), 9090))
    client.send(b"ping")
    until(lambda: world.dropped("in"), "cut")


def test_packets_to_a_restricted_pod_without_known_interface_are_dropped(world: Any) -> None:
    server = world.udp(world.a, POD_A, 5000)
    restrict(world, world.allow(model.Everything()), interfaces={})
    world.udp(world.internet, SERVER).sendto(b"early", (POD_A, 5000))
    world.udp(world.node, "10.244.1.1").sendto(b"its node", (POD_A, 5000))
    assert server.recv(100) == b"its node"
    assert world.counter("unplaced") == 1


# --- IPv6 ---------------------------------------------------------------------------------------------------


def test_ipv6_reaches_a_restricted_pod_only_from_its_node(world: Any, until: Any) -> None:
    server = world.udp6(world.a, 5000)
    restrict(world, world.allow(model.Everything()))
    for opener in (world.b, world.internet):
        world.udp6(opener).sendto(b"stranger", (POD_A6, 5000))
    until(lambda: world.counter("ipv6") == 2, "both counted")
    probe = world.udp6(world.node)
    probe.sendto(b"its node", (POD_A6, 5000))
    data, source = server.recvfrom(100)
    assert data == b"its node"
    server.sendto(b"well", source)
    assert probe.recv(100) == b"well"
    free = world.udp6(world.b, 5000)
    world.udp6(world.internet).sendto(b"neighbour", (POD_B6, 5000))
    assert free.recv(100) == b"neighbour"


def test_what_a_pod_restricted_in_ingress_opens_over_ipv6_is_answered(world: Any) -> None:
    server = world.udp6(world.internet, 5000)
    restrict(world)
    client = world.udp6(world.a)
    client.sendto(b"?", (INTERNET6, 5000))
    server.sendto(b"!", server.recvfrom(100)[1])
    assert client.recv(100) == b"!"


def test_an_ipv6_connection_to_the_pod_is_cut_both_ways_and_stays_cut(world: Any, until: Any) -> None:
    listener = world.listen(world.a, POD_A6, 8080, socket.AF_INET6)
    world.enforce(world.policy())
    client = world.internet.socket(socket.AF_INET6, socket.SOCK_STREAM)
    client.connect((POD_A6, 8080))
    peer, _ = listener.accept()
    world.talk(client, peer)
    restrict(world, world.allow(model.Everything()))
    segments = world.a.tcp_segments_received(), world.internet.tcp_segments_received()
    client.send(b"can you hear me?")
    until(lambda: world.counter("ipv6"), "the client's segment is dropped")
    before = world.counter("ipv6")
    peer.send(b"no")
    until(lambda: world.counter("ipv6") > before, "the pod's segment is dropped")
    world.node.run("conntrack", "-F")
    before = world.counter("midstream")
    until(lambda: world.counter("midstream") > before, "picked up from mid-stream, and dropped")
    assert (world.a.tcp_segments_received(), world.internet.tcp_segments_received()) == segments
