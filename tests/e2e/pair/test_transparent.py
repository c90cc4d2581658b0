"""Resolvers that ask as the pod: the DNS pod sees who asks, its answer goes to nobody but the resolver."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet, Raw

from lab.capture.tap import Tap
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from .wire import (
    DNS_PORT,
    NOERROR,
    REFUSED,
    Wire,
    addresses,
    both,
    framed,
    fresh_address,
    fresh_label,
    holding,
    is_syn,
    more_names,
    query,
    rcode,
    read_framed,
    seeded,
    seen,
    tapped,
    to_,
    wait_for,
)

pytestmark = pytest.mark.root

HTTPS = 443


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    running = Lab.up("transparent", name=f"t{os.getpid()}-transparent")
    try:
        yield running
    finally:
        running.down()


@dataclass(frozen=True, slots=True)
class Scene:
    """A pod under the policy at its cable, the DNS pod, and the Internet."""

    lab: Lab
    rng: random.Random
    app: Wire
    dns_pod: Tap
    internet: Tap

    @property
    def dns_address(self) -> str:
        return str(self.lab.pod("kube-dns").address)

    @contextmanager
    def new_name(self) -> Iterator[tuple[str, str]]:
        """A name that the policy allows and nobody has looked up, with its address."""
        name, address = f"{fresh_label(self.rng)}.example.com", fresh_address(self.rng)
        with more_names(self.lab, {name: InternetName(a=(IPv4Address(address),))}):
            yield name, address

    @contextmanager
    def resolver_is(self, alive: bool) -> Iterator[None]:
        """Of the pod's node; alive again afterwards."""
        resolver = self.lab.node(self.app.pod.node).resolver
        if not alive:
            resolver.hold()
        try:
            yield
        finally:
            resolver.start()
            resolver.wait_ready()

    def query(self, name: str) -> bytes:
        return query(name, ident=self.rng.getrandbits(16))

    def query_at_the_dns_pod(self, name: str) -> Packet:
        return wait_for(self.dns_pod, both(holding(name.partition(".")[0]), to_(self.dns_address)))


@pytest.fixture(params=["app-1", "app-2"], ids=["on the server's node", "from another node"])
def scene(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Scene]:
    rng = seeded()
    with ExitStack() as stack:
        app = stack.enter_context(Wire(lab, request.param, rng))
        dns_pod, internet = (
            stack.enter_context(tapped(place)) for place in (lab.pod("kube-dns"), lab.internet)
        )
        yield Scene(lab, rng, app, dns_pod, internet)


def test_the_server_sees_the_pods_address_and_port_and_the_pod_one_answer(scene: Scene) -> None:
    with scene.new_name() as (name, address):
        port = scene.app.udp(scene.dns_address, scene.query(name))
        answer = scene.app.answer(port)
        assert answer[IP].src == scene.dns_address
        assert addresses(bytes(answer[UDP].payload)) == [address]
        asked = scene.query_at_the_dns_pod(name)
        assert (asked[IP].src, asked[UDP].sport) == (scene.app.address, port)
        sequence = scene.app.syn(address, HTTPS)
        wait_for(scene.internet, is_syn(sequence))
        scene.app.fence()
        assert len(scene.app.answers(port)) == 1


def test_over_tcp_too_the_server_sees_the_pods_address_and_port(scene: Scene) -> None:
    with scene.new_name() as (name, address), scene.app.connect(scene.dns_address) as connection:
        port = connection.getsockname()[1]
        connection.sendall(framed(scene.query(name)))
        assert addresses(read_framed(connection)) == [address]
        asked = scene.query_at_the_dns_pod(name)
        assert (asked[IP].src, asked[TCP].sport) == (scene.app.address, port)


def test_a_denied_name_is_refused_and_nobody_hears_of_it(scene: Scene) -> None:
    name = f"{fresh_label(scene.rng)}.example.org"
    assert rcode(scene.app.ask(scene.dns_address, scene.query(name))) == REFUSED
    scene.app.fence()
    assert seen(scene.dns_pod, holding(name.partition(".")[0])) == []


def test_through_the_service_the_server_sees_the_node(scene: Scene) -> None:
    with scene.new_name() as (name, address):
        answer = scene.app.ask(scene.app.cluster_dns, scene.query(name))
        assert (rcode(answer), addresses(answer)) == (NOERROR, [address])
        assert scene.query_at_the_dns_pod(name)[IP].src != scene.app.address


@pytest.mark.parametrize("alive", [True, False])
def test_an_answer_that_the_resolver_does_not_wait_for_reaches_nobody(scene: Scene, alive: bool) -> None:
    """However well it fits: to the port that has asked, from the server."""
    label = fresh_label(scene.rng)
    port = scene.app.udp_port()
    with scene.new_name() as (name, address):
        assert addresses(scene.app.ask(scene.dns_address, scene.query(name), sport=port)) == [address]
    with scene.resolver_is(alive), Wire(scene.lab, "kube-dns", scene.rng) as forger:
        packet = IP(src=forger.address, dst=scene.app.address) / UDP(sport=DNS_PORT, dport=port)
        forger.send(packet / Raw(label))
        wait_for(forger.tap, holding(label))
    scene.app.fence()
    assert len(scene.app.answers(port)) == 1
