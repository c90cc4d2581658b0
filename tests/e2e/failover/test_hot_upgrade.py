"""A resolver is replaced under traffic: the next process takes its sockets over, and nobody notices.

`ACNS_UPGRADES` says how many upgrades in a row the storm does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from acns.api import fqdndata_pb2 as pb

from ..resolver.resolver_world import (
    SERVER,
    WAIT_S,
    Bench,
    answer,
    confirm,
    policy,
    query,
    quiet,
    rcode,
    receive_framed,
    send_framed,
    until,
)
from .upgrade_traffic import traffic

pytestmark = pytest.mark.root

UPGRADES = int(os.environ.get("ACNS_UPGRADES", "4"))
PER_S = 500
PATIENT_MS = 60_000
"""A query in flight outlasts the next one's start, on a busy machine too."""
NAME = "www.example.com."
REFUSED = 5


def next_one(bench: Bench) -> subprocess.Popen[bytes]:
    """The next process, started; it is `bench.resolver`'s from now on. Returns the one before."""
    before = bench.resolver.process
    settings = str(bench.folder / "resolver.toml")
    command = [sys.executable, "-m", "acns.resolver", "--settings", settings, "--takeover"]
    bench.resolver.process = subprocess.Popen([*bench.world.node.command, *command])
    return before


def serves(bench: Bench) -> bool:
    """Whether the process that was started last is the one that is ready."""
    try:
        status, body = bench.resolver.get("/readyz")
    except ConnectionResetError:  # the one before has just closed its pages
        return False
    return status == 200 and f'"pid": {bench.resolver.process.pid}' in body


def upgraded(bench: Bench) -> None:
    """The next process serves, and the one before has ended well."""
    before = next_one(bench)
    assert before.wait(timeout=WAIT_S * 4) == 0
    until(lambda: serves(bench), "the next one serves", WAIT_S * 4)


def taken_over(bench: Bench) -> subprocess.Popen[bytes]:
    """The next process serves; the one before, which may still have something in flight."""
    before = next_one(bench)
    until(lambda: serves(bench), "the next one serves", WAIT_S * 4)
    return before


def test_no_query_is_lost_and_no_answer_reordered_in_upgrades_under_traffic(bench: Bench) -> None:
    bench.serving("*.example.com")
    begun = time.monotonic()
    with traffic(bench.world, PER_S) as clients:
        for _ in range(UPGRADES):
            upgraded(bench)
        took_s = time.monotonic() - begun
    sent = sum(client.sent for client in clients)
    print(f"{UPGRADES} upgrades in {took_s:.0f} s, {sent} queries")
    assert sent > took_s * PER_S / 2, "that was hardly any traffic"
    for client in clients:
        assert (client.lost, client.failed, client.repeated, client.reordered) == (set(), [], False, False)


def test_a_query_in_flight_is_answered_by_the_one_that_took_it(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS)
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query(NAME, "TXT"), (SERVER, 53))
    packet, resolver = server.recvfrom(4096)
    before = taken_over(bench)
    assert before.poll() is None
    server.sendto(answer(packet), resolver)
    assert rcode(pod.recv(4096)) == 0
    assert before.wait(timeout=WAIT_S) == 0


