"""A real resolver behind real redirection: DNS over TCP."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import pytest

from .resolver_world import (
    SERVER,
    WAIT_S,
    Bench,
    answer,
    query,
    quiet,
    rcode,
    receive_framed,
    send_framed,
    until,
)

pytestmark = pytest.mark.root

REFUSED, SERVFAIL = 5, 2


def pod_connection(bench: Bench, address: str = SERVER) -> socket.socket:
    return bench.keep(bench.world.pod.connect(address))


def listening(bench: Bench) -> socket.socket:
    return bench.keep(bench.world.dns.listen(SERVER, 53))


def accepted(bench: Bench, listener: socket.socket) -> socket.socket:
    stream = bench.keep(listener.accept()[0])
    stream.settimeout(WAIT_S)
    return stream


def closed_by_peer(stream: socket.socket) -> bool:
    try:
        return stream.recv(1) == b""
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
    refused = receive_framed(pod)
    assert (refused[:2], rcode(refused)) == (b"\0\x02", REFUSED)
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
    assert closed_by_peer(pod_connection(bench))
    kept[0].close()
    until(lambda: _serves(bench), "room for another")


def _serves(bench: Bench) -> bool:
    stream = pod_connection(bench)
    try:
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


def test_pod_that_does_not_read_its_answers_is_let_go(bench: Bench) -> None:
    bench.serving("*.example.com", tcp_idle_timeout_ms=500)
    pod = bench.keep(bench.world.pod.inside(_small_window))
    pod.settimeout(0.2)
    asked = query("www.example.org.")
    flood = (struct.pack("!H", len(asked)) + asked) * 1000
    let_go = 'acns_dns_tcp_timeouts_total{reason="stuck"}'

    def flooded() -> bool:
        with contextlib.suppress(TimeoutError, ConnectionError):
            pod.send(flood)
        return bench.resolver.metric(let_go) == 1

    until(flooded, "let go")


def _small_window() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(WAIT_S)
    made.connect((SERVER, 53))
    return made


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
    assert closed_by_peer(bench.keep(bench.world.node.connect("127.0.0.1", 10053)))


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
