"""Many datagrams at once: what the resolver reads in one call, of all kinds, each with its own end."""

from __future__ import annotations

import socket
from typing import Any

import dns.message
import dns.rrset
import grpc
import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api import kept

from .resolver_world import (
    GONE_SERVER,
    OTHER_SERVER,
    SERVER,
    Bench,
    answer,
    confirm,
    policy,
    query,
    rcode,
    stopped,
    until,
)

pytestmark = pytest.mark.root

REFUSED = 5
NAMES = [f"n{number}.example.com." for number in range(40)]
DENIED = 'acns_dns_queries_total{transport="udp",verdict="denied"}'
KNOWN = 'acns_dns_answers_total{outcome="known",transport="udp"}'


def promising(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
    context.set_trailing_metadata(kept.to_metadata(300))
    return confirm(mapping, context)


@pytest.fixture(autouse=True)
def serving(bench: Bench) -> None:
    bench.agent.behaviour = promising
    bench.serving("*.example.com", commit_timeout_ms=4_000)


@pytest.fixture
def servers(bench: Bench) -> dict[str, socket.socket]:
    return {address: bench.server_socket(address) for address in (SERVER, GONE_SERVER)}


def address_of(name: str, server: str) -> str:
    return f"192.0.{2 if server == SERVER else 3}.{name.split('.')[0][1:]}"


def told(forwarded: bytes, server: str) -> bytes:
    """That server's answer."""
    return answer(forwarded, address_of(str(dns.message.from_wire(forwarded).question[0].name), server))


def learned(pod: socket.socket, servers: dict[str, socket.socket]) -> None:
    """Every name of every server is known, and known to be: the next answers take the shortest way."""
    for address, server in [*servers.items()] * 2:
        for number, name in enumerate(NAMES):
            pod.sendto(query(name, ident=number), (address, 53))
            forwarded, resolver = server.recvfrom(4096)
            server.sendto(told(forwarded, address), resolver)
            assert pod.recvfrom(4096) == (told(query(name, ident=number), address), (address, 53))


def test_of_a_burst_each_query_has_its_own_answer_from_the_server_that_was_asked(
    bench: Bench, servers: dict[str, socket.socket]
) -> None:
    pod, other_pod = bench.pod_socket(), bench.pod_socket()
    learned(pod, servers)
    before = bench.resolver.metric(KNOWN)
    with stopped(bench):
        for number, name in enumerate(NAMES):
            for address in servers:
                pod.sendto(query(name, ident=number), (address, 53))
            pod.sendto(query("evil.example.org.", ident=1_000 + number), (SERVER, 53))
            other_pod.sendto(query(name, ident=2_000 + number), (SERVER, 53))
            for junk in (b"", b"\1", b"\1\2", b"\1\2\3", query(name, ident=3_000)[:20]):
                pod.sendto(junk, (SERVER, 53))
            pod.sendto(query(name, ident=4_000 + number), (OTHER_SERVER, 53))  # no rule names it
    asked = {
        address: [server.recvfrom(4096) for _ in range(80)]
        for address, server in servers.items()
        if address == SERVER
    }
    asked[GONE_SERVER] = [servers[GONE_SERVER].recvfrom(4096) for _ in NAMES]
    with stopped(bench):
        for address, queries in asked.items():
            for forwarded, resolver in queries:
                servers[address].sendto(told(forwarded, address), resolver)
    found = {
        (packet[:2], source[0]): packet for packet, source in (pod.recvfrom(4096) for _ in range(40 * 5))
    }
    for number, name in enumerate(NAMES):
        for address in servers:
            asked_there = query(name, ident=number)
            assert found[asked_there[:2], address] == told(asked_there, address)
        for ident, address in ((1_000 + number, SERVER), (4_000 + number, OTHER_SERVER)):
            assert rcode(found[ident.to_bytes(2), address]) == REFUSED
    of_other = {packet[:2]: packet for packet in (other_pod.recv(4096) for _ in NAMES)}
    for number, name in enumerate(NAMES):
        own = query(name, ident=2_000 + number)
        assert of_other[own[:2]] == told(own, SERVER)
    assert bench.resolver.metric(KNOWN) - before == 3 * len(NAMES)
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 0, "nothing in flight")


def test_names_that_were_refused_before_are_refused_each_by_the_server_that_was_asked(
    bench: Bench, servers: dict[str, socket.socket]
) -> None:
    pod, denied = bench.pod_socket(), [f"n{number}.example.org." for number in range(40)]
    places = [(address, 53) for address in (*servers, OTHER_SERVER)]
    for turn in range(3):
        with stopped(bench):
            for number, name in enumerate(denied):
                for at, place in enumerate(places):
                    pod.sendto(query(name, ident=1_000 * (at + 1) + number), place)
                pod.sendto(query(NAMES[number], ident=number), (SERVER, 53))
        for _ in NAMES:
            forwarded, resolver = servers[SERVER].recvfrom(4096)
            servers[SERVER].sendto(told(forwarded, SERVER), resolver)
        found = {(packet[:2], source): packet for packet, source in (pod.recvfrom(4096) for _ in range(160))}
        for number, name in enumerate(denied):
            for at, place in enumerate(places):
                asked = dns.message.from_wire(query(name, ident=1_000 * (at + 1) + number))
                refused = dns.message.from_wire(found[asked.id.to_bytes(2), place])
                assert (rcode(refused.to_wire()), refused.question) == (REFUSED, asked.question)
        until(lambda turn=turn: bench.resolver.metric(DENIED) == 120 * (turn + 1), "counted")
    lines = until(lambda: len(found := refusals(bench)) == 360 and found, "in the journal")
    assert {line["name"] for line in lines} == set(denied)


