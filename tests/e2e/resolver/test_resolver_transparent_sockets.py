"""Sockets that ask as a pod: what they hear beside answers, how long they stay, what happens without them."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from acns.resolver import transparent

from ..datapath.packets import icmp
from .resolver_world import (
    GONE_SERVER,
    NODE_SERVER,
    POD,
    SERVER,
    WAIT_S,
    Bench,
    World,
    answer,
    query,
    quiet,
    rcode,
    receive_framed,
    send_framed,
    until,
)

pytestmark = pytest.mark.root

SERVFAIL = 2
SETTINGS = {"transparent": True, "transparent_servers": f"{SERVER}, {GONE_SERVER}"}
PATIENT_MS = 60_000
"""No test waits so long."""
NO_DESCRIPTORS = 'acns_dns_not_transparent_total{reason="descriptors"}'
FEW_DESCRIPTORS = 400
ROOM = 20
"""Descriptors that sockets of pods may still take."""


@pytest.fixture(scope="module", autouse=True)
def diverted(world: World) -> None:
    world.divert_answers()


@pytest.fixture(params=["unreachable", "throw"], ids=["no such host", "no such network"])
def router(world: World, request: pytest.FixtureRequest) -> Iterator[None]:
    """What knows no way to GONE_SERVER, where that server was."""
    world.dns.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    world.dns.run("ip", "address", "del", f"{GONE_SERVER}/32", "dev", "lo")
    world.dns.run("ip", "route", "add", request.param, GONE_SERVER)
    yield
    world.dns.run("ip", "route", "del", request.param, GONE_SERVER)
    world.dns.run("ip", "address", "add", f"{GONE_SERVER}/32", "dev", "lo")
    world.dns.run("sysctl", "-qw", "net.ipv4.ip_forward=0")


def no_more_descriptors(bench: Bench) -> None:
    """The resolver has `ROOM` of them left, beside those that it keeps for other things."""
    pid = bench.resolver.process.pid
    limit = len(os.listdir(f"/proc/{pid}/fd")) + ROOM + transparent.SPARE_DESCRIPTORS
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))


def raw_icmp(bench: Bench) -> socket.socket:
    """To speak as a router on the way to the server."""
    raw = socket.SOCK_RAW, socket.IPPROTO_ICMP
    return bench.keep(bench.world.dns.inside(lambda: socket.socket(socket.AF_INET, *raw)))


def port_unreachable(source: tuple[str, int], quoted: bytes) -> bytes:
    """An ICMP error about a datagram from there to SERVER, of whose payload so much is quoted."""
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(quoted), 0, 0, 64, socket.IPPROTO_UDP, 0)
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(SERVER)
    udp = struct.pack(">HHHH", source[1], 53, 8 + len(quoted), 0)
    return icmp(3, bytes(4) + ip + addresses + udp + quoted, code=3)


def ignored(bench: Bench, kind: str) -> float:
    return bench.resolver.metric(f'acns_dns_answers_ignored_total{{kind="{kind}"}}')


def answered(server: socket.socket, pod: socket.socket, ident: int = 1) -> tuple[bytes, tuple[str, int]]:
    """A query, asked as its pod and answered; what the server got of it, from where."""
    pod.sendto(query("www.example.com.", ident=ident), (SERVER, 53))
    forwarded, source = server.recvfrom(4096)
    assert source == (POD, pod.getsockname()[1])
    server.sendto(answer(forwarded, "192.0.2.7"), source)
    assert pod.recv(4096)[1] == ident
    return forwarded, source


@contextlib.contextmanager
def taken_over(bench: Bench, meanwhile: Callable[[], object]) -> Iterator[subprocess.Popen[bytes]]:
    """The next process serves. Gives the one before, which is ended afterwards."""
    before = bench.resolver.process
    command = [sys.executable, "-m", "acns.resolver", "--settings", str(bench.folder / "resolver.toml")]
    bench.resolver.process = subprocess.Popen([*bench.world.node.command, *command, "--takeover"])
    own = f'"pid": {bench.resolver.process.pid}'

    def serves() -> bool:
        meanwhile()
        with contextlib.suppress(ConnectionResetError):  # the one before has just closed its pages
            status, body = bench.resolver.get("/readyz")
            return status == 200 and own in body
        return False

    try:
        until(serves, "the next one serves")
        yield before
    finally:
        before.kill()
        before.wait()


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("router")
def test_server_that_cannot_be_reached_fails_its_query_at_once(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS, **SETTINGS)
    pod = bench.pod_socket()
    pod.sendto(query("www.example.com."), (GONE_SERVER, 53))
    assert rcode(pod.recv(4096)) == SERVFAIL


@pytest.mark.parametrize("quoted_bytes", [0, 64], ids=["of nobody knows which", "of one"])
def test_an_error_fails_all_that_wait_for_the_server_unless_it_is_about_a_query_that_does_not(
    bench: Bench, quoted_bytes: int
) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS, **SETTINGS)
    pod, server, router = bench.pod_socket(), bench.server_socket(), raw_icmp(bench)
    for number in range(3):
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
    sent = [server.recvfrom(4096) for _ in range(3)]
    forwarded, source = sent[1]
    unused = next(ident for ident in range(4) if all(packet[1] != ident for packet, _ in sent))
    router.sendto(port_unreachable(source, bytes([forwarded[0], unused]) + forwarded[2:]), (POD, 0))
    assert quiet(pod)
    router.sendto(port_unreachable(source, forwarded[:quoted_bytes]), (POD, 0))
    failed = [pod.recv(4096) for _ in range(3)]
    assert [(packet[1], rcode(packet)) for packet in failed] == [(number, SERVFAIL) for number in range(3)]


# --- what comes afterwards ------------------------------------------------------------------------------


def test_a_late_answer_is_counted_and_the_pod_does_not_get_it(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=100, **SETTINGS)
    server, pod = bench.server_socket(), bench.pod_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    forwarded, source = server.recvfrom(4096)
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 0, "given up")
    server.sendto(answer(forwarded, "192.0.2.7"), source)
    until(lambda: ignored(bench, "late") == 1, "counted", WAIT_S)
    assert quiet(pod)


def test_a_duplicate_answer_is_counted_and_the_pod_does_not_get_it(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    server, pod = bench.server_socket(), bench.pod_socket()
    forwarded, source = answered(server, pod)
    server.sendto(answer(forwarded, "192.0.2.7"), source)
    until(lambda: ignored(bench, "duplicate") == 1, "counted", WAIT_S)
    assert quiet(pod)


def test_only_so_many_sockets_stay_and_not_for_long(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    server = bench.server_socket()
    for _ in range(transparent.MOST_LINGERING + ROOM):
        with bench.world.pod.udp() as pod:
            answered(server, pod)
    assert 0 < bench.world.sockets_as_pod() <= transparent.MOST_LINGERING
    until(lambda: bench.world.sockets_as_pod() == 0, "closed", transparent.LINGER_S + WAIT_S)


def test_a_socket_that_lingers_takes_no_answer_from_the_next_process(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS, **SETTINGS)
    server, pod, other = bench.server_socket(), bench.pod_socket(), bench.pod_socket()
    other.sendto(query("www.example.com."), (SERVER, 53))  # in flight: the one before stays for it
    server.recv(4096)
    with taken_over(bench, meanwhile=lambda: answered(server, pod)) as before:
        for number in range(3):
            answered(server, pod, number)
        assert before.poll() is None


# --- too few --------------------------------------------------------------------------------------------


def test_there_are_descriptors_for_all_queries_that_may_be_in_flight(bench: Bench) -> None:
    bench.started_by = ("prlimit", f"--nofile={FEW_DESCRIPTORS}:")  # it may have more if it says so
    bench.serving("*.example.com", max_tcp_connections=32, reply_sockets=16, **SETTINGS)
    server = bench.server_socket()
    for number in range(FEW_DESCRIPTORS):
        pod = bench.pod_socket()
        pod.sendto(query("www.example.com.", ident=number), (SERVER, 53))
        assert server.recvfrom(4096)[1] == (POD, pod.getsockname()[1])


def test_where_descriptors_are_short_the_nodes_address_is_used_and_all_are_answered(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS, **SETTINGS)
    no_more_descriptors(bench)
    server = bench.server_socket()
    pods = [bench.pod_socket() for _ in range(transparent.SPARE_DESCRIPTORS + 2 * ROOM)]
    asked = []
    for number, pod in enumerate(pods):
        pod.sendto(query("www.example.com.", ident=number), (SERVER, 53))
        asked.append(server.recvfrom(4096))
    as_pods = sum(source[0] == POD for _, source in asked)
    assert {source[0] for _, source in asked} == {POD, NODE_SERVER}
    assert as_pods < 2 * ROOM
    assert bench.resolver.metric(NO_DESCRIPTORS) == len(pods) - as_pods
    for packet, source in asked:
        server.sendto(answer(packet), source)
    assert [pod.recv(4096)[1] for pod in pods] == list(range(len(pods)))


def test_where_descriptors_are_short_sockets_that_only_linger_go_first(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    no_more_descriptors(bench)
    server = bench.server_socket()
    for _ in range(2 * ROOM):
        answered(server, bench.pod_socket())
    assert bench.resolver.metric(NO_DESCRIPTORS) == 0


def test_where_descriptors_are_short_a_pods_connection_is_served(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=PATIENT_MS, **SETTINGS)
    no_more_descriptors(bench)
    server, listener = bench.server_socket(), bench.keep(bench.world.dns.listen(SERVER, 53))
    for _ in range(transparent.SPARE_DESCRIPTORS + 2 * ROOM):
        bench.pod_socket().sendto(query("www.example.com."), (SERVER, 53))
        server.recv(4096)
    pod = bench.keep(bench.world.pod.connect(SERVER))
    send_framed(pod, query("www.example.com.", ident=1))
    connection, source = listener.accept()
    with connection:
        connection.settimeout(WAIT_S)
        send_framed(connection, answer(receive_framed(connection)))
        assert (source[0], receive_framed(pod)[1]) == (POD, 1)
