"""A real resolver behind real redirection: queries and answers over UDP."""

from __future__ import annotations

import itertools
import socket

import pytest

from .icmp_errors import from_the_servers_host, port_unreachable
from .resolver_world import (
    ENDPOINT,
    GONE_SERVER,
    OTHER_SERVER,
    POD,
    POD_IDENTITY,
    SERVER,
    Bench,
    Gate,
    answer,
    policy,
    query,
    quiet,
    rcode,
    until,
)

pytestmark = pytest.mark.root

REFUSED, SERVFAIL, NXDOMAIN = 5, 2, 3
JOINED = 'acns_dns_queries_total{transport="udp",verdict="joined"}'


def test_answer_comes_from_the_server_that_was_asked_with_the_pods_id_and_question_bytes(
    bench: Bench,
) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    asked = query("wWw.ExAmPlE.cOm.", ident=0xBEEF)
    pod.sendto(asked, (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    assert forwarded[2:] == asked[2:]  # byte for byte but for the ID
    server.sendto(answer(forwarded, "192.0.2.7"), resolver)
    received, source = pod.recvfrom(4096)
    assert source == (SERVER, 53)
    assert received == answer(asked, "192.0.2.7")


def test_answer_waits_until_the_agent_has_confirmed_its_addresses(bench: Bench) -> None:
    bench.serving("*.example.com", commit_timeout_ms=4000)
    bench.agent.behaviour = gate = Gate()
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    server.sendto(answer(forwarded, "192.0.2.7", "192.0.2.8", ttl=60), resolver)
    mapping = bench.agent.take_mapping()
    assert (mapping.fqdn, sorted(mapping.record_ip), mapping.ttl) == (
        "www.example.com.",
        [b"192.0.2.7", b"192.0.2.8"],
        60,
    )
    assert (mapping.source_ip, mapping.source_identity) == (POD.encode(), POD_IDENTITY)
    assert quiet(pod)
    gate.open()
    assert rcode(pod.recv(4096)) == 0


def test_what_teaches_nothing_is_not_told_to_the_agent(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com.", "TXT"), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    server.sendto(answer(forwarded), resolver)
    assert pod.recv(4096)
    assert bench.agent.mappings.empty()


@pytest.mark.parametrize(("setting", "expected"), [("refused", REFUSED), ("nxdomain", NXDOMAIN)])
def test_denied_name_is_answered_and_never_asked_upstream(bench: Bench, setting: str, expected: int) -> None:
    bench.serving("*.example.com", denied=setting)
    pod, server = bench.pod_socket(), bench.server_socket()
    asked = query("www.example.org.", ident=0x0102)
    pod.sendto(asked, (SERVER, 53))
    received, source = pod.recvfrom(4096)
    assert (source, received[:2], rcode(received)) == ((SERVER, 53), b"\x01\x02", expected)
    assert received[12 : len(asked)] == asked[12:]
    assert quiet(server)


def test_server_that_no_rule_names_is_refused(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, other = bench.pod_socket(), bench.server_socket(OTHER_SERVER)
    pod.sendto(query("www.example.com."), (OTHER_SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED
    assert quiet(other)


def test_answers_of_two_servers_do_not_mix(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = bench.pod_socket()
    servers = {SERVER: bench.server_socket(), GONE_SERVER: bench.server_socket(GONE_SERVER)}
    for address in servers:
        pod.sendto(query("www.example.com."), (address, 53))
    for number, server in enumerate(servers.values(), 1):
        forwarded, resolver = server.recvfrom(4096)
        server.sendto(answer(forwarded, f"192.0.2.{number}"), resolver)
    got = [pod.recvfrom(4096) for _ in servers]
    assert {source[0]: packet[-1] for packet, source in got} == {SERVER: 1, GONE_SERVER: 2}


def test_forged_answers_are_counted_and_the_real_one_still_counts(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    other_port = bench.keep(bench.world.dns.udp(SERVER, 5353))
    other_address = bench.keep(bench.world.dns.udp(OTHER_SERVER, 53))
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    forged = answer(forwarded, "203.0.113.66")
    wrong_id = bytes((forwarded[0] ^ 1,)) + forged[1:]
    wrong_question = answer(forwarded[:2] + query("wwx.example.com.")[2:], "203.0.113.66")
    wrong_case = answer(forwarded[:2] + query("WWW.example.com.")[2:], "203.0.113.66")
    other_port.sendto(forged, resolver)
    other_address.sendto(forged, resolver)
    for packet in (wrong_id, wrong_question, wrong_case, forwarded, b"", b"\x01"):
        server.sendto(packet, resolver)
    assert quiet(pod)
    server.sendto(answer(forwarded, "192.0.2.7"), resolver)
    assert socket.inet_aton("192.0.2.7") in pod.recv(4096)
    assert [mapping.record_ip for mapping in (bench.agent.take_mapping(),)] == [[b"192.0.2.7"]]
    ignored = 'acns_dns_answers_ignored_total{kind="%s"}'
    counts = {
        kind: bench.resolver.metric(ignored % kind)
        for kind in (
            "unknown_id", "wrong_server", "wrong_port", "other-question", "not-an-answer", "malformed",
        )
    }  # fmt: skip
    assert counts == {
        "unknown_id": 1, "wrong_server": 1, "wrong_port": 1, "other-question": 2, "not-an-answer": 1,
        "malformed": 2,
    }  # fmt: skip


def test_late_and_duplicate_answers_reach_nobody(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    for _ in range(2):
        server.sendto(answer(forwarded, "192.0.2.7"), resolver)
    assert pod.recv(4096)
    assert quiet(pod)
    assert bench.resolver.metric('acns_dns_answers_ignored_total{kind="duplicate"}') == 1


def test_an_answer_that_comes_after_its_query_was_given_up_is_late(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=100)
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    until(lambda: bench.resolver.metric('acns_dns_answers_total{outcome="silent"') == 1, "time-out")
    server.sendto(answer(forwarded, "192.0.2.7"), resolver)
    until(lambda: bench.resolver.metric('acns_dns_answers_ignored_total{kind="late"}') == 1, "counted")
    assert quiet(pod)


def test_a_query_sent_again_under_its_id_is_joined_to_the_first(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    asked = query("www.example.com.", ident=0x0707)
    for _ in range(3):
        pod.sendto(asked, (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    until(lambda: bench.resolver.metric(JOINED) == 2, "joined")
    assert quiet(server)
    server.sendto(answer(forwarded, "192.0.2.7"), resolver)
    assert pod.recv(4096)[:2] == asked[:2]
    assert quiet(pod)
    assert bench.resolver.metric("acns_dns_in_flight") == 0
    pod.sendto(asked, (SERVER, 53))  # answered, it is a query like any other
    assert server.recv(4096)


def test_a_joined_query_waits_for_the_same_commit(bench: Bench) -> None:
    bench.serving("*.example.com", commit_timeout_ms=4000)
    bench.agent.behaviour = gate = Gate()
    pod, server = bench.pod_socket(), bench.server_socket()
    asked = query("www.example.com.")
    pod.sendto(asked, (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    server.sendto(answer(forwarded, "192.0.2.7"), resolver)
    bench.agent.take_mapping()
    pod.sendto(asked, (SERVER, 53))
    until(lambda: bench.resolver.metric(JOINED) == 1, "joined")
    assert quiet(pod)
    assert quiet(server)
    gate.open()
    assert pod.recv(4096)
    assert quiet(pod)


def test_a_repetition_later_goes_out_again_under_the_same_id_and_port(bench: Bench) -> None:
    """The first datagram may have been lost: nobody else would send it again."""
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    asked = query("www.example.com.")
    pod.sendto(asked, (SERVER, 53))
    first = server.recvfrom(4096)
    server.setblocking(False)

    def sent_again() -> tuple[bytes, object] | None:
        pod.sendto(asked, (SERVER, 53))
        try:
            return server.recvfrom(4096)
        except BlockingIOError:
            return None

    assert until(sent_again, "the datagram again") == first
    server.sendto(answer(first[0], "192.0.2.7"), first[1])
    assert pod.recv(4096)
    assert quiet(pod)


@pytest.mark.parametrize("other", ["port", "id", "case"])
def test_another_port_id_or_letter_case_is_another_query(bench: Bench, other: str) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com.", ident=1), (SERVER, 53))
    second = bench.pod_socket() if other == "port" else pod
    name = "wWw.example.com." if other == "case" else "www.example.com."
    second.sendto(query(name, ident=2 if other == "id" else 1), (SERVER, 53))
    assert len({server.recv(4096) for _ in range(2)}) == 2


def test_a_repetition_whose_name_is_allowed_no_more_is_refused_and_leaves_no_more(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    asked = query("www.example.com.")
    pod.sendto(asked, (SERVER, 53))
    server.recv(4096)
    bench.agent.publish(policy("*.example.net", request_id="two"))
    assert bench.agent.take_ack().request_id == "two"
    pod.sendto(asked, (SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED
    assert quiet(server)


def test_an_answer_to_what_is_allowed_no_more_teaches_nothing(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    bench.agent.publish(policy("*.example.net", request_id="two"))
    assert bench.agent.take_ack().request_id == "two"
    server.sendto(answer(forwarded, "192.0.2.7"), resolver)
    assert rcode(pod.recv(4096)) == REFUSED
    assert bench.agent.mappings.empty()
    assert bench.resolver.metric('acns_dns_answers_total{outcome="revoked",transport="udp"}') == 1
    assert bench.resolver.metric("acns_dns_in_flight") == 0


def test_queries_leave_from_many_ports_under_many_ids(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    for number in range(200):
        pod.sendto(query(f"n{number}.example.com.", ident=7), (SERVER, 53))
    seen = [server.recvfrom(4096) for _ in range(200)]
    assert len({source[1] for _, source in seen}) >= 16
    assert len({packet[:2] for packet, _ in seen}) > 190


def test_ports_do_not_stay_the_same(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=200, max_new_names_at_once_per_pod=1_000_000)
    pod, server = bench.pod_socket(), bench.server_socket()
    numbers = itertools.count()

    def ports(count: int) -> set[int]:
        for _ in range(count):
            pod.sendto(query(f"n{next(numbers)}.example.com."), (SERVER, 53))
        return {server.recvfrom(4096)[1][1] for _ in range(count)}

    first = ports(200)
    until(lambda: ports(20) - first, "a port that was not there")


def test_server_that_is_not_there_is_servfail_at_once(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = bench.pod_socket()
    pod.sendto(query("www.example.com."), (GONE_SERVER, 53))  # nobody listens: ICMP port unreachable
    assert rcode(pod.recv(4096)) == SERVFAIL


def test_an_icmp_error_ends_a_query_only_where_it_is_about_its_server(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    icmp = from_the_servers_host(bench)
    icmp.sendto(port_unreachable(resolver, OTHER_SERVER, forwarded), resolver)
    assert quiet(pod)
    icmp.sendto(port_unreachable(resolver, SERVER, forwarded), resolver)
    assert rcode(pod.recv(4096)) == SERVFAIL


def test_an_icmp_error_ends_all_that_has_left_from_the_same_port_for_its_server(bench: Bench) -> None:
    """Its host tells of a few datagrams only. From one port to one Service's address is one backend."""
    bench.serving("*.example.com")
    pod, server, other = bench.pod_socket(), bench.server_socket(), bench.server_socket(GONE_SERVER)
    left: dict[tuple[str, int], list[bytes]] = {}
    for number in range(40):  # from 16 ports
        pod.sendto(query("www.example.com.", ident=number), (SERVER, 53))
        forwarded, resolver = server.recvfrom(4096)
        left.setdefault(resolver, []).append(forwarded)
        pod.sendto(query("www.example.com.", ident=100 + number), (GONE_SERVER, 53))
        other.recv(4096)
    resolver, several = max(left.items(), key=lambda one: len(one[1]))
    icmp = from_the_servers_host(bench)
    icmp.sendto(port_unreachable(resolver, SERVER, several[0]), resolver)
    failed = [pod.recv(4096) for _ in several]
    assert {rcode(one) for one in failed} == {SERVFAIL}
    assert all(one[1] < 100 for one in failed)
    assert quiet(pod)


def test_query_that_may_not_leave_is_servfail(bench: Bench) -> None:
    bench.serving("*.example.com")
    bench.world.node.run(
        "nft", "add table inet noway; add chain inet noway out { type filter hook output priority 0; }; "
        f"add rule inet noway out ip daddr {SERVER} drop",
    )  # fmt: skip
    try:
        pod = bench.pod_socket()
        pod.sendto(query("www.example.com."), (SERVER, 53))  # sendto() gives EPERM
        assert rcode(pod.recv(4096)) == SERVFAIL
    finally:
        bench.world.node.run("nft", "delete", "table", "inet", "noway")


@pytest.mark.parametrize("setting", ["none", "servfail"])
def test_silent_server_is_silence_or_servfail(bench: Bench, setting: str) -> None:
    bench.serving("*.example.com", upstream_silent=setting, upstream_timeout_ms=200)
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    server.recv(4096)
    until(lambda: bench.resolver.metric('acns_dns_answers_total{outcome="silent"') == 1, "time-out")
    if setting == "none":
        assert quiet(pod)
    else:
        assert rcode(pod.recv(4096)) == SERVFAIL


def test_queries_past_the_endpoints_budget_are_servfail_and_room_comes_back(bench: Bench) -> None:
    bench.serving("*.example.com", max_in_flight_per_endpoint=2)
    pod, server = bench.pod_socket(), bench.server_socket()
    for number in range(3):
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
    received = pod.recv(4096)
    assert (received[:2], rcode(received)) == (b"\0\x02", SERVFAIL)
    for _ in range(2):
        forwarded, resolver = server.recvfrom(4096)
        server.sendto(answer(forwarded, "192.0.2.7"), resolver)
        assert rcode(pod.recv(4096)) == 0
    pod.sendto(query("again.example.com."), (SERVER, 53))
    assert server.recv(4096)
    assert bench.resolver.metric('acns_dns_queries_total{transport="udp",verdict="over-budget"}') == 1


def test_query_sent_straight_to_the_resolvers_port_gets_nothing(bench: Bench) -> None:
    bench.serving("*.example.com")
    local = bench.keep(bench.world.node.udp())
    local.sendto(query("www.example.com."), ("127.0.0.1", 10053))
    assert quiet(local)
    assert bench.resolver.metric('acns_dns_queries_total{transport="udp",verdict="direct"}') == 1
    pod = bench.pod_socket()  # and it goes on serving
    pod.sendto(query("www.example.org."), (SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED


def test_garbage_does_not_stop_it(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = bench.pod_socket()
    for packet in (
        b"",
        b"\0",
        query("www.example.com.")[:14],
        b"\xff" * 600,
        query("a.b.")[:2] + b"\x80" * 30,
    ):
        pod.sendto(packet, (SERVER, 53))
    until(lambda: bench.resolver.metric("acns_dns_queries_total") >= 5, "all seen")
    pod = bench.pod_socket()
    pod.sendto(query("www.example.org."), (SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED
    assert bench.resolver.metric("acns_unexpected_errors_total") == 0


def test_answers_carry_the_mark_that_keeps_them_untracked(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = bench.pod_socket()
    pod.sendto(query("www.example.org."), (SERVER, 53))
    assert pod.recv(4096)
    assert "counter packets 0" in bench.world.node.run("nft", "list", "chain", "inet", "x", "raw_out")


def test_decisions_are_in_the_journal(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    server.sendto(answer(forwarded, "192.0.2.7", ttl=30), resolver)
    assert pod.recv(4096)
    (told,) = until(lambda: bench.resolver.journal("dns.answer"), "journal")
    assert {
        key: told[key] for key in ("endpoint", "source", "server", "transport", "name", "addresses", "ttl")
    } == {
        "endpoint": ENDPOINT,
        "source": POD,
        "server": f"{SERVER}:53",
        "transport": "udp",
        "name": "www.example.com.",
        "addresses": ["192.0.2.7"],
        "ttl": 30,
    }
    assert told["outcome"] == "learned"
