"""Two nodes with an agent pair each: one policy for the pods of both, nothing shared but the policy.

What a node learns it learns for its own pods; what happens to a node's agents is no matter of the other's.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Packet

from lab.capture.tap import Tap
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from .wire import (
    NOERROR,
    REFUSED,
    Wire,
    addresses,
    fresh_address,
    fresh_label,
    holding,
    is_syn,
    more_names,
    query,
    rcode,
    seeded,
    seen,
    tapped,
    until,
    wait_for,
)

pytestmark = pytest.mark.root

WEB_SERVICE = "10.96.20.20"
HTTPS = 443


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The shipped topology; tests here hold agents down and bring them up again."""
    running = Lab.up("two-nodes", name=f"t{os.getpid()}-two-nodes")
    try:
        yield running
    finally:
        running.down()


@dataclass(frozen=True, slots=True)
class Client:
    """A pod under the policy, at its cable, and the Internet's side of whatever it gets through."""

    wire: Wire
    internet: Tap

    def resolves(self, name: str) -> str:
        """Look a name up; its address."""
        answer = self.wire.ask(self.wire.cluster_dns, query(name, ident=self.wire.rng.getrandbits(16)))
        assert rcode(answer) == NOERROR, rcode(answer)
        (address,) = addresses(answer)
        return address

    def is_refused(self, name: str) -> bool:
        answer = self.wire.ask(self.wire.cluster_dns, query(name, ident=self.wire.rng.getrandbits(16)))
        return rcode(answer) == REFUSED

    def gets_a_syn_through(self, address: str) -> bool:
        sequence = self.wire.syn(address, HTTPS)
        self.wire.fence()
        return seen(self.internet, is_syn(sequence)) != []


@dataclass(frozen=True, slots=True)
class Scene:
    """The two clients of the policy, one on each node."""

    lab: Lab
    rng: random.Random
    app_1: Client
    app_2: Client
    dns_pod: Tap

    @contextmanager
    def new_name(self) -> Iterator[tuple[str, str]]:
        """A name that the policy allows and nobody has looked up, with its address."""
        name, address = f"{fresh_label(self.rng)}.example.com", fresh_address(self.rng)
        with more_names(self.lab, {name: InternetName(a=(IPv4Address(address),))}):
            yield name, address


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    rng = seeded()
    with ExitStack() as stack:
        internet = stack.enter_context(tapped(lab.internet))
        app_1, app_2 = (
            Client(stack.enter_context(Wire(lab, pod, rng)), internet) for pod in ("app-1", "app-2")
        )
        yield Scene(lab, rng, app_1, app_2, stack.enter_context(tapped(lab.pod("kube-dns"))))


@contextmanager
def held(node: NodeHandle) -> Iterator[None]:
    """The pair of a node is dead and stays so; alive and ready again afterwards."""
    agents = (node.shim, node.resolver)
    for agent in agents:
        agent.hold()
    try:
        yield
    finally:
        for agent in agents:
            agent.start()
        for agent in agents:
            agent.wait_ready()


def test_an_address_learned_on_one_node_is_closed_on_the_other_until_it_is_learned_there(
    scene: Scene,
) -> None:
    with scene.new_name() as (name, address):
        assert scene.app_1.resolves(name) == address
        assert scene.app_1.gets_a_syn_through(address)
        assert not scene.app_2.gets_a_syn_through(address)
        assert scene.app_2.resolves(name) == address
        assert scene.app_2.gets_a_syn_through(address)


def test_the_kernel_of_the_other_node_has_never_heard_of_the_address(scene: Scene) -> None:
    with scene.new_name() as (name, address):
        scene.app_2.resolves(name)
        assert f"{address} " in scene.lab.node("node2").ruleset()
        assert f"{address} " not in scene.lab.node("node1").ruleset()


@pytest.mark.parametrize(("pod", "node"), [("app-1", "node1"), ("app-2", "node2")])
def test_a_pods_query_is_asked_on_by_its_own_nodes_resolver(
    lab: Lab, scene: Scene, pod: str, node: str
) -> None:
    plan, label = lab.node(node).plan, fresh_label(scene.rng)
    lab.pod(pod).run(["dig", "+tries=1", f"{label}.example.com"])
    source = wait_for(scene.dns_pod, holding(label))[IP].src
    assert source in {str(plan.address), str(plan.pod_gateway)}


