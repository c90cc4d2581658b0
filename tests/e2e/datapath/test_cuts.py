"""What ends a connection: a new deny, a rule that goes. Both ways, at once, and for good."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from acns.policy import model

from .packets import port_unreachable

pytestmark = pytest.mark.root

SERVER, POD_A = "203.0.113.7", "10.244.1.3"
WORLD = model.World()


def opened(
    world: Any, opener: Any, target: Any, address: str, port: int
) -> tuple[socket.socket, socket.socket]:
    """A connection that works: the opener's end, the target's."""
    listener = world.listen(target, address, port)
    client = world.connect(opener, address, port)
    peer, _ = listener.accept()
    world.talk(client, peer)
    return client, peer


def segments(world: Any) -> tuple[int, int]:
    return world.a.tcp_segments_received(), world.internet.tcp_segments_received()


def again(world: Any, until: Any, kind: str) -> None:
    """A transfer is cut, and its sender tries again: what it sent before has arrived by now."""
    until(lambda: world.dropped(kind), "its segments are dropped")
    dropped = world.dropped(kind)
    until(lambda: world.dropped(kind) > dropped, "what it sends again too")


@pytest.mark.parametrize("direction", list(model.Direction))
def test_a_new_deny_cuts_both_ways_at_once(world: Any, until: Any, direction: model.Direction) -> None:
    """Two connections, each with a deny of its own, so that each way has a counter to wait for."""

    def enforce(*denied_ports: int) -> None:
        policy = world.only(world.allow(WORLD), deny=tuple(world.allow(WORLD, port) for port in denied_ports))
        world.enforce(world.policy(**{"a" if direction is model.Direction.EGRESS else "to_a": policy}))

    enforce()
    ways = (world.a, world.internet), (world.internet, world.a)
    opener, target = ways[0] if direction is model.Direction.EGRESS else ways[1]
    address = POD_A if target is world.a else SERVER
    one, two = (opened(world, opener, target, address, port) for port in (8081, 8082))
    enforce(8081, 8082)
    before = segments(world)
    one[0].send(b"can you hear me?")
    two[1].send(b"and you me?")
    for port in (8081, 8082):
        denied = world.rule(f"entity:world {port}/TCP", deny=True)
        until(lambda denied=denied: world.counter(denied), "dropped by the deny")
    assert segments(world) == before
    assert world.dropped("eg", "er", "in", "ir") == 0


@pytest.mark.parametrize("denied", ["all traffic", "its port"])
def test_a_new_deny_stops_a_running_transfer(world: Any, until: Any, denied: str) -> None:
    allow = world.allow(WORLD)
    world.apply(allow)
    client, peer = opened(world, world.a, world.internet, SERVER, 443)
    with world.download(peer, client):
        start = world.a.tcp_segments_received()
        until(lambda: world.a.tcp_segments_received() > start + 20, "the transfer runs")
        world.apply(allow, deny=(world.allow(WORLD, None if denied == "all traffic" else 443),))
        again(world, until, "de")
        before = segments(world)
        again(world, until, "de")
        assert segments(world) == before


def test_a_deny_that_goes_lets_the_connection_go_on(world: Any, until: Any) -> None:
    allow, deny = world.allow(WORLD, 8080), world.allow(WORLD)
    world.enforce(world.policy(to_a=world.only(allow)))
    client, peer = opened(world, world.internet, world.a, POD_A, 8080)
    world.enforce(world.policy(to_a=world.only(allow, deny=(deny,))))
    client.send(b"ping")
    until(lambda: world.dropped("di"), "cut")
    world.enforce(world.policy(to_a=world.only(allow)))
    assert peer.recv(100) == b"ping"


@pytest.mark.parametrize("egress", ["free", "shut", "open"])
def test_taking_an_ingress_rule_away_cuts_at_once_and_for_good(world: Any, until: Any, egress: str) -> None:
    """Also when connection tracking forgets the connection, whoever of the two is heard first then, and
    although the pod itself may open what it likes."""
    outward = {
        "free": model.DirectionPolicy(),
        "shut": world.only(world.allow(model.Host(), 22)),
        "open": world.only(world.allow(model.Everything())),
    }[egress]
    world.enforce(world.policy(a=outward, to_a=world.only(world.allow(WORLD, 8080))))
    client, peer = opened(world, world.internet, world.a, POD_A, 8080)
    with world.download(peer, client):
        start = world.internet.tcp_segments_received()
        until(lambda: world.internet.tcp_segments_received() > start + 20, "the transfer runs")
        world.enforce(world.policy(a=outward, to_a=world.only(world.allow(WORLD, 9090))))
        again(world, until, "ir")
        before = segments(world)
        client.send(b"can you hear me?")
        until(lambda: world.dropped("in"), "the client's are dropped")
        world.node.run("conntrack", "-F")
        midstream, drops = world.counter("midstream"), world.drops()
        until(lambda: world.counter("midstream") > midstream, "picked up from mid-stream, and dropped")
        client.send(b"and now?")
        until(lambda: world.drops() > drops + 2, "both ways")
        assert segments(world) == before


def test_an_egress_connection_that_was_cut_does_not_come_back_through_an_open_ingress(
    world: Any, until: Any
) -> None:
    ingress = world.only(world.allow(model.Everything()))
    world.enforce(world.policy(a=world.only(world.allow(WORLD)), to_a=ingress))
    client, peer = opened(world, world.a, world.internet, SERVER, 443)
    with world.download(peer, client):
        world.enforce(world.policy(a=world.only(), to_a=ingress))
        again(world, until, "er")
        before = segments(world)
        world.node.run("conntrack", "-F")
        until(lambda: world.counter("midstream") > 1, "picked up from mid-stream, and dropped")
        assert segments(world) == before


@pytest.mark.parametrize("outward", [True, False])
def test_a_connection_that_nobody_saw_opened_does_not_go_on_although_it_may_be_opened(
    world: Any, until: Any, outward: bool
) -> None:
    """A pod with a policy in that one direction only, and a peer that the policy permits."""
    open_to_all = world.only(world.allow(model.Everything()))
    world.enforce(world.policy(a=open_to_all) if outward else world.policy(to_a=open_to_all))
    ends = (world.a, world.internet) if outward else (world.internet, world.a)
    client, peer = opened(world, *ends, *((SERVER, 443) if outward else (POD_A, 8080)))
    world.talk(client, peer)
    world.node.run("conntrack", "-F")
    before = segments(world)
    client.send(b"still there?")
    until(lambda: world.counter("midstream") > 0, "picked up from mid-stream, and dropped")
    assert segments(world) == before


def test_icmp_errors_of_a_denied_connection_end_with_its_first_denied_packet(world: Any, until: Any) -> None:
    """A pod that quotes a packet it once received could tell its peer anything."""
    allow, deny = world.allow(WORLD, 443), world.allow(model.Everything(), 443)
    world.apply(allow)
    client, peer = opened(world, world.a, world.internet, SERVER, 443)
    error = port_unreachable(peer.getsockname(), client.getsockname())
    raw = world.a.socket(socket.AF_INET, socket.SOCK_RAW, protocol=socket.IPPROTO_ICMP)
    received = world.internet.icmp_received()
    raw.sendto(error, (SERVER, 0))
    until(lambda: world.internet.icmp_received() > received, "errors of an allowed connection pass")
    world.apply(allow, deny=(deny,))
    client.send(b"?")
    until(lambda: world.dropped("de"), "cut")
    received = world.internet.icmp_received()
    raw.sendto(error, (SERVER, 0))
    until(lambda: world.dropped("eg"), "the error is dropped")
    assert world.internet.icmp_received() == received