def test_a_name_that_was_refused_passes_by_the_next_policy(
    bench: Bench, servers: dict[str, socket.socket]
) -> None:
    pod = bench.pod_socket()
    for ident in range(3):
        pod.sendto(query("n1.example.org.", ident=ident), (SERVER, 53))
        assert rcode(pod.recv(4096)) == REFUSED
    bench.agent.publish(policy("*.example.org", request_id="next"))
    assert bench.agent.take_ack().request_id == "next"
    pod.sendto(query("n1.example.org."), (SERVER, 53))
    forwarded, resolver = servers[SERVER].recvfrom(4096)
    servers[SERVER].sendto(told(forwarded, SERVER), resolver)
    assert rcode(pod.recv(4096)) == 0


def test_what_a_later_policy_refuses_ends_when_it_comes_again(
    bench: Bench, servers: dict[str, socket.socket]
) -> None:
    pod, on_its_way = bench.pod_socket(), query(NAMES[0], ident=1)
    pod.sendto(on_its_way, (SERVER, 53))
    servers[SERVER].recvfrom(4096)
    bench.agent.publish(policy("*.example.org", request_id="next"))
    assert bench.agent.take_ack().request_id == "next"
    for ident in (2, 3):
        pod.sendto(query(NAMES[0], ident=ident), (SERVER, 53))
        assert rcode(pod.recv(4096)) == REFUSED
    assert bench.resolver.metric("acns_dns_in_flight") == 1
    pod.sendto(on_its_way, (SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED
    assert bench.resolver.metric("acns_dns_in_flight") == 0


def refusals(bench: Bench) -> list[dict[str, Any]]:
    return [line for line in bench.resolver.journal("dns.query") if line["verdict"] == "reply"]


def test_of_a_burst_of_answers_the_forged_and_the_new_ones_hold_up_no_other(
    bench: Bench, servers: dict[str, socket.socket]
) -> None:
    pod, server = bench.pod_socket(), servers[SERVER]
    stranger = bench.keep(bench.world.dns.udp(OTHER_SERVER, 53))
    learned(pod, {SERVER: server})
    for number, name in enumerate(NAMES):
        pod.sendto(query(name, ident=number), (SERVER, 53))
    asked = [server.recvfrom(4096) for _ in NAMES]
    with stopped(bench):
        for forwarded, resolver in asked:
            stranger.sendto(told(forwarded, SERVER), resolver)
            server.sendto(b"\1", resolver)
            server.sendto(bytes((forwarded[0], forwarded[1] ^ 1)) + told(forwarded, SERVER)[2:], resolver)
            server.sendto(told(forwarded, SERVER), resolver)
            server.sendto(told(forwarded, SERVER), resolver)
    got = [pod.recvfrom(4096) for _ in NAMES]
    expected = [(told(query(name, ident=number), SERVER), (SERVER, 53)) for number, name in enumerate(NAMES)]
    assert sorted(got) == sorted(expected)
    pod.settimeout(0.15)
    with pytest.raises(TimeoutError):
        pod.recv(4096)
    assert bench.resolver.metric('acns_dns_answers_ignored_total{kind="malformed"}') == len(NAMES)
    assert bench.resolver.metric('acns_dns_answers_ignored_total{kind="wrong_server"}') == len(NAMES)


def test_what_policy_takes_out_of_an_answer_stays_out_when_it_comes_again(
    bench: Bench, servers: dict[str, socket.socket]
) -> None:
    pod, server = bench.pod_socket(), servers[SERVER]
    for ident in range(4):
        asked = query("www.example.com.", "ANY", ident=ident)
        pod.sendto(asked, (SERVER, 53))
        forwarded, resolver = server.recvfrom(4096)
        both = dns.message.from_wire(answer(forwarded, "192.0.2.7"))
        name = both.question[0].name
        both.answer.append(dns.rrset.from_text(name, 300, "IN", "AAAA", "2001:db8::1"))
        server.sendto(both.to_wire(), resolver)
        found = dns.message.from_wire(pod.recv(4096))
        assert (found.id, [record.rdtype for record in found.answer]) == (ident, [dns.rdatatype.A])
    assert bench.resolver.metric(KNOWN) == 3


def test_a_burst_past_the_endpoints_budget_is_refused_beyond_it_and_room_comes_back(
    bench: Bench, servers: dict[str, socket.socket]
) -> None:
    pod, server = bench.pod_socket(), servers[SERVER]
    bench.resolver.end()
    bench.start(max_in_flight_per_endpoint=8)
    bench.resolver.wait_ready()
    until(lambda: '"agent_connected": true' in bench.resolver.get("/readyz")[1], "connected")
    for turn in range(2):  # the second time they are remembered
        with stopped(bench):
            for number, name in enumerate(NAMES):
                pod.sendto(query(name, ident=100 * turn + number), (SERVER, 53))
        refused = [pod.recv(4096) for _ in NAMES[8:]]
        assert {rcode(packet) for packet in refused} == {2}
        for _ in range(8):
            forwarded, resolver = server.recvfrom(4096)
            server.sendto(told(forwarded, SERVER), resolver)
        assert {rcode(pod.recv(4096)) for _ in range(8)} == {0}
        until(lambda: bench.resolver.metric("acns_dns_in_flight") == 0, "nothing in flight")
