"""What one pod may ask of the resolver, and that past it only that pod notices.

Two pods share the namespace, by address. Rates are set so low that a flood is past them on any machine; the
kernel's limit is as in the ruleset, by its very rules.
"""

from __future__ import annotations

import functools
import itertools
import socket
import struct
from collections.abc import Callable

import dns.message
import pytest

from acns.resolver.budget import LARGE_OF_ENDPOINT_BYTES

from .resolver_world import (
    ENDPOINT,
    POD,
    SERVER,
    WAIT_S,
    Bench,
    World,
    padded_query,
    query,
    rcode,
    receive_framed,
    send_framed,
    stopped,
    until,
)
from .two_pods import (
    ALLOWED,
    DENIED,
    JUNK,
    JUNK_QUERY,
    NOERROR,
    OTHER_ENDPOINT,
    OTHER_POD,
    QUERIES,
    REFUSED,
    SERVFAIL,
    answered,
    answering,
    beside,
    pod_socket,
    serve_both,
)

pytestmark = pytest.mark.root

TC = 0x02


@pytest.fixture
def budgeted(two_pods: World, bench: Bench) -> Callable[..., Bench]:
    """The resolver for both pods, with these settings."""
    return functools.partial(serve_both, bench)


# --- past the rate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [JUNK_QUERY, b"\x12\x34\x01\x00" + bytes(8)], ids=["junk", "no question"])
def test_what_cannot_be_read_past_the_rate_costs_the_others_nothing(
    budgeted: Callable[..., Bench], packet: bytes
) -> None:
    bench = budgeted(max_queries_per_second_per_pod=8, over_budget="tc")
    pod, other = pod_socket(bench), pod_socket(bench, OTHER_POD)
    with answering(bench, "192.0.2.7"):
        with stopped(bench):
            other.sendto(query("www.example.com.", ident=1), (SERVER, 53))
            for _ in range(20):
                pod.sendto(packet, (SERVER, 53))
            other.sendto(query("more.example.com.", ident=2), (SERVER, 53))
        assert {other.recv(4096)[1] for _ in range(2)} == {1, 2}
    assert bench.resolver.metric("acns_unexpected_errors_total") == 0


@pytest.mark.parametrize("over_budget", ["servfail", "tc"])
def test_past_its_rate_a_pod_is_told_so_whatever_it_asks(
    budgeted: Callable[..., Bench], over_budget: str
) -> None:
    bench = budgeted(max_queries_per_second_per_pod=8, over_budget=over_budget)
    pod = pod_socket(bench)
    for number in range(20):  # at most two or three of these are within a quarter of a second's worth
        pod.sendto(query("www.example.org.", ident=number), (SERVER, 53))
    replies = [pod.recv(4096) for _ in range(20)]
    past = [one for one in replies if rcode(one) != REFUSED]
    assert len(past) >= 15
    if over_budget == "tc":
        assert all(one[2] & TC and rcode(one) == NOERROR for one in past)
    else:
        assert all(not one[2] & TC and rcode(one) == SERVFAIL for one in past)
    counted = bench.resolver.metric('acns_dns_over_budget_total{kind="rate",transport="udp"}')
    assert counted == len(past)
    line = until(lambda: bench.resolver.journal("dns.over-budget"), "a line in the journal")[0]
    assert (line["source"], line["transport"], line["kind"]) == (POD, "udp", "rate")


@pytest.mark.parametrize("packet", [JUNK, JUNK_QUERY, DENIED], ids=["no header", "no question", "denied"])
def test_messages_that_are_refused_anyway_count_too(budgeted: Callable[..., Bench], packet: bytes) -> None:
    bench = budgeted(max_queries_per_second_per_pod=8)
    pod = pod_socket(bench)
    for _ in range(20):
        pod.sendto(packet, (SERVER, 53))
    over = 'acns_dns_over_budget_total{kind="rate",transport="udp"}'
    until(lambda: bench.resolver.metric(over) >= 15, "counted")


def test_a_pod_told_of_its_rate_by_tc_has_its_answer_over_tcp(budgeted: Callable[..., Bench]) -> None:
    bench = budgeted(max_queries_per_second_per_pod=8, over_budget="tc")
    pod = pod_socket(bench)
    for number in range(20):
        pod.sendto(query("www.example.org.", ident=number), (SERVER, 53))
    assert any(pod.recv(4096)[2] & TC for _ in range(20))
    stream = bench.keep(bench.world.pod.connect(SERVER, source=(POD, 0)))
    send_framed(stream, *(query("www.example.org.", ident=number) for number in range(6)))
    assert [rcode(receive_framed(stream)) for _ in range(6)] == [REFUSED] * 6


