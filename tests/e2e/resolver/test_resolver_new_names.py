"""Names that are new to a pod: so many may be committed for it, and nothing else counts as one."""

from __future__ import annotations

import functools
import itertools
import socket
from collections.abc import Callable

import grpc
import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api import kept

from .resolver_world import POD, SERVER, Bench, World, answer, confirm, query, rcode, until
from .two_pods import (
    NOERROR,
    OTHER_POD,
    REFUSED,
    SERVFAIL,
    answered,
    answering,
    pod_socket,
    serve_both,
)

pytestmark = pytest.mark.root

OVER = 'acns_dns_over_budget_total{kind="new_names",transport="udp"}'
Budgeted = Callable[..., Bench]


@pytest.fixture
def budgeted(two_pods: World, bench: Bench) -> Budgeted:
    """The resolver for both pods: ten names at once, then one a second."""
    few = {"max_new_names_per_second_per_pod": 1, "max_new_names_at_once_per_pod": 10}
    return functools.partial(serve_both, bench, **few)


class Asking:
    """One of the pods, and the server of both."""

    def __init__(self, bench: Bench, server: socket.socket, pod: str = POD) -> None:
        self._pod, self._server = pod_socket(bench, pod), server

    def __call__(self, number: int, *addresses: str, ttl: int = 300) -> int:
        """The code that it gets where the server has these addresses of the name with that number."""
        self._pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
        packet, resolver = self._server.recvfrom(4096)
        self._server.sendto(answer(packet, *addresses, ttl=ttl), resolver)
        return rcode(self._pod.recv(4096))


def promise(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
    """As an agent of ours does: what it has confirmed stays for a while."""
    context.set_trailing_metadata(kept.to_metadata(300))
    return confirm(mapping, context)


def received(server: socket.socket) -> bytes | None:
    try:
        return server.recv(4096)
    except BlockingIOError:
        return None


def test_past_its_new_names_a_pod_is_refused_those_and_nothing_else(budgeted: Budgeted) -> None:
    bench = budgeted()
    pod = pod_socket(bench)

    def asked(name: str, ident: int) -> int:
        pod.sendto(query(name, ident=ident), (SERVER, 53))
        return rcode(pod.recv(4096))

    with answering(bench, "192.0.2.9"):
        assert asked("first.example.com.", 0) == NOERROR
        assert asked("www.example.org.", 0) == REFUSED
        numbers = itertools.count(100)
        until(lambda: asked(f"n{next(numbers)}.example.com.", 1) == SERVFAIL, "past its budget", 60)
        assert asked("first.example.com.", 20) == NOERROR
        assert asked("FiRsT.eXample.com.", 24) == NOERROR  # the same name
        assert asked("www.example.org.", 21) == REFUSED
        assert answered(bench, 22)
        line = until(lambda: bench.resolver.journal("dns.over-budget"), "a line in the journal")[0]
        assert (line["source"], line["kind"]) == (POD, "new_names")
        assert until(lambda: asked("later.example.com.", 23) == NOERROR, "its next name has its turn")


def test_new_names_count_from_when_they_are_asked_not_from_when_they_are_answered(
    budgeted: Budgeted,
) -> None:
    """Or a flood of them would be on its way before the first is counted."""
    bench = budgeted()
    server, pod = bench.server_socket(), pod_socket(bench)
    for number in range(200):
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
    assert rcode(pod.recv(4096)) == SERVFAIL
    until(lambda: bench.resolver.metric(OVER) >= 50, "past its budget")
    server.setblocking(False)
    assert 10 <= len(list(iter(lambda: received(server), None))) <= 50


def test_names_that_bring_no_address_count_for_nothing(budgeted: Budgeted) -> None:
    bench = budgeted()
    server, pod = bench.server_socket(), pod_socket(bench)
    for number in range(40):
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
        packet, resolver = server.recvfrom(4096)
        server.sendto(answer(packet), resolver)
        assert rcode(pod.recv(4096)) == NOERROR


def test_names_that_first_bring_no_address_count_when_they_do(budgeted: Budgeted) -> None:
    """Asked for by another type first: that costs nothing, and nothing is bought with it."""
    bench = budgeted()
    asked = Asking(bench, bench.server_socket())
    assert {asked(number) for number in range(40)} == {NOERROR}
    codes = [asked(number, f"192.0.2.{number}") for number in range(40)]
    assert codes[:10] == [NOERROR] * 10
    assert (
        20
        <= codes.count(SERVFAIL)
        == bench.resolver.metric('acns_dns_answers_total{outcome="over-budget",transport="udp"}')
    )
    assert asked(0, "192.0.2.100") == NOERROR  # another address of a name that was brought


def test_names_that_nobody_answers_count_for_nothing(budgeted: Budgeted) -> None:
    bench = budgeted(upstream_timeout_ms=200)
    bench.server_socket()
    pod = pod_socket(bench)
    for number in range(40):
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
        if number % 10 == 9:
            silent = 'acns_dns_answers_total{outcome="silent",transport="udp"}'
            until(lambda: bench.resolver.metric(silent) > number, "given up")  # noqa: B023 - asked at once
    assert bench.resolver.metric(OVER) == 0
    for number in range(40):  # nor are they known from having been asked
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
    until(lambda: bench.resolver.metric(OVER) >= 20, "past its budget")


# --- what somebody has paid for ------------------------------------------------------------------------


def test_names_that_are_known_from_another_pod_cost_nothing(budgeted: Budgeted) -> None:
    bench = budgeted()
    bench.agent.behaviour = promise
    server = bench.server_socket()
    first, second = Asking(bench, server), Asking(bench, server, OTHER_POD)
    for _ in range(2):  # the second answer is taken as it is
        assert [first(number, "192.0.2.1") for number in range(9)] == [NOERROR] * 9
    assert [second(number, "192.0.2.1") for number in range(9)] == [NOERROR] * 9
    assert [second(number, "192.0.2.1") for number in range(20, 29)] == [NOERROR] * 9


def test_a_name_that_is_committed_again_and_again_is_new_once(budgeted: Budgeted) -> None:
    """As one whose addresses nobody promises to keep."""
    bench = budgeted()
    asking = Asking(bench, bench.server_socket())
    assert [asking(0, "192.0.2.1") for _ in range(30)] == [NOERROR] * 30
    assert [asking(number, "192.0.2.1") for number in range(1, 10)] == [NOERROR] * 9


def test_names_that_a_pod_has_used_are_not_new_when_they_have_to_be_committed(budgeted: Budgeted) -> None:
    """It asked for them when they were known already: now they have other addresses."""
    bench = budgeted()
    bench.agent.behaviour = promise
    server = bench.server_socket()
    first, second = Asking(bench, server), Asking(bench, server, OTHER_POD)
    assert [first(number, "192.0.2.1") for number in range(9)] == [NOERROR] * 9
    assert [second(number, "192.0.2.1") for number in range(9)] == [NOERROR] * 9
    flooding = pod_socket(bench, OTHER_POD)
    for number in range(20, 60):
        flooding.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
    until(lambda: bench.resolver.metric(OVER) >= 20, "past its budget")
    server.setblocking(False)
    assert len(list(iter(lambda: received(server), None))) <= 20
    server.setblocking(True)
    assert [second(number, "192.0.2.2") for number in range(9)] == [NOERROR] * 9
