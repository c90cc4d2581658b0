"""A real resolver behind real redirection: DNS over TCP."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import dns.edns
import dns.message
import dns.rrset
import pytest

from .resolver_world import (
    QUIET_S,
    SERVER,
    Bench,
    answer,
    query,
    quiet,
    rcode,
    receive_framed,
    send_framed,
    until,
)
from .tcp_peers import accepted, closed_by_peer, listening, long_answer, pod_connection

pytestmark = pytest.mark.root

REFUSED, SERVFAIL = 5, 2
KEEPALIVE = 11


def refused(connect: Callable[[], socket.socket]) -> bool:
    """Whether the connection is reset, which may be before or after it is there."""
    try:
        return closed_by_peer(connect())
    except ConnectionResetError:
        return True


def test_query_over_tcp_goes_on_over_tcp_and_its_answer_is_learned(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    assert pod.getpeername() == (SERVER, 53)
    asked = query("wWw.example.com.", ident=0xBEEF)
    send_framed(pod, asked)
    server = accepted(bench, listener)
    forwarded = receive_framed(server)
    assert forwarded[2:] == asked[2:]
    send_framed(server, answer(forwarded, "192.0.2.7"))
    assert receive_framed(pod) == answer(asked, "192.0.2.7")
    assert bench.agent.take_mapping().record_ip == [b"192.0.2.7"]


def test_denied_name_on_a_connection_with_an_allowed_one_is_refused_alone(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("www.example.com.", ident=1), query("www.example.org.", ident=2))
    reply = receive_framed(pod)
    assert (reply[:2], rcode(reply)) == (b"\0\x02", REFUSED)
    server = accepted(bench, listener)
    forwarded = receive_framed(server)
    send_framed(server, answer(forwarded, "192.0.2.7"))
    assert receive_framed(pod)[:2] == b"\0\x01"
    assert quiet(server)


def test_pipelined_queries_share_one_upstream_connection_and_may_be_answered_in_any_order(
    bench: Bench,
) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    names = [f"n{number}.example.com." for number in range(20)]
    send_framed(pod, *(query(name, ident=number) for number, name in enumerate(names)))
    server = accepted(bench, listener)
    forwarded = [receive_framed(server) for _ in names]
    for number, packet in reversed(list(enumerate(forwarded))):
        send_framed(server, answer(packet, f"192.0.2.{number}"))
    answers = [receive_framed(pod) for _ in names]
    assert {(packet[1], packet[-1]) for packet in answers} == {(number, number) for number in range(20)}


def test_frames_may_come_in_any_pieces(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = pod_connection(bench)
    pod.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    asked = query("www.example.org.", ident=9)
    for byte in struct.pack("!H", len(asked)) + asked:
        pod.send(bytes((byte,)))
    assert receive_framed(pod)[:2] == b"\0\x09"


def test_a_pod_that_closed_its_half_still_gets_its_answers(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("a.example.com.", ident=1), query("b.example.com.", ident=2))
    pod.shutdown(socket.SHUT_WR)
    server = accepted(bench, listener)
    for packet in [receive_framed(server), receive_framed(server)]:
        send_framed(server, answer(packet, "192.0.2.7"))
    assert {receive_framed(pod)[1] for _ in range(2)} == {1, 2}
    assert closed_by_peer(pod)


def test_idle_connection_is_closed_and_a_dripping_one_too(bench: Bench) -> None:
    bench.serving("*.example.com", tcp_idle_timeout_ms=300)
    idle, dripping = pod_connection(bench), pod_connection(bench)
    started = time.monotonic()

    def dripped_on_a_closed_one() -> bool:
        try:
            dripping.send(b"\x01")  # a frame of 257 bytes that never comes to its end
        except ConnectionError:
            return True
        return False

    until(dripped_on_a_closed_one, "closed")
    assert closed_by_peer(idle)
    assert 0.25 < time.monotonic() - started < 2


def test_connections_past_the_limit_are_closed_and_room_comes_back(bench: Bench) -> None:
    bench.serving("*.example.com", max_tcp_connections_per_pod=2)
    kept = [pod_connection(bench) for _ in range(2)]
    for stream in kept:
        send_framed(stream, query("www.example.org."))
        assert receive_framed(stream)
    assert refused(lambda: pod_connection(bench))
    kept[0].close()
    until(lambda: _serves(bench), "room for another")


def _serves(bench: Bench) -> bool:
    try:
        stream = pod_connection(bench)
        send_framed(stream, query("www.example.org."))
        return bool(receive_framed(stream))
    except (AssertionError, ConnectionError):
        return False


def test_pod_that_pipelines_without_end_is_not_read_past_the_limit(bench: Bench) -> None:
    bench.serving("*.example.com", max_tcp_pipeline=4)
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, *(query(f"n{number}.example.com.", ident=number) for number in range(10)))
    server = accepted(bench, listener)
    forwarded = [receive_framed(server) for _ in range(4)]
    assert quiet(server)
    for number in range(10):
        send_framed(server, answer(forwarded[number], "192.0.2.7"))
        assert receive_framed(pod)[1] == number
        if len(forwarded) < 10:
            forwarded.append(receive_framed(server))


def test_queries_of_a_pod_that_went_away_leave_the_budget(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, *(query(f"n{number}.example.com.") for number in range(5)))
    server = accepted(bench, listener)
    receive_framed(server)
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 5, "in flight")
    pod.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pod.close()  # by a reset; closing in order would only mean that no more queries come
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 0, "given back")


def test_connection_straight_to_the_resolvers_port_is_closed(bench: Bench) -> None:
    bench.serving("*.example.com")
    assert refused(lambda: bench.keep(bench.world.node.connect("127.0.0.1", 10053)))


def test_large_answer_passes_whole_over_tcp(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    asked = query("www.example.com.")
    send_framed(pod, asked)
    server = accepted(bench, listener)
    addresses = [f"192.0.{number // 250}.{number % 250 + 1}" for number in range(3000)]
    send_framed(server, answer(receive_framed(server), *addresses))
    assert len(receive_framed(pod)) > 45_000
    assert len(bench.agent.take_mapping().record_ip) == 3000


def test_connection_to_the_server_is_used_again_by_the_next_pod_connection(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("a.example.com.", ident=1))
    server = accepted(bench, listener)
    send_framed(server, answer(receive_framed(server)))
    assert receive_framed(pod)[1] == 1
    pod.close()
    for number in (2, 3):
        pod = pod_connection(bench)
        send_framed(pod, query("b.example.com.", ident=number))
        send_framed(server, answer(receive_framed(server)))
        assert receive_framed(pod)[1] == number
        pod.close()
    assert quiet_listener(listener)


def test_connection_on_which_an_answer_is_owed_is_not_used_again(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("a.example.com.", ident=1))
    server = accepted(bench, listener)
    receive_framed(server)
    reset(pod)  # closed in order, it would still get its answer
    pod = pod_connection(bench)
    send_framed(pod, query("b.example.com.", ident=2))
    other = accepted(bench, listener)
    send_framed(other, answer(receive_framed(other)))
    assert receive_framed(pod)[1] == 2
    assert closed_by_peer(server)


def test_two_pod_connections_at_once_have_a_connection_each(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener = listening(bench)
    pods = [pod_connection(bench) for _ in range(2)]
    for number, pod in enumerate(pods):
        send_framed(pod, query("a.example.com.", ident=number))
        server = accepted(bench, listener)
        send_framed(server, answer(receive_framed(server)))
        assert receive_framed(pod)[1] == number


def test_query_on_a_used_connection_that_the_server_has_closed_goes_out_on_a_new_one(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("a.example.com.", ident=1))
    server = accepted(bench, listener)
    send_framed(server, answer(receive_framed(server)))
    assert receive_framed(pod)[1] == 1
    pod.close()
    pod = pod_connection(bench)
    send_framed(pod, query("b.example.com.", ident=2))
    assert receive_framed(server)
    server.close()
    server = accepted(bench, listener)
    send_framed(server, answer(receive_framed(server)))
    assert receive_framed(pod)[1] == 2


def test_server_that_resets_in_the_middle_of_an_answer_is_servfail(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("www.example.com."))
    server = accepted(bench, listener)
    packet = answer(receive_framed(server), "192.0.2.7")
    server.sendall(struct.pack("!H", len(packet)) + packet[:20])
    reset(server)
    assert rcode(receive_framed(pod)) == SERVFAIL


def test_pod_that_resets_in_the_middle_of_a_query_leaves_nothing_behind(bench: Bench) -> None:
    bench.serving("*.example.com", max_tcp_connections_per_pod=1)
    pod = pod_connection(bench)
    pod.sendall(b"\x00\x40half a query")
    reset(pod)
    until(lambda: _serves(bench), "room for another")


def test_empty_frame_closes_the_connection(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = pod_connection(bench)
    pod.sendall(b"\0\0" * 50)
    assert closed_by_peer(pod)
    until(lambda: bench.resolver.metric('acns_dns_tcp_refused_total{reason="garbage"}') == 1, "counted once")


def test_empty_frame_past_the_rate_closes_the_connection_too(bench: Bench) -> None:
    bench.serving("*.example.com", max_queries_per_second_per_pod=4)
    pod = pod_connection(bench)
    send_framed(pod, *(query("www.example.org.", ident=number) for number in range(2)), b"")
    assert [receive_framed(pod)[1] for _ in range(2)] == [0, 1]
    assert closed_by_peer(pod)
    assert bench.resolver.metric('acns_dns_over_budget_total{kind="rate",transport="tcp"}') > 0


def test_query_of_65535_bytes_is_read_whole_and_its_connection_goes_on(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = pod_connection(bench)
    longest = query("www.example.org.", ident=1)
    longest += b"\0" * (65_535 - len(longest))  # octets behind the question: no message is like that
    send_framed(pod, longest, query("www.example.org.", ident=2))
    assert receive_framed(pod)[1] == 1
    reply = receive_framed(pod)
    assert (reply[1], rcode(reply)) == (2, REFUSED)


def test_answer_of_65535_bytes_comes_through_a_byte_at_a_time_or_whole(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("www.example.com.", "TXT"))
    server = accepted(bench, listener)
    packet = long_answer(receive_framed(server))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in struct.pack("!H", len(packet)) + packet[:500]:
        server.send(bytes((byte,)))
    server.sendall(packet[500:])
    assert receive_framed(pod)[2:] == packet[2:]


def test_connections_opened_and_left_are_closed_in_time_and_room_comes_back(bench: Bench) -> None:
    bench.serving("*.example.com", tcp_idle_timeout_ms=1_000, max_tcp_connections_per_pod=1_500)
    left = [pod_connection(bench) for _ in range(1_500)]
    assert all(closed_by_peer(stream) for stream in left)
    assert bench.resolver.metric('acns_dns_tcp_timeouts_total{reason="idle"}') == 1_500
    assert _serves(bench)


@pytest.mark.parametrize("asks", [True, False])
def test_replies_of_ours_say_how_long_a_connection_may_idle_to_those_who_ask(
    bench: Bench, asks: bool
) -> None:
    bench.serving("*.example.com", tcp_idle_timeout_ms=12_345)
    pod = pod_connection(bench)
    made = dns.message.from_wire(query("www.example.org."))
    made.use_edns(options=[dns.edns.GenericOption(KEEPALIVE, b"")] if asks else [])
    send_framed(pod, made.to_wire())
    reply = dns.message.from_wire(receive_framed(pod))
    assert reply.rcode() == REFUSED
    said = [one.to_wire() for one in reply.options if one.otype == KEEPALIVE]
    assert said == ([struct.pack("!H", 123)] if asks else [])


def test_servers_word_on_keeping_a_connection_is_passed_on_unchanged(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    made = dns.message.from_wire(query("www.example.com."))
    made.use_edns(options=[dns.edns.GenericOption(KEEPALIVE, b"")])
    send_framed(pod, made.to_wire())
    server = accepted(bench, listener)
    response = dns.message.make_response(dns.message.from_wire(receive_framed(server)))
    response.use_edns(options=[dns.edns.GenericOption(KEEPALIVE, b"\x01\x00")])
    send_framed(server, response.to_wire())
    assert receive_framed(pod)[2:] == response.to_wire()[2:]


def quiet_listener(listener: socket.socket) -> bool:
    """Whether nobody connects."""
    listener.settimeout(QUIET_S)
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return True
    return False


def reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


IGNORED = 'acns_dns_answers_ignored_total{kind="%s"}'


def test_answers_that_nobody_asked_for_or_that_come_twice_are_counted_by_kind(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("www.example.com.", ident=1))
    server = accepted(bench, listener)
    asked = receive_framed(server)
    for packet in (answer(asked), answer(asked), bytes((asked[0] ^ 1,)) + answer(asked)[1:]):
        send_framed(server, packet)
    assert receive_framed(pod)[:2] == b"\0\1"
    for kind in ("duplicate", "unknown_id"):
        until(lambda kind=kind: bench.resolver.metric(IGNORED % kind) == 1, kind)


def test_an_answer_whose_aliases_lead_on_and_on_is_read_once(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("www.example.com.", ident=1))
    server = accepted(bench, listener)
    endless = dns.message.make_response(dns.message.from_wire(receive_framed(server)))
    for letter in "abcdefgh":
        endless.answer.append(dns.rrset.from_text("com.", 9, "IN", "DNAME", f"{letter}.com."))
    send_framed(server, *[endless.to_wire()] * 3)
    answered = receive_framed(pod)
    assert (answered[:2], rcode(answered)) == (b"\0\1", SERVFAIL)
    until(lambda: bench.resolver.metric(IGNORED % "duplicate") == 2, "duplicates")
    assert bench.resolver.metric('acns_dns_answers_total{outcome="servfail",transport="tcp"') == 1


def test_an_answer_that_comes_after_its_query_was_given_up_is_late(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=200)
    listener, pod = listening(bench), pod_connection(bench)
    send_framed(pod, query("www.example.com."))
    server = accepted(bench, listener)
    asked = receive_framed(server)
    until(lambda: bench.resolver.metric('acns_dns_answers_total{outcome="silent"') == 1, "given up")
    send_framed(server, answer(asked))
    until(lambda: bench.resolver.metric(IGNORED % "late") == 1, "counted")
