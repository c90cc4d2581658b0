"""Which packet that arrives somewhere is one that was sent, and which only looks like it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.packet import Raw

from lab.repro.running.cables import Cables, is_same
from lab.repro.scenario.model import Step

POD, WEB, OTHER, NODE = "10.244.0.2", "198.51.100.1", "198.51.100.9", "172.31.0.1"


def segment(
    source: str = POD, target: str = WEB, *, sport: int = 4_000, dport: int = 443, **more: Any
) -> bytes:
    return bytes(IP(src=source, dst=target, id=7, **more) / TCP(sport=sport, dport=dport, flags="SF", seq=1))


def test_a_packet_is_the_same_behind_a_router_and_with_one_end_translated() -> None:
    for seen in (segment(ttl=63), segment(NODE, sport=61_000), segment(target=OTHER, dport=8_443)):
        assert is_same(seen, segment())


@pytest.mark.parametrize(
    "seen",
    [
        segment(NODE, OTHER),
        segment(sport=4_001, dport=80),
        segment(NODE, dport=80),
        segment(target=OTHER, sport=4_001),
    ],
    ids=["both addresses", "both ports", "address and port", "port and address"],
)
def test_a_packet_that_shares_neither_end_is_another(seen: bytes) -> None:
    assert not is_same(seen, segment())


def test_fragments_and_pings_are_told_by_their_addresses() -> None:
    def piece(source: str, target: str) -> bytes:
        return bytes(IP(src=source, dst=target, id=7, flags="MF", proto=17) / Raw(bytes(16)))

    def ping(source: str, target: str) -> bytes:
        return bytes(IP(src=source, dst=target, id=7) / ICMP() / b"x")

    made: Callable[[str, str], bytes]
    for made in (piece, ping):
        assert is_same(made(NODE, WEB), made(POD, WEB))
        assert not is_same(made(NODE, OTHER), made(POD, WEB))


class _Card:
    """In the place of a pod's raw socket: `arrive` hears what is sent."""

    def __init__(self, arrive: Callable[[bytes], None]) -> None:
        self.arrive = arrive


@pytest.mark.parametrize("others_before", [0, 5_000])
def test_what_arrived_before_a_step_says_nothing_of_its_packets(
    monkeypatch: pytest.MonkeyPatch, others_before: int
) -> None:
    async def sent_twice() -> list[str]:
        cables = Cables(cast(Any, None))
        cables._cards["client/default"] = cast(Any, _Card(lambda _: None)), b""
        lets_through = True

        async def send(card: _Card, octets: bytes) -> None:
            if lets_through:
                cables._arrived(octets)

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_sendall", send)
        monkeypatch.setattr("lab.repro.running.clients.patience_s", lambda *_: 0.01)
        pod = cast(Any, SimpleNamespace(name="client", namespace="default"))
        step = Step(wire=(segment().hex(),), outcome="silent forwarded")
        for number in range(others_before):
            cables._arrived(bytes(IP(id=number, dst=OTHER) / UDP()) if not number else b"")
        first = await cables.send(pod, step)
        lets_through = False
        return [first[0], (await cables.send(pod, step))[0]]

    assert asyncio.run(sent_twice()) == ["silent forwarded", "silent held"]


class _Place:
    """In the place of a pod: its sockets are this process's own."""

    def __init__(self) -> None:
        self.opened: list[socket.socket] = []

    def open_socket(self, *kind: int) -> socket.socket:
        self.opened.append(socket.socket(*kind))
        return self.opened[-1]


def test_the_port_of_a_datagram_in_fragments_is_held_so_that_its_answer_is_not_turned_away() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    whole = IP(src=POD, dst=WEB, id=7) / UDP(sport=port, dport=53) / Raw(bytes(40))
    place, cables = _Place(), Cables(cast(Any, None))
    try:
        for piece in fragment(whole, 16):
            cables._hold_port(cast(Any, place), bytes(piece))
        assert [one.getsockname()[1] for one in place.opened] == [port]
    finally:
        cables._closing.close()
