"""A real resolver behind real redirection: pods that do not read their answers over TCP, or slowly."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading

import pytest

from .resolver_world import SERVER, WAIT_S, Bench, query, receive_framed, send_framed, until
from .tcp_peers import accepted, listening, long_answer, small_window

pytestmark = pytest.mark.root


def test_pod_that_does_not_read_its_answers_is_let_go(bench: Bench) -> None:
    bench.serving("*.example.com", tcp_idle_timeout_ms=500)
    pod = bench.keep(bench.world.pod.inside(small_window))
    pod.settimeout(0.2)
    asked = query("www.example.org.")
    flood = (struct.pack("!H", len(asked)) + asked) * 1000
    let_go = 'acns_dns_tcp_timeouts_total{reason="stuck"}'

    def flooded() -> bool:
        with contextlib.suppress(TimeoutError, ConnectionError):
            pod.send(flood)
        return bench.resolver.metric(let_go) == 1

    until(flooded, "let go")
    # Some 220, or some 570 where the kernel takes answers for as long as its buffer has room.
    assert 0 < bench.resolver.metric('acns_dns_queries_total{transport="tcp"') < 400


def test_pod_that_does_not_read_holds_up_its_server_and_gets_everything_once_it_reads(bench: Bench) -> None:
    bench.serving("*.example.com", max_tcp_pipeline=1_000)
    listener, pod = listening(bench), bench.keep(bench.world.pod.inside(small_window))
    send_framed(pod, *(query(f"n{number}.example.com.", "TXT", ident=number) for number in range(250)))
    server = accepted(bench, listener)
    server.settimeout(1)
    asked = [receive_framed(server) for _ in range(250)]
    sent = 0
    with contextlib.suppress(TimeoutError):  # 16 MB: more than kernel buffers take, unless they are read
        for packet in asked:
            send_framed(server, long_answer(packet))
            sent += 1
    assert sent < 250
    assert bench.resolver.metric("process_resident_memory_bytes") < 200 << 20
    for _ in range(sent):
        assert len(receive_framed(pod)) == 65_535


def _long_answers(bench: Bench, count: int, **settings: object) -> socket.socket:
    """A pod with a small window, and so many answers of 64 KiB on their way to it."""
    bench.serving("*.example.com", **settings)
    listener, pod = listening(bench), bench.keep(bench.world.pod.inside(small_window))
    send_framed(pod, *(query(f"n{number}.example.com.", "TXT", ident=number) for number in range(count)))
    server = accepted(bench, listener)
    for packet in [receive_framed(server) for _ in range(count)]:
        send_framed(server, long_answer(packet))
    return pod


def test_pod_that_reads_slowly_gets_its_answer_however_long_that_takes(bench: Bench) -> None:
    pod = _long_answers(bench, 1, tcp_idle_timeout_ms=500)
    got = 0
    while got < 2 + 65_535 and (data := pod.recv(2_048)):
        got += len(data)
        threading.Event().wait(0.05)  # 32 times: three times the time-out
    assert got == 2 + 65_535


def test_resolver_that_ends_waits_for_a_pod_that_has_not_read_yet(bench: Bench) -> None:
    pod = _long_answers(bench, 1)
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 0, "answered")
    bench.resolver.process.send_signal(signal.SIGTERM)
    until(lambda: not bench.world.node.run("ss", "-Hltn"), "it takes no more connections")
    assert len(receive_framed(pod)) == 65_535


def _unread_answer(bench: Bench, **settings: object) -> socket.socket:
    """A pod that has not read an answer of 9,000 octets; its window has no room for it, the kernel has."""
    bench.serving("*.example.com", **settings)
    listener, pod = listening(bench), bench.keep(bench.world.pod.inside(small_window))
    send_framed(pod, query("www.example.com.", "TXT"))
    server = accepted(bench, listener)
    send_framed(server, long_answer(receive_framed(server), 9_000))
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 0, "answered")
    return pod


def test_what_a_pod_has_not_read_when_its_time_is_up_is_still_sent(bench: Bench) -> None:
    pod = _unread_answer(bench, tcp_idle_timeout_ms=300)
    until(lambda: bench.resolver.metric('acns_dns_tcp_timeouts_total{reason="stuck"}') == 1, "given up")
    assert len(receive_framed(pod)) == 9_000
    assert pod.recv(1) == b""


def test_what_a_pod_has_not_read_when_the_resolver_ends_is_still_sent(bench: Bench) -> None:
    pod = _unread_answer(bench)
    bench.resolver.process.send_signal(signal.SIGTERM)
    bench.resolver.process.wait(WAIT_S)
    assert len(receive_framed(pod)) == 9_000
    assert pod.recv(1) == b""


def test_kernel_keeps_little_of_what_a_pod_sends_and_nobody_reads(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = bench.keep(bench.world.pod.connect(SERVER))
    pod.settimeout(0.2)
    asked = query("www.example.org.")
    flood = (struct.pack("!H", len(asked)) + asked) * 20_000
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 4 << 20:
            sent += pod.send(flood)
    unread = bench.world.node.run("ss", "-Htn", "sport", "=", ":53").split()[1]
    assert 0 < int(unread) <= 64 << 10
