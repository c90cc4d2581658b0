"""One connection between two pods of a node: one's egress policy judges it, and the other's ingress."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from acns.policy import model

pytestmark = pytest.mark.root

POD_A, POD_B = "10.244.1.3", "10.244.1.4"


def enforce(world: Any, *, out: bool = True, into: bool = True) -> None:
    """Pod a may open b:8080, and b lets a in; pod a itself lets nobody in, and b opens nothing."""
    to_b = [world.allow(world.pods("app=b", POD_B), 8080)] if out else []
    from_a = [world.allow(world.pods("app=a", POD_A), 8080)] if into else []
    world.enforce(
        world.policy(a=world.only(*to_b), to_a=world.only(), b=world.only(), to_b=world.only(*from_a))
    )


def connected(world: Any) -> tuple[socket.socket, socket.socket]:
    server = world.listen(world.b, POD_B, 8080)
    enforce(world)
    client = world.connect(world.a, POD_B, 8080)
    peer, _ = server.accept()
    world.talk(client, peer)
    return client, peer


def test_a_connection_needs_both_and_carries_both_grants(world: Any) -> None:
    connected(world)
    egress = world.grants.egress.known()[world.rule_of(model.Direction.EGRESS)]
    ingress = world.grants.ingress.known()[world.rule_of(model.Direction.INGRESS)]
    assert f"mark={ingress << 16 | egress} " in world.node.run(
        "conntrack", "-L", "-p", "tcp", "--dport", "8080"
    )
    assert world.dropped("eg", "er", "in", "ir") == 0
    for one_sided in ({"out": False}, {"into": False}):
        enforce(world, **one_sided)
        assert not world.is_connected(world.a, POD_B, 8080)


@pytest.mark.parametrize(("taken", "forth", "back"), [("out", ("eg",), ("er",)), ("into", ("in",), ("ir",))])
def test_each_of_them_cuts_it_both_ways(
    world: Any, until: Any, taken: str, forth: tuple[str], back: tuple[str]
) -> None:
    client, peer = connected(world)
    enforce(world, **{taken: False})
    before = world.a.tcp_segments_received(), world.b.tcp_segments_received()
    client.send(b"?")
    until(lambda: world.dropped(*forth), "what the client sends is dropped")
    peer.send(b"!")
    until(lambda: world.dropped(*back), "what the server sends is dropped")
    assert (world.a.tcp_segments_received(), world.b.tcp_segments_received()) == before
    enforce(world)
    assert (peer.recv(10), client.recv(10)) == (b"?", b"!")


def test_an_answer_is_no_way_in(world: Any) -> None:
    """What b may answer to a it may not open to a, nor a to b on another port."""
    world.listen(world.a, POD_A, 8080)
    world.listen(world.b, POD_B, 9090)
    connected(world)
    assert not world.is_connected(world.b, POD_A, 8080)
    assert not world.is_connected(world.a, POD_B, 9090)
