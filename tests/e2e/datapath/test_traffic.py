"""The L4 side of rules, by real packets: ranges of ports, SCTP, ICMP."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from typing import Any

import pytest

from acns.policy import model
from acns.policy.model import ICMP, Ports, Protocol

from .packets import icmp, port_unreachable, sctp_init, sctp_init_ack

pytestmark = pytest.mark.root

SERVER, OTHER, POD_A, POD_B = "203.0.113.7", "203.0.113.8", "10.244.1.3", "10.244.1.4"
WORLD = model.World()
ECHO, TIMESTAMP = 8, 13
IDS = itertools.count(1)


def test_a_denied_range_wins_port_by_port(world: Any) -> None:
    ports = {
        7999: False,
        8000: True,
        8049: True,
        8050: False,
        8060: False,
        8061: True,
        8100: True,
        8101: False,
    }
    allow = world.match(WORLD, Ports(Protocol.TCP, 8000, 8100))
    deny = world.match(WORLD, Ports(Protocol.ANY, 8050, 8060))
    for direction in ("egress", "ingress"):
        policy = world.only(allow, deny=(deny,))
        world.enforce(world.policy(**{"a" if direction == "egress" else "to_a": policy}))
        opener, target, address = (
            (world.a, world.internet, SERVER) if direction == "egress" else (world.internet, world.a, POD_A)
        )
        for port, open_ in ports.items():
            world.listen(target, address, port)
            assert world.is_connected(opener, address, port) is open_, (direction, port)
        assert world.dropped("de", "di") == 2


def test_every_port_of_a_protocol_is_no_other_protocol(world: Any, until: Any) -> None:
    world.listen(world.internet, SERVER, 443)
    world.apply(world.match(WORLD, Ports(Protocol.UDP, 0, 0)))
    assert not world.is_connected(world.a, SERVER, 443)
    server = world.udp(world.internet, SERVER, 443)
    world.udp(world.a, POD_A).sendto(b"?", (SERVER, 443))
    assert server.recv(10) == b"?"


# --- ICMP ---------------------------------------------------------------------------------------------------


def raw_icmp(where: Any) -> socket.socket:
    made: socket.socket = where.socket(socket.AF_INET, socket.SOCK_RAW, protocol=socket.IPPROTO_ICMP)
    return made


def asks(world: Any, where: Any, address: str, kind: int = ECHO) -> bool:
    """Whether an ICMP question is answered, or it (or its answer) is dropped."""
    asking, number = raw_icmp(where), next(IDS)
    asking.setblocking(False)
    before = world.drops()
    asking.sendto(icmp(kind, struct.pack(">HH", number, 1) + bytes(12)), (address, 0))

    def outcome() -> str:
        with contextlib.suppress(BlockingIOError):
            while True:
                message = asking.recv(2000)[20:]
                if message[0] in (0, 14) and message[4:6] == number.to_bytes(2, "big"):
                    return "answered"
        return "dropped" if world.drops() > before else ""

    return bool(world.until(outcome, f"ICMP {kind} to {address} answered or dropped") == "answered")


def test_one_type_is_allowed_and_others_are_not(world: Any) -> None:
    world.apply(world.match(WORLD, ICMP(ECHO)))
    assert asks(world, world.a, SERVER, ECHO)
    assert not asks(world, world.a, SERVER, TIMESTAMP)
    assert not asks(world, world.a, POD_B, ECHO)


def test_one_type_is_denied_and_others_are_not(world: Any) -> None:
    world.apply(world.allow(WORLD), deny=(world.match(model.Everything(), ICMP(ECHO)),))
    assert not asks(world, world.a, SERVER, ECHO)
    assert asks(world, world.a, SERVER, TIMESTAMP)
    assert world.dropped("de") == 1


def test_a_rule_with_ports_blocks_icmp(world: Any) -> None:
    world.apply(world.match(WORLD, Ports(Protocol.ANY, 0, 0)))
    assert not asks(world, world.a, SERVER)


def test_icmp_comes_in_as_the_ingress_policy_says(world: Any) -> None:
    world.enforce(world.policy(to_a=world.only(world.match(world.pods("app=b", POD_B), ICMP(ECHO)))))
    assert asks(world, world.b, POD_A)
    assert not asks(world, world.internet, POD_A)
    assert asks(world, world.node, POD_A)
    assert asks(world, world.a, SERVER)


def test_a_ping_between_selected_pods_is_cut_when_they_are_selected_no_more(world: Any) -> None:
    rule = world.match(world.pods("app=b", POD_B), ICMP(ECHO))
    world.apply(rule)
    assert asks(world, world.a, POD_B)
    world.pods("app=b")
    world.apply(rule)
    assert not asks(world, world.a, POD_B)


def test_errors_about_allowed_connections_pass_and_others_do_not(world: Any, until: Any) -> None:
    listener = world.listen(world.internet, SERVER, 443)
    world.apply(world.allow(WORLD, 443))
    client = world.connect(world.a, SERVER, 443)
    listener.accept()
    mine, theirs = client.getsockname(), (SERVER, 443)
    router = raw_icmp(world.internet)
    received = world.a.icmp_received()
    router.sendto(port_unreachable(mine, theirs), (POD_A, 0))
    until(lambda: world.a.icmp_received() == received + 1, "the error about the connection comes in")
    router.sendto(port_unreachable(mine, (SERVER, 444)), (POD_A, 0))
    until(lambda: world.counter("invalid") == 1, "the other is dropped")
    raw_icmp(world.a).sendto(port_unreachable((SERVER, 444), mine), (SERVER, 0))
    until(lambda: world.counter("invalid") == 2, "and so is the pod's own")
    assert world.a.icmp_received() == received + 1


def test_an_error_may_come_from_a_router_that_is_denied(world: Any, until: Any) -> None:
    """As in Cilium: errors are judged by the connection that they are about."""
    listener = world.listen(world.internet, SERVER, 443)
    world.apply(world.allow(WORLD, 443), deny=(world.allow(world.cidr(f"{OTHER}/32")),))
    client = world.connect(world.a, SERVER, 443)
    peer, _ = listener.accept()
    router = raw_icmp(world.internet)
    router.bind((OTHER, 0))
    received = world.a.icmp_received()
    router.sendto(port_unreachable(client.getsockname(), (SERVER, 443)), (POD_A, 0))
    until(lambda: world.a.icmp_received() > received, "the error passes")
    world.talk(client, peer)
    assert world.dropped("de") == 0


@pytest.mark.parametrize("direction", list(model.Direction))
def test_errors_without_a_connection_pass_where_their_type_is_allowed(
    world: Any, until: Any, direction: model.Direction
) -> None:
    policy = world.only(world.match(WORLD, ICMP(3)))
    egress = direction is model.Direction.EGRESS
    world.enforce(world.policy(**{"a" if egress else "to_a": policy}))
    sender, target, address = (
        (world.a, world.internet, SERVER) if egress else (world.internet, world.a, POD_A)
    )
    received = target.icmp_received()
    sending = raw_icmp(sender)
    sending.sendto(icmp(11, bytes(4) + port_unreachable((address, 1), (address, 2))[8:]), (address, 0))
    until(lambda: world.counter("invalid"), "another type is dropped")
    sending.sendto(port_unreachable((address, 1), (address, 2)), (address, 0))
    until(lambda: target.icmp_received() > received, "this type passes")
    assert target.icmp_received() == received + 1


# --- SCTP ---------------------------------------------------------------------------------------------------


def raw_sctp(where: Any, address: str) -> socket.socket:
    made: socket.socket = where.socket(socket.AF_INET, socket.SOCK_RAW, protocol=socket.IPPROTO_SCTP)
    made.bind((address, 0))
    return made


@pytest.mark.parametrize("protocol", [Protocol.SCTP, Protocol.ANY])
def test_sctp_passes_on_its_port_and_is_answered(world: Any, until: Any, protocol: Protocol) -> None:
    world.apply(world.match(WORLD, Ports(protocol, 5000, 5000)))
    client, server = raw_sctp(world.a, POD_A), raw_sctp(world.internet, SERVER)
    client.sendto(sctp_init(4000, 5001), (SERVER, 0))
    until(lambda: world.dropped("eg") == 1, "another port is shut")
    client.sendto(sctp_init(4000, 5000), (SERVER, 0))
    assert server.recv(2000)[20:] == sctp_init(4000, 5000)
    server.sendto(sctp_init_ack(5000, 4000), (POD_A, 0))
    assert client.recv(2000)[20:] == sctp_init_ack(5000, 4000)


def test_sctp_comes_in_as_the_ingress_policy_says(world: Any, until: Any) -> None:
    world.enforce(
        world.policy(
            to_a=world.only(
                world.match(WORLD, Ports(Protocol.ANY, 0, 0)),
                deny=(world.match(WORLD, Ports(Protocol.SCTP, 5001, 5001)),),
            )
        )
    )
    server, client = raw_sctp(world.a, POD_A), raw_sctp(world.internet, SERVER)
    client.sendto(sctp_init(4000, 5001), (POD_A, 0))
    until(lambda: world.dropped("di") == 1, "the denied port is shut")
    client.sendto(sctp_init(4000, 5000), (POD_A, 0))
    assert server.recv(2000)[20:] == sctp_init(4000, 5000)
    server.sendto(sctp_init_ack(5000, 4000), (SERVER, 0))
    assert client.recv(2000)[20:] == sctp_init_ack(5000, 4000)
