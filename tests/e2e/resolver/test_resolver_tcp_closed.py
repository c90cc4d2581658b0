"""A real resolver behind real redirection: DNS servers that close their TCP connections, or take none."""

from __future__ import annotations

import pytest

from acns.resolver.budget import LARGE_OCTETS
from acns.resolver.tcp_upstream import AGAIN_AT_MOST

from .resolver_world import (
    Bench,
    answer,
    padded_query,
    policy,
    query,
    quiet,
    rcode,
    receive_framed,
    send_framed,
)
from .tcp_peers import accepted, listening, pod_connection

pytestmark = pytest.mark.root

REFUSED, SERVFAIL = 5, 2


def test_upstream_connection_closed_while_idle_is_made_again(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    for number in (1, 2):
        send_framed(pod, query("www.example.com.", ident=number))
        server = accepted(bench, listener)
        send_framed(server, answer(receive_framed(server), "192.0.2.7"))
        assert receive_framed(pod)[1] == number
        server.close()


def test_query_sent_into_a_connection_that_the_server_is_closing_is_sent_once_more(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("a.example.com.", ident=1))
    server = accepted(bench, listener)
    send_framed(server, answer(receive_framed(server), "192.0.2.7"))
    assert receive_framed(pod)[1] == 1
    send_framed(pod, query("b.example.com.", ident=2))
    first = receive_framed(server)
    server.close()
    server = accepted(bench, listener)
    again = receive_framed(server)
    assert again[2:] == first[2:]
    server.close()
    failed = receive_framed(pod)  # once more, not for ever
    assert (failed[1], rcode(failed)) == (2, SERVFAIL)


@pytest.mark.parametrize("each", [1, 2])
def test_server_that_closes_after_some_answers_is_asked_for_the_others_again(bench: Bench, each: int) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, *(query(f"n{number}.example.com.", ident=number) for number in range(6)))
    for _ in range(6 // each):
        server = accepted(bench, listener)
        for _ in range(each):
            send_framed(server, answer(receive_framed(server), "192.0.2.7"))
        server.close()
    replies = [receive_framed(pod) for _ in range(6)]
    assert sorted(reply[1] for reply in replies) == list(range(6))
    assert {rcode(reply) for reply in replies} == {0}


def test_server_that_closes_after_each_answer_is_not_asked_for_ever(bench: Bench) -> None:
    """Each time all that waits leaves again."""
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    waiting = AGAIN_AT_MOST + 4
    send_framed(pod, *(query(f"n{number}.example.com.", ident=number) for number in range(waiting)))
    for number in range(AGAIN_AT_MOST + 1):
        server = accepted(bench, listener)
        first, *_ = [receive_framed(server) for _ in range(waiting - number)]
        send_framed(server, answer(first, "192.0.2.7"))
        server.close()
    replies = [receive_framed(pod) for _ in range(waiting)]
    assert [rcode(reply) for reply in replies].count(SERVFAIL) == 3
    assert sorted(reply[1] for reply in replies) == list(range(waiting))
    assert quiet(listener)


def test_a_large_query_goes_only_once_more(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, padded_query("large.example.com.", 9, LARGE_OCTETS))
    for number in range(2):
        send_framed(pod, query("www.example.com.", ident=number))
        server = accepted(bench, listener)
        frames = [receive_framed(server) for _ in range(2)]
        send_framed(server, answer(min(frames, key=len), "192.0.2.7"))
        assert receive_framed(pod)[1] == number
        server.close()
    failed = receive_framed(pod)
    assert (failed[1], rcode(failed)) == (9, SERVFAIL)
    assert quiet(listener)


def test_two_queries_on_a_used_connection_that_is_closing_are_both_asked_again(bench: Bench) -> None:
    """As a resolver does that asks for A and AAAA at once, of a server that closes after each answer."""
    bench.serving("*.example.com")
    listener, before = listening(bench), pod_connection(bench)
    send_framed(before, query("www.example.com."))
    server = accepted(bench, listener)
    send_framed(server, answer(receive_framed(server), "192.0.2.7"))
    receive_framed(before)
    before.close()
    pod = pod_connection(bench)
    send_framed(pod, query("www.example.com.", ident=1), query("www.example.com.", "TXT", ident=2))
    receive_framed(server)
    server.close()
    for _ in range(2):
        server = accepted(bench, listener)
        send_framed(server, answer(receive_framed(server)))
        server.close()
    replies = [receive_framed(pod) for _ in range(2)]
    assert sorted((reply[1], rcode(reply)) for reply in replies) == [(1, 0), (2, 0)]


def test_what_its_policy_allows_no_more_is_not_asked_again_when_the_server_closes(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("a.example.com.", ident=1))
    server = accepted(bench, listener)
    send_framed(server, answer(receive_framed(server), "192.0.2.7"))
    receive_framed(pod)
    send_framed(pod, query("b.example.com.", ident=2), query("b.example.net.", ident=3))
    receive_framed(server)
    bench.agent.publish(policy("*.example.net", request_id="two"))
    assert bench.agent.take_ack().request_id == "two"
    server.close()
    replies = {reply[1]: rcode(reply) for reply in (receive_framed(pod), receive_framed(pod))}
    assert replies == {2: REFUSED, 3: REFUSED}
    assert quiet(listener)


def test_server_that_closes_without_answering_is_servfail(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("www.example.com."))
    server = accepted(bench, listener)
    receive_framed(server)
    server.close()
    assert rcode(receive_framed(pod)) == SERVFAIL


def test_server_that_refuses_the_connection_is_servfail(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = pod_connection(bench)
    send_framed(pod, query("www.example.com."))
    assert rcode(receive_framed(pod)) == SERVFAIL
