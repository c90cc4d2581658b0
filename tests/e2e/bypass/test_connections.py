"""Tricks with connections that stand: what one lets through lends nothing to another.

The guest has a connection to a server that it may reach. Beside it go segments that its kernel never sent;
and a connection that a change of policy has cut is tried to be taken up again.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet, Raw

from ..pair import wire
from ..pair.wire import DNS_PORT, Wire
from .bypass_world import (
    ASK_AND_CONNECT,
    DENIED,
    EXACT,
    GUEST_FILE,
    HTTPS,
    ONLY_ASK,
    OPEN,
    World,
)

pytestmark = pytest.mark.root


@dataclass(frozen=True, slots=True)
class Standing:
    """A connection of a pod's to `OPEN`, with the numbers that its next segment would have."""

    client: Wire
    stream: socket.socket
    sport: int
    seq: int
    ack: int

    def segment(self, word: str, target: str = OPEN, port: int = HTTPS, flags: str = "PA") -> Packet:
        header = TCP(sport=self.sport, dport=port, flags=flags, seq=self.seq, ack=self.ack)
        return IP(src=self.client.address, dst=target) / header / Raw(word)


@contextlib.contextmanager
def standing(world: World, client: Wire) -> Iterator[Standing]:
    with client.connect(OPEN, HTTPS) as stream:
        sport = stream.getsockname()[1]
        ours = wire.both(wire.to_(OPEN), lambda packet: TCP in packet and packet[TCP].sport == sport)
        last = wire.wait_for(client.tap, lambda packet: ours(packet) and packet[TCP].flags == "A")
        yield Standing(client, stream, sport, last[TCP].seq, last[TCP].ack)


@pytest.fixture
def guests(world: World) -> Iterator[Standing]:
    world.learn(EXACT, OPEN)
    with standing(world, world.guest) as made:
        yield made


def error_about(stands: Standing, word: str, target: str) -> Packet:
    """An ICMP error about the connection: the kernel counts it as related to that, wherever it goes."""
    return IP(src=stands.client.address, dst=target) / ICMP(type=3, code=3) / stands.segment(word)


def error_about_a_lie(stands: Standing, word: str, target: str) -> Packet:
    """About a packet of the server's to us, as a real error would be; sent to somebody else."""
    about = IP(src=OPEN, dst=stands.client.address) / TCP(sport=HTTPS, dport=stands.sport) / Raw(word)
    return IP(src=stands.client.address, dst=target) / ICMP(type=3, code=3) / about


BESIDE: dict[str, Callable[[Standing, str], Packet]] = {
    "its port, to another server": lambda stands, word: stands.segment(word, DENIED),
    "its port, to another server, from the beginning": lambda stands, word: stands.segment(
        word, DENIED, flags="S"
    ),
    "its port, to another server, at the end": lambda stands, word: stands.segment(word, DENIED, flags="FA"),
    "its port, to another server, as a reset": lambda stands, word: stands.segment(word, DENIED, flags="R"),
    "another port of its server": lambda stands, word: stands.segment(word, port=80),
    "another port of its server, from the beginning": lambda stands, word: stands.segment(
        word, port=22, flags="S"
    ),
    "an ICMP error about it to another server": lambda stands, word: error_about(stands, word, DENIED),
    "an ICMP error about its answers to another server": lambda stands, word: error_about_a_lie(
        stands, word, DENIED
    ),
    "a datagram with its ports": lambda stands, word: (
        IP(src=stands.client.address, dst=OPEN) / UDP(sport=stands.sport, dport=HTTPS) / Raw(word)
    ),
}


@pytest.mark.parametrize("trick", BESIDE)
def test_a_connection_lends_nothing_to_what_stands_beside_it(
    world: World, guests: Standing, trick: str
) -> None:
    word = world.marker()
    world.guest.send(BESIDE[trick](guests, word))
    world.assert_never_came_out(word)


def test_its_own_next_segment_does_come_out(world: World, guests: Standing) -> None:
    """The control: the numbers are right, and the way of looking is."""
    word = world.marker()
    world.guest.send(guests.segment(word))
    wire.wait_for(world.internet, wire.holding(word))


