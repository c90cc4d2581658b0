"""The resolver asks as the pod: its address and port at the server, the answer to nobody but the resolver."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from acns.resolver import udp_upstream

from .resolver_world import (
    OTHER_SERVER,
    POD,
    QUIET_S,
    SERVER,
    WAIT_S,
    Bench,
    Gate,
    Namespace,
    World,
    answer,
    policy,
    query,
    quiet,
    rcode,
    receive_framed,
    send_framed,
    until,
)

pytestmark = pytest.mark.root

REFUSED, SERVFAIL = 5, 2
NODE = "172.18.0.1"
SETTINGS = {"transparent": True, "transparent_servers": f"192.0.2.0/24, {SERVER}"}
PORT_TAKEN = 'acns_dns_not_transparent_total{reason="port"}'
JOINED = 'acns_dns_queries_total{transport="udp",verdict="joined"}'
ETH_P_IP, ETH_HEADER_BYTES = 0x0800, 14


@pytest.fixture(scope="module", autouse=True)
def diverted(world: World) -> None:
    world.divert_answers()


@pytest.fixture
def tap(bench: Bench) -> Iterator[socket.socket]:
    """Everything that comes to the pod's link."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        made.bind(("eth0", 0))
        made.settimeout(QUIET_S)
        return made

    with bench.world.pod.inside(make) as made:
        yield made


def wildcard_udp_ports(node: Namespace) -> list[int]:
    """On which somebody of the node takes UDP to whatever address."""
    lines = node.run("cat", "/proc/net/udp").splitlines()[1:]
    local = [line.split()[1].split(":") for line in lines]
    return [int(port, 16) for address, port in local if int(address, 16) == 0]