def test_queries_that_nobody_has_read_yet_go_with_the_listener(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    before = next_one(bench)
    until(lambda: "handing over" in bench.resolver.log_file.read_text(), "asked", WAIT_S * 4)
    for ident in range(50):
        pod.sendto(query(NAME, "TXT", ident), (SERVER, 53))
    for _ in range(50):
        packet, resolver = server.recvfrom(4096)
        server.sendto(answer(packet), resolver)
    assert {int.from_bytes(pod.recv(4096)[:2]) for _ in range(50)} == set(range(50))
    assert before.wait(timeout=WAIT_S) == 0


def has_read(bench: Bench, octets: int) -> bool:
    """Whether all that came over the resolver's one connection with a pod, so much, was read from it."""
    line = bench.world.node.run("ss", "-HtniO", "state", "established")
    return line.startswith("0 ") and f"bytes_received:{octets} " in line


def test_half_a_query_that_was_read_goes_with_its_connection(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener = bench.keep(bench.world.dns.listen(SERVER, 53))
    pod = bench.keep(bench.world.pod.connect(SERVER))
    framed = struct.pack("!H", len(query(NAME, "TXT"))) + query(NAME, "TXT")
    pod.sendall(framed[:11])
    until(lambda: has_read(bench, 11), "read")
    upgraded(bench)
    pod.sendall(framed[11:])
    upstream = bench.keep(listener.accept()[0])
    send_framed(upstream, answer(receive_framed(upstream)))
    assert receive_framed(pod)[:2] == query(NAME, "TXT")[:2]


def test_a_connection_with_a_query_in_flight_is_handed_over_when_it_is_answered(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS)
    listener = bench.keep(bench.world.dns.listen(SERVER, 53))
    pod = bench.keep(bench.world.pod.connect(SERVER))
    send_framed(pod, query(NAME, "TXT", 1))
    upstream = bench.keep(listener.accept()[0])
    first = receive_framed(upstream)
    before = taken_over(bench)
    send_framed(pod, query(NAME, "TXT", 2))
    assert quiet(pod)
    send_framed(upstream, answer(first))
    assert receive_framed(pod)[:2] == b"\0\1"
    another = bench.keep(listener.accept()[0])
    send_framed(another, answer(receive_framed(another)))
    assert receive_framed(pod)[:2] == b"\0\2"
    assert before.wait(timeout=WAIT_S) == 0


def test_a_pod_that_has_closed_its_half_still_gets_its_answer(bench: Bench) -> None:
    bench.serving("*.example.com")
    listener = bench.keep(bench.world.dns.listen(SERVER, 53))
    pod = bench.keep(bench.world.pod.connect(SERVER))
    framed = struct.pack("!H", len(query(NAME, "TXT"))) + query(NAME, "TXT")
    pod.sendall(framed[:5])
    until(lambda: has_read(bench, 5), "read")
    upgraded(bench)
    pod.sendall(framed[5:])
    pod.shutdown(socket.SHUT_WR)
    upstream = bench.keep(listener.accept()[0])
    send_framed(upstream, answer(receive_framed(upstream)))
    assert rcode(receive_framed(pod)) == 0
    assert pod.recv(1) == b""


def test_the_next_one_tells_the_agent_what_the_one_before_could_not(bench: Bench) -> None:
    bench.serving("*.example.com")

    def hang(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
        context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        raise AssertionError

    bench.agent.behaviour = hang
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query(NAME), (SERVER, 53))
    packet, resolver = server.recvfrom(4096)
    server.sendto(answer(packet, "192.0.2.9"), resolver)
    assert rcode(pod.recv(4096)) == 0
    upgraded(bench)
    while not bench.agent.mappings.empty():
        bench.agent.mappings.get()
    bench.agent.behaviour = confirm
    told = until(lambda: bench.agent.mappings.get(timeout=WAIT_S), "told")
    assert (told.fqdn, list(told.record_ip)) == (NAME, [b"192.0.2.9"])


def test_the_next_one_goes_by_the_policy_in_force_though_the_disk_has_an_older_one(bench: Bench) -> None:
    """As a disk has that took no newer one, or none in time."""
    bench.serving("*.example.com")
    at = bench.folder / "state" / "policy.json"
    older = until(lambda: at.exists() and at.read_bytes(), "kept")
    bench.agent.publish(policy("other.example.com", request_id="two"))
    bench.agent.take_ack()
    until(lambda: at.read_bytes() != older, "kept")
    bench.agent.stop()
    copy = at.with_name("older")
    copy.write_bytes(older)
    copy.rename(at)  # as a whole, for the one before may look at it
    upgraded(bench)
    pod = bench.pod_socket()
    pod.sendto(query(NAME), (SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED


def test_where_nobody_serves_a_resolver_that_would_take_over_just_starts(bench: Bench) -> None:
    bench.serving("*.example.com")
    bench.resolver.process.send_signal(signal.SIGKILL)
    bench.resolver.process.wait()
    next_one(bench)
    until(lambda: serves(bench), "it serves", WAIT_S * 4)
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query(NAME, "TXT"), (SERVER, 53))
    packet, resolver = server.recvfrom(4096)
    server.sendto(answer(packet), resolver)
    assert rcode(pod.recv(4096)) == 0


def test_a_next_one_that_dies_before_it_asks_leaves_the_one_before_as_it_was(bench: Bench) -> None:
    bench.serving("*.example.com")
    serving = bench.resolver.process
    broken = bench.folder / "broken.toml"
    broken.write_text((bench.folder / "resolver.toml").read_text() + '\nlog_level = "loud"\n')
    command = [sys.executable, "-m", "acns.resolver", "--settings", str(broken), "--takeover"]
    assert (
        subprocess.run([*bench.world.node.command, *command], check=False, capture_output=True).returncode
        == 2
    )
    assert serving.poll() is None
    assert bench.resolver.get("/readyz")[0] == 200


@contextlib.contextmanager
def a_next_one_that_never_serves(bench: Bench) -> Iterator[socket.socket]:
    """It has asked, and been given the listeners. Ends when the block does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(WAIT_S)
        link.connect(str(bench.folder / "handover.sock"))
        message, descriptors, _, _ = socket.recv_fds(link, 4096, 2)
        assert message == b"L"
        given = [socket.socket(fileno=one) for one in descriptors]
        try:
            yield link
        finally:
            for one in given:
                one.close()


def in_flight(bench: Bench) -> Callable[[], bool]:
    """A query that is not answered yet: a resolver that took it on cannot end. Answers it when called."""
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query(NAME, "TXT"), (SERVER, 53))
    packet, resolver = server.recvfrom(4096)

    def finish() -> bool:
        server.sendto(answer(packet), resolver)
        return rcode(pod.recv(4096)) == 0

    return finish


def answers(bench: Bench, pod: socket.socket, server: socket.socket) -> bool:
    packet, resolver = server.recvfrom(4096)
    server.sendto(answer(packet), resolver)
    return rcode(pod.recv(4096)) == 0


def test_a_next_one_that_dies_once_it_has_asked_takes_nothing_with_it(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    for _ in range(3):
        with a_next_one_that_never_serves(bench):
            pod.sendto(query(NAME, "TXT"), (SERVER, 53))
        assert answers(bench, pod, server)
    assert bench.resolver.get("/readyz")[0] == 200
    assert "please report" not in bench.resolver.log_file.read_text()


def test_a_next_one_that_hangs_is_not_waited_for_and_hears_that_it_was_too_slow(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    with a_next_one_that_never_serves(bench) as link:
        pod.sendto(query(NAME, "TXT"), (SERVER, 53))
        assert answers(bench, pod, server)
        assert link.recv(16) == b"B"
    upgraded(bench)


def test_a_next_one_that_dies_with_connections_takes_only_those_with_it(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS)
    in_flight(bench)  # the one before cannot end yet
    listener = bench.keep(bench.world.dns.listen(SERVER, 53))
    pod = bench.keep(bench.world.pod.connect(SERVER))
    until(lambda: bench.world.node.run("ss", "-Htn", "state", "established").count("\n") == 1, "accepted")
    with a_next_one_that_never_serves(bench) as link:
        link.send(b"H")
        message, descriptors, _, _ = socket.recv_fds(link, 4096, 1)
        assert message.startswith(b"C")
        socket.socket(fileno=descriptors[0]).close()
    assert pod.recv(1) == b""
    another = bench.keep(bench.world.pod.connect(SERVER))
    send_framed(another, query(NAME, "TXT"))
    upstream = bench.keep(listener.accept()[0])
    send_framed(upstream, answer(receive_framed(upstream)))
    assert rcode(receive_framed(another)) == 0


def test_of_two_next_ones_at_once_the_second_ends_with_the_reason(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS)
    finish = in_flight(bench)
    with a_next_one_that_never_serves(bench) as link:
        link.send(b"H")
        settings = str(bench.folder / "resolver.toml")
        command = [sys.executable, "-m", "acns.resolver", "--settings", settings, "--takeover"]
        second = subprocess.run([*bench.world.node.command, *command], check=False, capture_output=True)
    assert second.returncode == 3
    assert finish()


def test_a_next_one_that_is_told_to_end_while_it_takes_over_leaves_the_one_before_serving(
    bench: Bench,
) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS)
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query(NAME, "TXT"), (SERVER, 53))
    asked, resolver = server.recvfrom(4096)  # in flight: the one before cannot end yet
    before = taken_over(bench)
    bench.resolver.process.send_signal(signal.SIGTERM)
    assert bench.resolver.process.wait(timeout=WAIT_S * 4) == 0
    bench.resolver.process = before
    until(lambda: serves(bench), "the one before serves")
    server.sendto(answer(asked), resolver)
    assert rcode(pod.recv(4096)) == 0
    pod.sendto(query(NAME, "TXT"), (SERVER, 53))
    assert answers(bench, pod, server)