@pytest.mark.parametrize("pod", ["app-1", "app-2"])
def test_a_service_leads_to_backends_on_both_nodes_with_the_pods_own_source_address(
    lab: Lab, scene: Scene, pod: str
) -> None:
    """40 connections, each to a backend chosen at random: none is masqueraded, none is lost."""
    wire = (scene.app_1 if pod == "app-1" else scene.app_2).wire
    with tapped(lab.pod("web-1")) as first, tapped(lab.pod("web-2")) as second:
        sent = {wire.syn(WEB_SERVICE, 80) for _ in range(40)}
        until(lambda: len(arrived(first) | arrived(second)) >= len(sent), "every SYN has arrived")
        for tap, backend in ((first, "10.244.0.20"), (second, "10.244.1.20")):
            ends = {(packet[IP].src, packet[IP].dst, packet[TCP].dport) for packet in syns(tap)}
            assert ends == {(wire.address, backend, 8080)}
        assert arrived(first) | arrived(second) == sent


def syns(tap: Tap) -> list[Packet]:
    return seen(tap, lambda packet: TCP in packet and packet[TCP].flags == "S")


def arrived(tap: Tap) -> set[int]:
    return {packet[TCP].seq for packet in syns(tap)}


@pytest.mark.parametrize("pod", ["app-1", "app-2"])
def test_a_client_talks_to_the_service_and_is_known_there_by_its_own_address(lab: Lab, pod: str) -> None:
    talks = set()

    def both_backends_have_answered() -> bool:
        body = lab.pod(pod).run(["curl", "-sS", "-m", "5", f"http://{WEB_SERVICE}/"]).stdout
        lines = dict(line.split(": ", 1) for line in body.splitlines())
        talks.add((lines["server"], lines["client"].rpartition(":")[0]))
        return len(talks) >= 2

    until(both_backends_have_answered, "both backends have answered")
    own = str(lab.pod(pod).address)
    assert talks == {("10.244.0.20:8080", own), ("10.244.1.20:8080", own)}


def test_with_the_pair_of_one_node_dead_the_other_resolves_learns_and_refuses_as_ever(
    lab: Lab, scene: Scene
) -> None:
    with held(lab.node("node1")), scene.new_name() as (name, address):
        assert not scene.app_2.gets_a_syn_through(address)
        assert scene.app_2.resolves(name) == address
        assert scene.app_2.gets_a_syn_through(address)
        assert scene.app_2.is_refused("evil.example.org")
        ready = [
            agent.http_get("/readyz").status for agent in (lab.node("node2").shim, lab.node("node2").resolver)
        ]
        assert ready == [200, 200]


def test_with_its_pair_dead_a_nodes_pods_reach_what_they_knew_and_ask_in_vain(lab: Lab, scene: Scene) -> None:
    with scene.new_name() as (known, address), held_after_lookup(scene, known):
        label = fresh_label(scene.rng)
        scene.app_1.wire.udp(
            scene.app_1.wire.cluster_dns, query(f"{label}.example.com", ident=scene.rng.getrandbits(16))
        )
        # Sent behind the query, on the same cable: once this one is through, the other has been judged.
        wait_for(scene.app_1.internet, is_syn(scene.app_1.wire.syn(address, HTTPS)))
        assert seen(scene.dns_pod, holding(label)) == []


@contextmanager
def held_after_lookup(scene: Scene, name: str) -> Iterator[None]:
    scene.app_1.resolves(name)
    with held(scene.lab.node("node1")):
        yield


def test_a_pair_that_is_back_serves_its_node_again_and_knows_what_it_knew(lab: Lab, scene: Scene) -> None:
    with scene.new_name() as (name, address):
        with held_after_lookup(scene, name):
            pass
        assert scene.app_1.gets_a_syn_through(address)
        assert scene.app_1.resolves(name) == address