def udp_from(tap: socket.socket, address: str) -> list[bytes]:
    """The payloads of the datagrams that the pod has from there, until none come any more."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            frame, place = tap.recvfrom(65_535)
            ip = frame[ETH_HEADER_BYTES:]
            coming = place[2] == socket.PACKET_HOST and ip[9] == socket.IPPROTO_UDP
            if coming and ip[12:16] == socket.inet_aton(address):
                found.append(ip[28:])
    return found


def test_server_sees_the_pods_address_and_port_and_the_pod_has_one_answer_after_the_commit(
    bench: Bench, tap: socket.socket
) -> None:
    bench.agent.behaviour = gate = Gate()
    bench.serving("*.example.com", commit_timeout_ms=60_000, **SETTINGS)
    server, pod = bench.server_socket(), bench.pod_socket()
    asked = query("www.example.com.")
    pod.sendto(asked, (SERVER, 53))
    forwarded, source = server.recvfrom(4096)
    assert source == (POD, pod.getsockname()[1])
    assert forwarded[2:] == asked[2:]
    server.sendto(answer(forwarded, "192.0.2.7"), source)
    assert bench.agent.take_mapping().record_ip == [b"192.0.2.7"]
    assert udp_from(tap, SERVER) == []  # it waits for the commit, and has not come by another way
    gate.open()
    assert pod.recvfrom(4096) == (answer(asked, "192.0.2.7"), (SERVER, 53))
    assert udp_from(tap, SERVER) == [answer(asked, "192.0.2.7")]


def test_queries_from_one_port_are_told_apart(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    server, pod = bench.server_socket(), bench.pod_socket()
    for number in range(8):
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
    forwarded = [server.recvfrom(4096) for _ in range(8)]
    assert {source for _, source in forwarded} == {(POD, pod.getsockname()[1])}
    for packet, source in reversed(forwarded):
        server.sendto(answer(packet), source)
    assert {pod.recv(4096)[1] for _ in range(8)} == set(range(8))


def test_a_query_that_was_seen_before_is_asked_as_the_pod_too(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    server = bench.server_socket()
    for number in range(3):
        pod = bench.pod_socket()
        pod.sendto(query("www.example.com.", ident=number), (SERVER, 53))
        forwarded, source = server.recvfrom(4096)
        assert source == (POD, pod.getsockname()[1])
        server.sendto(answer(forwarded), source)
        assert pod.recv(4096)[1] == number


def test_a_repetition_is_joined_to_the_first_and_later_goes_out_again_under_the_same_id(
    bench: Bench,
) -> None:
    """The first datagram may have been lost: nobody else would send it again."""
    bench.serving("*.example.com", **SETTINGS)
    server, pod = bench.server_socket(), bench.pod_socket()
    asked = query("www.example.com.")
    pod.sendto(asked, (SERVER, 53))
    first = server.recvfrom(4096)
    pod.sendto(asked, (SERVER, 53))
    until(lambda: bench.resolver.metric(JOINED) == 1, "joined")
    assert quiet(server)
    server.setblocking(False)

    def sent_again() -> tuple[bytes, object] | None:
        pod.sendto(asked, (SERVER, 53))
        with contextlib.suppress(BlockingIOError):
            return server.recvfrom(4096)
        return None

    assert until(sent_again, "the datagram again") == first
    server.sendto(answer(first[0], "192.0.2.7"), first[1])
    assert pod.recv(4096) == answer(asked, "192.0.2.7")
    assert quiet(pod)


def test_a_repetition_whose_name_is_allowed_no_more_is_refused_and_its_answer_is_late(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    pod, server = bench.pod_socket(), bench.server_socket()
    asked = query("www.example.com.")
    pod.sendto(asked, (SERVER, 53))
    forwarded, seen = server.recvfrom(4096)
    bench.agent.publish(policy("*.example.net", request_id="two"))
    assert bench.agent.take_ack().request_id == "two"
    pod.sendto(asked, (SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED
    assert bench.resolver.metric("acns_dns_in_flight") == 0
    server.sendto(answer(forwarded, "192.0.2.7"), seen)
    until(lambda: bench.resolver.metric('acns_dns_answers_ignored_total{kind="late"}') == 1, "counted")
    assert quiet(pod)
    assert bench.agent.mappings.empty()


def test_over_tcp_the_server_sees_the_pods_address_and_port(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    listener = bench.keep(bench.world.dns.listen(SERVER, 53))
    for number in range(2):  # and no connection is another's
        pod = bench.keep(bench.world.pod.connect(SERVER))
        send_framed(pod, query("www.example.com.", ident=number))
        server, source = listener.accept()
        server.settimeout(WAIT_S)
        assert source == pod.getsockname()
        send_framed(server, answer(receive_framed(server), "192.0.2.7"))
        assert receive_framed(pod)[1] == number
        pod.close()
        assert server.recv(1) == b""
        server.close()


def test_server_that_may_be_a_service_is_asked_from_the_nodes_address_and_that_is_said_once(
    bench: Bench,
) -> None:
    bench.serving("*.example.com", transparent=True, transparent_servers="192.0.2.0/24")
    server, pod = bench.server_socket(), bench.pod_socket()
    for number in range(3):
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
        packet, source = server.recvfrom(4096)
        assert source[0] == NODE
        server.sendto(answer(packet), source)
        assert pod.recv(4096)[1] == number
    assert bench.resolver.metric("acns_dns_not_transparent_total") == 3
    lines = [json.loads(line) for line in bench.resolver.log_file.read_text().splitlines()]
    assert [line["server"] for line in lines if "the node's address" in line["event"]] == [SERVER]


def test_a_port_that_the_resolver_has_itself_is_the_pods_all_the_same(bench: Bench) -> None:
    """Pods choose from the very range that the kernel gives the resolver its own ports from."""
    bench.serving("*.example.com", **SETTINGS)
    server = bench.server_socket()
    for number, port in enumerate(wildcard_udp_ports(bench.world.node)):
        pod = bench.keep(bench.world.pod.udp(port=port))
        pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
        packet, source = server.recvfrom(4096)
        assert source == (POD, port)
        server.sendto(answer(packet), source)
        assert pod.recv(4096)[1] == number
    assert number >= udp_upstream.SOCKETS - 1
    assert bench.resolver.metric("acns_dns_not_transparent_total") == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_port_that_a_program_of_the_node_has_is_asked_from_the_nodes_address(
    bench: Bench, transport: str
) -> None:
    bench.serving("*.example.com", **SETTINGS)
    node, pod_place = bench.world.node, bench.world.pod
    if transport == "udp":
        program, server = bench.keep(node.udp()), bench.server_socket()
        pod = bench.keep(pod_place.udp(port=program.getsockname()[1]))
        for number in range(2):
            pod.sendto(query(f"n{number}.example.com.", ident=number), (SERVER, 53))
            packet, source = server.recvfrom(4096)
            server.sendto(answer(packet), source)
            assert (source[0], pod.recv(4096)[1]) == (NODE, number)
    else:
        program, listener = bench.keep(node.listen("", 0)), bench.keep(bench.world.dns.listen(SERVER, 53))
        pod = bench.keep(pod_place.connect(SERVER, source=(POD, program.getsockname()[1])))
        send_framed(pod, query("www.example.com.", ident=1))
        connection, source = listener.accept()
        with connection:
            connection.settimeout(WAIT_S)
            send_framed(connection, answer(receive_framed(connection)))
            assert (source[0], receive_framed(pod)[1]) == (NODE, 1)
    assert bench.resolver.metric(PORT_TAKEN) == (2 if transport == "udp" else 1)


def test_without_the_setting_the_server_sees_the_nodes_address(bench: Bench) -> None:
    bench.serving("*.example.com")
    server, pod = bench.server_socket(), bench.pod_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    assert server.recvfrom(4096)[1][0] == NODE
    assert bench.resolver.metric("acns_dns_not_transparent_total") == 0


def test_answer_of_another_server_does_not_count(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    server, other, pod = bench.server_socket(), bench.server_socket(OTHER_SERVER), bench.pod_socket()
    asked = query("www.example.com.")
    pod.sendto(asked, (SERVER, 53))
    packet, source = server.recvfrom(4096)
    other.sendto(answer(packet, "192.0.2.66"), source)
    forged = answer(packet[:12] + packet[12:].replace(b"www", b"xxx"), "192.0.2.66")
    server.sendto(forged, source)
    server.sendto(answer(packet, "192.0.2.7"), source)
    until(lambda: not bench.agent.mappings.empty(), "learned")
    assert bench.agent.take_mapping().record_ip == [b"192.0.2.7"]


def test_server_that_is_not_there_fails_its_query_at_once(bench: Bench) -> None:
    bench.serving("*.example.com", **SETTINGS)
    pod = bench.pod_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    assert rcode(pod.recv(4096)) == SERVFAIL


def test_silent_server_leaves_no_socket_behind(bench: Bench) -> None:
    bench.serving("*.example.com", upstream_timeout_ms=1_000, upstream_silent="servfail", **SETTINGS)
    server, pod = bench.server_socket(), bench.pod_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    server.recv(4096)
    assert bench.world.sockets_as_pod() == 1
    assert rcode(pod.recv(4096)) == SERVFAIL
    until(lambda: bench.world.sockets_as_pod() == 0, "closed")
    assert quiet(pod)


def test_transparent_without_servers_is_a_mistake_in_the_settings(bench: Bench) -> None:
    bench.agent.publish(policy("*.example.com"))
    assert bench.start(transparent=True).process.wait(timeout=WAIT_S) == 2