def test_another_pods_connection_lends_nothing(world: World) -> None:
    """The same numbers and ports, under the guest's name and under the other's."""
    world.learn(EXACT, OPEN)
    with standing(world, world.free) as frees:
        word = world.marker()
        own = frees.segment(word)
        own[TCP].dport = 80
        own[IP].src = world.guest.address
        for packet in (own, frees.segment(word)):  # the latter with the free pod's address, from the guest
            world.guest.send(packet)
        world.assert_never_came_out(word)


# --- what others open to the guest ------------------------------------------------------------------------


def test_answering_one_port_of_a_pod_opens_no_other(world: World) -> None:
    """Ingress is free here: the guest may answer whoever speaks to it, and nobody else."""
    answer, more = world.marker(), world.marker()
    port = world.guest.udp_port()
    with world.lab.pod("free").open_socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
        speaker.bind(("", 0))
        speaker.sendto(b"?", (world.guest.address, port))
        asked = wire.wait_for(world.guest.tap, wire.both(wire.to_(world.guest.address), wire.is_udp_to(port)))
        header = IP(src=world.guest.address, dst=world.free.address)
        world.guest.send(header / UDP(sport=port, dport=asked[UDP].sport) / Raw(answer))
        wire.wait_for(world.free.tap, wire.holding(answer))
        beside = (asked[UDP].sport + 1, DNS_PORT)
        for other in beside:
            world.guest.send(header / UDP(sport=port, dport=other) / Raw(more))
        world.guest.send(
            IP(src=world.guest.address, dst=DENIED) / UDP(sport=port, dport=asked[UDP].sport) / Raw(more)
        )
        world.assert_never_came_out(more)


def test_a_reset_of_its_own_does_not_make_an_answer_of_a_new_connection(world: World) -> None:
    """Somebody speaks to the guest; it resets that and goes on from the same ports as the opener."""
    word = world.marker()
    with world.lab.pod("free").open_socket(socket.AF_INET, socket.SOCK_STREAM) as speaker:
        speaker.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            speaker.connect((world.guest.address, 9_999))
        syn = wire.wait_for(world.guest.tap, wire.both(wire.to_(world.guest.address), wire.is_tcp_to(9_999)))
        back = IP(src=world.guest.address, dst=world.free.address)
        sport = syn[TCP].sport
        world.guest.send(back / TCP(sport=9_999, dport=sport, flags="RA", ack=syn[TCP].seq + 1))
        for other in (sport + 1, 22):
            world.guest.send(back / TCP(sport=9_999, dport=other, flags="S", seq=7) / Raw(word))
        world.assert_never_came_out(word)


# --- what has been cut ------------------------------------------------------------------------------------


@pytest.fixture
def cut(world: World, guests: Standing) -> Iterator[Standing]:
    """The policy has taken the server away while the connection stood."""
    world.lab.write_manifest(GUEST_FILE, ONLY_ASK)
    world.lab.wait_settled()
    try:
        yield guests
    finally:
        world.lab.write_manifest(GUEST_FILE, ASK_AND_CONNECT)
        world.lab.wait_settled()


def test_a_connection_that_was_cut_is_taken_up_again_by_no_trick(world: World, cut: Standing) -> None:
    words = [world.marker() for _ in range(2)]
    flags = ("PA", "S", "SA", "R", "FA", "PA", "S", "PA")  # a reset in the midst, and the beginning again
    for flag in flags:
        world.guest.send(cut.segment(words[0], flags=flag))
    world.assert_never_came_out(words[0])
    # Whoever forgets the connection altogether takes it for a new one: conntrack, when its entry has gone.
    gone = world.node.run(["conntrack", "-D", "-p", "tcp", "--dport", str(HTTPS), "-s", world.guest.address])
    assert gone.returncode == 0, gone.stderr
    for flag in flags:
        world.guest.send(cut.segment(words[1], flags=flag))
    world.assert_never_came_out(words[1])


def test_what_was_known_before_the_cut_opens_nothing_after_it(world: World, cut: Standing) -> None:
    """Still resolved, and its name still allowed to be asked for: but not to be connected to."""
    world.server.answers_with(EXACT, f"60 A {OPEN}")
    assert wire.addresses(world.ask(EXACT)) == [OPEN]
    for _ in range(3):
        assert world.came_out(wire.is_syn(world.guest.syn(OPEN, HTTPS))) == []


def test_the_rule_given_back_opens_it_again(world: World) -> None:
    """The control of the above: the world is as it was, and the same SYN comes out."""
    world.learn(EXACT, OPEN)
    world.assert_open(OPEN)
