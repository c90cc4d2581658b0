"""What is told of a dropped packet: to the log, and (if the settings say so) to the pod that sent it."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from acns.datapath import constants, nflog
from acns.datapath.nflog import Logged, NflogSocket
from acns.policy import model

pytestmark = pytest.mark.root

SERVER, OTHER, POD_A, POD_B, NODE = "203.0.113.7", "203.0.113.8", "10.244.1.3", "10.244.1.4", "172.18.0.2"
WORLD = model.World()


class Log:
    """All that has been logged in the namespace so far."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.socket: NflogSocket = world.node.do(NflogSocket, constants.NFLOG_GROUP)
        self.seen: list[Logged] = []

    def of(self, id_: str, count: int = 1) -> list[Logged]:
        """What was logged under an id, once that is so many packets."""

        def found() -> list[Logged]:
            while batch := self.socket.read():
                self.seen += batch
            mine = [one for one in self.seen if one.prefix == f"acns:{id_} "]
            return mine if len(mine) >= count else []

        packets: list[Logged] = self.world.until(found, f"{count} packets of {id_} are logged")
        return packets


@pytest.fixture
def log(world: Any) -> Iterator[Log]:
    made = Log(world)
    with contextlib.closing(made.socket):
        yield made


def send(world: Any, where: Any, source: str, target: str, port: int = 5000, count: int = 1) -> None:
    sender = world.udp(where, source)
    for _ in range(count):
        sender.sendto(b"x", (target, port))


def test_what_no_rule_allows_is_logged_under_its_chain(world: Any, log: Log) -> None:
    world.enforce(world.policy(a=world.only(), to_a=world.only()))
    send(world, world.a, POD_A, SERVER, 5001)
    send(world, world.internet, SERVER, POD_A, 5002)
    ids = {name.partition("_")[0]: name for name in world.ruleset.counters}
    (sent,) = log.of(ids["eg"])
    assert (str(sent.headers.destination), sent.headers.destination_port) == (SERVER, 5001)
    assert sent.hook == nflog.PREROUTING
    (received,) = log.of(ids["in"])
    assert (str(received.headers.source), received.headers.destination_port) == (SERVER, 5002)
    assert received.hook == nflog.FORWARD


def test_what_a_rule_denies_is_logged_under_that_rule(world: Any, log: Log) -> None:
    allow, deny = world.allow(WORLD), world.allow(WORLD, 5000, "UDP")
    policy = world.only(allow, deny=(deny,))
    world.enforce(world.policy(a=policy, to_a=policy))
    send(world, world.a, POD_A, SERVER)
    send(world, world.internet, SERVER, POD_A)
    ids = {name.partition("_")[0]: name for name in world.ruleset.counters}
    for kind, hook in (("de", nflog.PREROUTING), ("di", nflog.FORWARD)):
        (one,) = log.of(ids[kind])
        assert one.hook == hook
        assert world.counter(ids[kind]) == 1


def test_drops_that_no_policy_decides_are_logged_under_their_counters(world: Any, log: Log) -> None:
    world.enforce(world.policy(a=world.only(), dns=(world.dns(world.kube_dns()),)))
    send(world, world.a, POD_A, "10.96.0.10", 53)
    send(world, world.b, POD_B, NODE, constants.PROXY_PORT)
    world.b.shell("ip addr add 10.244.1.98/32 dev lo")
    try:
        send(world, world.b, "10.244.1.98", SERVER)
    finally:
        world.b.shell("ip addr del 10.244.1.98/32 dev lo")
    with contextlib.closing(world.a.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as ipv6:
        ipv6.sendto(b"x", ("2001:db8::7", 53))
    for counter in ("unproxied", "resolver_port", "spoofed", "ipv6"):
        assert log.of(counter)
    world.enforce(world.policy(a=world.only(), to_a=world.only()), interfaces={})
    send(world, world.a, POD_A, SERVER)
    send(world, world.internet, SERVER, POD_A)
    hooks = Counter(one.hook for one in log.of("unplaced", 2))
    assert hooks == {nflog.PREROUTING: 1, nflog.FORWARD: 1}


@pytest.mark.parametrize("denied", [True, False])
def test_a_flood_is_counted_and_a_few_of_it_are_logged(world: Any, log: Log, denied: bool) -> None:
    deny = (world.allow(WORLD),) if denied else ()
    world.apply(deny=deny)
    prefix = "de" if denied else "eg"
    send(world, world.a, POD_A, SERVER, count=3000)
    world.until(lambda: world.dropped(prefix) == 3000, "all are counted")
    (id_,) = [name for name in world.ruleset.counters if name.startswith(f"{prefix}_")]
    assert 40 <= len(log.of(id_, 40)) < 400


# --- answers ------------------------------------------------------------------------------------------------


def refused(world: Any, address: str, port: int) -> int:
    """The errno that a TCP client hears."""
    client = world.a.socket(socket.AF_INET, socket.SOCK_STREAM)
    return int(client.connect_ex((address, port)))


@pytest.mark.parametrize("how", ["not allowed", "denied"])
def test_a_pod_is_told_at_once_what_its_egress_policy_drops(world: Any, how: str) -> None:
    policy = (
        world.only() if how == "not allowed" else world.only(world.allow(WORLD), deny=(world.allow(WORLD),))
    )
    world.enforce(world.policy(a=policy), deny_response="icmp")
    assert refused(world, SERVER, 443) == errno.EHOSTUNREACH
    client = world.udp(world.a, POD_A)
    client.connect((SERVER, 443))
    client.send(b"?")
    with pytest.raises(OSError, match=r"No route to host"):
        client.recv(10)


def test_a_connection_that_is_cut_is_told_too(world: Any) -> None:
    server = world.udp(world.internet, SERVER, 5000)
    world.enforce(world.policy(a=world.only(world.allow(WORLD))), deny_response="icmp")
    client = world.udp(world.a, POD_A)
    client.connect((SERVER, 5000))
    client.send(b"?")
    server.sendto(b"!", server.recvfrom(10)[1])
    assert client.recv(10) == b"!"
    world.enforce(world.policy(a=world.only()), deny_response="icmp")
    client.send(b"?")
    with pytest.raises(OSError, match=r"No route to host"):
        client.recv(10)


def test_strangers_are_told_nothing_and_nor_is_anybody_by_default(world: Any, until: Any) -> None:
    world.enforce(world.policy(to_a=world.only()), deny_response="icmp")
    received = world.internet.icmp_received()
    send(world, world.internet, SERVER, POD_A)
    until(lambda: world.dropped("in"), "dropped")
    world.apply()
    asked = world.a.icmp_received()
    send(world, world.a, POD_A, SERVER)
    until(lambda: world.dropped("eg"), "dropped")
    world.apply(world.allow(WORLD, 5000, "UDP"))
    send(world, world.a, POD_A, SERVER)  # nobody listens there: the error of this one is the only one
    until(lambda: world.a.icmp_received() > asked, "an answer that is one")
    assert world.a.icmp_received() == asked + 1
    assert world.internet.icmp_received() == received
