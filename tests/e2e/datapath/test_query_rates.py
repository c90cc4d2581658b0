"""What one pod gets through to the resolver in a second: the rest is dropped in the kernel."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from .test_dns_redirect import CLUSTER_IP, POD_A, tcp_resolver, udp_resolver

pytestmark = pytest.mark.root

POD_B = "10.244.1.4"
RATE, BURST = 20, 2  # so low that a flood of some hundred messages is over before one more is due
FLOOD = 300


def gated(world: Any, query_rate: int = RATE) -> None:
    """Both pods' queries go to the resolver."""
    world.enforce(
        world.policy(
            a=world.only(),
            b=world.only(),
            dns=(world.dns(world.kube_dns()),),
            dns_b=(world.dns(world.kube_dns()),),
        ),
        query_rate=query_rate,
    )


def waiting(resolver: socket.socket) -> list[str]:
    """Who has sent what waits to be read."""
    resolver.setblocking(False)
    found = []
    while True:
        try:
            found.append(resolver.recvfrom(100)[1][0])
        except BlockingIOError:
            return found


def test_a_flood_is_dropped_past_the_pods_rate_and_the_other_pod_is_heard(world: Any) -> None:
    gated(world)
    resolver = udp_resolver(world)
    flooding, other = world.udp(world.a, POD_A), world.udp(world.b, POD_B)
    for _ in range(FLOOD):
        flooding.sendto(b"?", (CLUSTER_IP, 53))
    for _ in range(BURST):
        other.sendto(b"?", (CLUSTER_IP, 53))
    heard = waiting(resolver)
    assert heard.count(POD_B) == BURST
    assert BURST <= heard.count(POD_A) == FLOOD - world.counter("flooded") < FLOOD / 2


def test_a_pod_that_floods_is_heard_again_afterwards(world: Any) -> None:
    gated(world)
    resolver, flooding = udp_resolver(world), world.udp(world.a, POD_A)
    for _ in range(FLOOD):
        flooding.sendto(b"?", (CLUSTER_IP, 53))
    waiting(resolver)

    def heard() -> bool:
        flooding.sendto(b"?", (CLUSTER_IP, 53))
        return bool(waiting(resolver))

    world.until(heard, "heard again")


def test_new_connections_draw_on_the_same_limit_and_open_ones_go_on(world: Any) -> None:
    gated(world)
    resolver, client = tcp_resolver(world), world.connect(world.a, CLUSTER_IP, 53)
    session, _ = resolver.accept()
    flooding = world.udp(world.a, POD_A)
    for _ in range(FLOOD):
        flooding.sendto(b"?", (CLUSTER_IP, 53))
    before = world.counter("flooded")
    late = world.a.socket(socket.AF_INET, socket.SOCK_STREAM)
    late.setblocking(False)
    late.connect_ex((CLUSTER_IP, 53))
    world.until(lambda: world.counter("flooded") > before, "its SYN dropped")
    for _ in range(10 * BURST):
        world.talk(client, session)


def test_another_rate_counts_from_the_moment_it_is_set(world: Any) -> None:
    gated(world)
    udp_resolver(world)
    flooding = world.udp(world.a, POD_A)
    for _ in range(FLOOD):
        flooding.sendto(b"?", (CLUSTER_IP, 53))
    assert world.counter("flooded") > 0
    gated(world, 1_000_000)
    before = world.counter("flooded")
    for _ in range(FLOOD):
        flooding.sendto(b"?", (CLUSTER_IP, 53))
    assert world.counter("flooded") == before


def test_the_limit_is_of_queries_alone(world: Any) -> None:
    world.enforce(world.policy(a=world.only(), dns=(world.dns(world.kube_dns()),)), query_rate=RATE)
    server = world.udp(world.internet, "203.0.113.7", 53)
    free = world.udp(world.b, POD_B)
    for _ in range(FLOOD):
        free.sendto(b"?", ("203.0.113.7", 53))
        assert server.recv(100) == b"?"
    assert world.counter("flooded") == 0
