"""A DNS server on the pod's own node keeps its address and port, whatever the resolver answers from."""

from __future__ import annotations

import socket

import dns.message
import pytest

from .resolver_world import NODE_SERVER, Bench, answer, query, receive_framed, send_framed, until

pytestmark = pytest.mark.root

LARGE_OCTETS = 3_000  # more than a packet of a link


def exchanged(bench: Bench, server: socket.socket, ident: int, *addresses: str) -> None:
    """The pod asks the node's server, and has its answer as if nobody stood between."""
    pod = bench.pod_socket()
    asked = query("www.example.com.", ident=ident)
    pod.sendto(asked, (NODE_SERVER, 53))
    forwarded, source = server.recvfrom(4096)
    assert source[0] == NODE_SERVER
    server.sendto(answer(forwarded, *addresses), source)
    assert pod.recvfrom(65_535) == (answer(asked, *addresses), (NODE_SERVER, 53))


@pytest.mark.parametrize("bound", ["0.0.0.0", NODE_SERVER])
def test_it_is_asked_answers_and_goes_on_hearing_everybody(bench: Bench, bound: str) -> None:
    bench.serving("*.example.com")
    with bench.world.node.udp(bound, 53) as server:
        for ident in range(4):  # the first is judged, later ones take the shortest way
            exchanged(bench, server, ident, "192.0.2.7")
        with bench.world.dns.udp() as other:
            other.sendto(b"from elsewhere", (NODE_SERVER, 53))
            assert server.recvfrom(4096)[0] == b"from elsewhere"


def test_it_can_start_again_while_the_resolver_answers_in_its_name(bench: Bench) -> None:
    bench.serving("*.example.com")
    for ident in range(2):
        with bench.world.node.udp(NODE_SERVER, 53) as server:
            exchanged(bench, server, ident, "192.0.2.7")


def test_a_refusal_comes_from_it_too(bench: Bench) -> None:
    bench.serving("*.example.com")
    with bench.world.node.udp("0.0.0.0", 53):
        pod = bench.pod_socket()
        pod.sendto(query("evil.example.org."), (NODE_SERVER, 53))
        received, source = pod.recvfrom(4096)
        assert (received[3] & 15, source) == (5, (NODE_SERVER, 53))


def test_an_answer_of_several_fragments_arrives_whole(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod = bench.pod_socket()
    asked = dns.message.make_query("www.example.com.", "A", use_edns=0, payload=4096).to_wire()
    with bench.world.node.udp("0.0.0.0", 53) as server:
        pod.sendto(asked, (NODE_SERVER, 53))
        forwarded, source = server.recvfrom(4096)
        addresses = [f"192.0.2.{number}" for number in range(200)]
        sent = answer(forwarded, *addresses)
        server.sendto(sent, source)
        assert pod.recv(65_535) == asked[:2] + sent[2:]
        assert len(sent) > LARGE_OCTETS


def test_over_tcp_as_well(bench: Bench) -> None:
    bench.serving("*.example.com")
    with bench.world.node.listen(NODE_SERVER, 53) as listener:
        pod = bench.world.pod.connect(NODE_SERVER)
        asked = query("www.example.com.")
        send_framed(pod, asked)
        served, _ = listener.accept()
        forwarded = receive_framed(served)
        send_framed(served, answer(forwarded, "192.0.2.7"))
        assert receive_framed(pod) == answer(asked, "192.0.2.7")
        until(lambda: bench.agent.mappings.qsize() == 1, "mapping")