def test_in_flight_past_the_budget_is_tc_over_udp_where_that_is_set(budgeted: Callable[..., Bench]) -> None:
    bench = budgeted(max_in_flight_per_endpoint=1, over_budget="tc")
    server, pod = bench.server_socket(), pod_socket(bench)
    pod.sendto(ALLOWED, (SERVER, 53))
    assert server.recv(4096)
    pod.sendto(query("more.example.com.", ident=2), (SERVER, 53))
    received = pod.recv(4096)
    assert received[1] == 2
    assert received[2] & TC
    line = until(lambda: bench.resolver.journal("dns.over-budget"), "a line in the journal")[0]
    assert (line["source"], line["kind"]) == (POD, "in_flight")


def test_large_queries_in_flight_are_few_and_take_no_room_of_others(budgeted: Callable[..., Bench]) -> None:
    bench = budgeted()
    server, pod, other = bench.server_socket(), pod_socket(bench), pod_socket(bench, OTHER_POD)
    fit = LARGE_OF_ENDPOINT_BYTES // len(large_query(0))
    for number in range(fit + 3):
        pod.sendto(large_query(number), (SERVER, 53))
        if number < fit:
            server.recv(65_536)
        else:
            assert rcode(pod.recv(4096)) == SERVFAIL
    for one, ident in ((pod, 1_000), (other, 1_001)):
        one.sendto(query("www.example.com.", ident=ident), (SERVER, 53))
        assert server.recv(4096)
    assert bench.resolver.metric('acns_dns_over_budget_total{kind="in_flight",transport="udp"}') == 3


def large_query(number: int) -> bytes:
    return padded_query("www.example.com.", number, 60_000)


# --- a flood, and the others ---------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [ALLOWED, DENIED, JUNK], ids=["allowed", "denied", "junk"])
def test_while_one_pod_floods_another_has_every_answer(budgeted: Callable[..., Bench], packet: bytes) -> None:
    bench = budgeted(max_queries_per_second_per_pod=500)
    flooding = pod_socket(bench)
    flooding.setblocking(False)
    over = "acns_dns_over_budget_total"

    def flood() -> None:
        for _ in range(100):
            flooding.sendto(packet, (SERVER, 53))

    with answering(bench), beside(flood):
        until(lambda: bench.resolver.metric(over) > 0, "past its budget")
        assert [number for number in range(QUERIES) if not answered(bench, number)] == []


def test_while_one_pod_opens_connections_without_end_another_has_every_answer(
    budgeted: Callable[..., Bench],
) -> None:
    bench = budgeted(max_tcp_connections_per_pod=4)
    refused = 'acns_dns_tcp_refused_total{reason="limit"}'
    opened = itertools.count()

    def flood() -> None:
        kept = [bench.world.pod.connect(SERVER, source=(POD, 0)) for _ in range(8)]
        for stream in kept:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()
        next(opened)

    with answering(bench), beside(flood):
        until(lambda: bench.resolver.metric(refused) > 0, "past its budget")
        assert [number for number in range(QUERIES) if not answered(bench, number)] == []
        stream = bench.keep(bench.world.pod.connect(SERVER, source=(OTHER_POD, 0)))
        stream.settimeout(WAIT_S)
        for number in range(QUERIES):
            send_framed(stream, query("www.example.org.", ident=number))
            assert receive_framed(stream)[1] == number
    line = until(lambda: bench.resolver.journal("dns.over-budget"), "a line in the journal")[0]
    assert (line["source"], line["transport"], line["kind"]) == (POD, "tcp", "connections")
    assert ENDPOINT != OTHER_ENDPOINT


def test_a_settings_file_with_no_such_answer_is_refused(bench: Bench) -> None:
    resolver = bench.start(over_budget="nothing")
    assert resolver.process.wait(timeout=WAIT_S) == 2


# --- who comes after whom ------------------------------------------------------------------------------


def test_a_pod_that_brings_one_name_does_not_wait_for_one_that_brings_many(
    budgeted: Callable[..., Bench],
) -> None:
    bench = budgeted()
    server, many, one = bench.server_socket(), pod_socket(bench), pod_socket(bench, OTHER_POD)
    with stopped(bench):
        for number in range(80):
            many.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
        one.sendto(query("one.example.com."), (SERVER, 53))
    forwarded = [str(dns.message.from_wire(server.recv(4096)).question[0].name) for _ in range(81)]
    assert forwarded.index("one.example.com.") < 40
