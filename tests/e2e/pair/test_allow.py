"""Allow: an allowed name is answered as if nobody stood between, and what was answered opens, no more.

The answer must come from the server that was asked to the port that asked, with the asker's ID and question,
letter for letter; else real clients throw it away. Then the learned addresses open on the policy's port: read
at the Internet's side, where a SYN is known by its sequence number whatever masquerade does to its address.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRROPT, EDNS0TLV
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.packet import Raw

from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from . import wire
from .wire import Stage

pytestmark = pytest.mark.root

SERVERS = ["cluster_ip", "dns_address"]
API = "api.example.com"
NAMES = {
    API: {"198.51.100.10", "198.51.100.11", "198.51.100.12"},
    "www.example.com": {"198.51.100.20"},  # by a chain of CNAMEs
    "shared.example.com": {"198.51.100.30"},
}
ODD_IDS = (0, 1, 0x7FFF, 0x8000, 0xFFFF)
ODD_PORTS = (1, 53, 10053, 65535)


@pytest.fixture
def stage(quickstart: Lab) -> Iterator[Stage]:
    with wire.stage(quickstart) as made:
        yield made


# --- the answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_comes_from_the_server_asked_to_the_port_that_asked(
    stage: Stage, name: str, server: str
) -> None:
    frontend, address = stage.frontend, getattr(stage, server)
    message = wire.query(wire.mixed_case(name, stage.rng), ident=stage.id16())
    sport = frontend.udp(address, message)
    frontend.answer(sport)
    frontend.fence()
    (packet,) = frontend.answers(sport)
    assert (packet[IP].src, packet[UDP].sport) == (address, 53)
    assert_answers(wire.payload(packet), message)
    assert set(wire.addresses(wire.payload(packet))) == NAMES[name]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_tcp_query_is_answered_on_its_connection(stage: Stage, name: str, server: str) -> None:
    message = wire.query(wire.mixed_case(name, stage.rng), ident=stage.id16())
    (answer,) = stage.frontend.ask_tcp(getattr(stage, server), message)
    assert_answers(answer, message)
    assert set(wire.addresses(answer)) == NAMES[name]


def test_odd_ids_and_odd_source_ports_are_as_good_as_others(stage: Stage) -> None:
    frontend = stage.frontend
    for ident, sport in zip(ODD_IDS, (*ODD_PORTS, 0), strict=True):
        message = wire.query(wire.mixed_case(API, stage.rng), ident=ident)
        sport = frontend.udp_port(sport)
        assert_answers(frontend.ask(stage.cluster_ip, message, sport=sport), message)


def test_an_answer_is_passed_on_byte_for_byte_but_for_its_id(stage: Stage) -> None:
    cookie = EDNS0TLV(optcode=10, optdata=stage.rng.randbytes(8))
    qname = wire.mixed_case("www.example.com", stage.rng)
    asked = DNS(id=stage.id16(), rd=1, qd=DNSQR(qname=qname), ar=DNSRROPT(rclass=1400, rdata=[cookie]))
    answer = stage.frontend.ask(stage.cluster_ip, bytes(asked))
    (given,) = wire.seen(stage.dns_pod, wire.to_(*stage.node_addresses))
    assert answer[2:] == wire.payload(given)[2:]
    assert wire.ident(answer) == asked.id


def test_queries_with_the_same_id_from_different_ports_each_get_their_own_answer(stage: Stage) -> None:
    frontend, ident = stage.frontend, stage.id16()
    names = stage.rng.choices(list(NAMES), k=12)
    asked = [
        (name, message, frontend.udp(stage.cluster_ip, message))
        for name in names
        for message in [wire.query(name, ident=ident)]
    ]
    for name, message, sport in asked:
        answer = wire.payload(frontend.answer(sport))
        assert_answers(answer, message)
        assert set(wire.addresses(answer)) == NAMES[name]
    assert [len(frontend.answers(sport)) for _, _, sport in asked] == [1] * len(asked)


def test_queries_from_one_port_with_different_ids_each_get_their_own_answer(stage: Stage) -> None:
    frontend, sport = stage.frontend, stage.frontend.udp_port()
    messages = {
        ident: wire.query(stage.rng.choice(list(NAMES)), ident=ident)
        for ident in stage.rng.sample(range(1 << 16), 12)
    }
    for message in messages.values():
        frontend.udp(stage.cluster_ip, message, sport=sport)
    wire.until(lambda: len(frontend.answers(sport)) >= len(messages), "all are answered")
    answers = [wire.payload(packet) for packet in frontend.answers(sport)]
    assert sorted(map(wire.ident, answers)) == sorted(messages)
    for answer in answers:
        assert_answers(answer, messages[wire.ident(answer)])


def test_queries_pipelined_on_one_connection_each_get_their_own_answer(stage: Stage) -> None:
    messages = {
        ident: wire.query(wire.mixed_case(stage.rng.choice(list(NAMES)), stage.rng), ident=ident)
        for ident in stage.rng.sample(range(1 << 16), 12)
    }
    with stage.frontend.connect(stage.cluster_ip) as connection:
        connection.sendall(b"".join(map(wire.framed, messages.values())))
        answers = {wire.ident(answer): answer for answer in (wire.read_framed(connection) for _ in messages)}
    assert set(answers) == set(messages)  # RFC 7766: in any order
    for ident, message in messages.items():
        assert_answers(answers[ident], message)


def test_a_tcp_query_may_come_octet_by_octet(stage: Stage) -> None:
    message = wire.query(API, ident=stage.id16())
    with stage.frontend.connect(stage.cluster_ip) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in wire.framed(message):
            connection.sendall(bytes([octet]))
        assert_answers(wire.read_framed(connection), message)


def test_a_query_in_ip_fragments_is_answered(stage: Stage) -> None:
    frontend, sport = stage.frontend, stage.frontend.udp_port()
    message = wire.query(wire.mixed_case(API, stage.rng), ident=stage.id16())
    whole = (
        IP(src=frontend.address, dst=stage.cluster_ip, id=stage.id16())
        / UDP(sport=sport, dport=53)
        / Raw(message)
    )
    for part in fragment(whole, fragsize=16):
        frontend.send(part)
    assert_answers(wire.payload(frontend.answer(sport)), message)


# --- what it opens ----------------------------------------------------------------------------------------


@pytest.fixture
def new_name(stage: Stage) -> Iterator[tuple[str, list[str]]]:
    """A name that `batch` may ask, and its addresses, of which nobody has heard."""
    name = f"{wire.fresh_label(stage.rng)}.storage.example.net"
    addresses = [wire.fresh_address(stage.rng) for _ in range(3)]
    records = InternetName(a=tuple(map(IPv4Address, addresses)))
    with wire.more_names(stage.lab, {name: records}):
        yield name, addresses


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_connections_to_the_addresses_of_an_answer_pass_on_the_port_allowed(
    stage: Stage, new_name: tuple[str, list[str]], transport: str
) -> None:
    learn(stage, new_name, transport)
    for address in new_name[1]:
        sequence = stage.batch.syn(address, 443)
        wire.wait_for(stage.internet, wire.is_syn(sequence))
        assert wire.wait_for(stage.batch.tap, wire.is_answer_to_syn(sequence))[TCP].flags == "SA"


def test_connections_to_the_addresses_of_an_answer_do_not_pass_on_other_ports(
    stage: Stage, new_name: tuple[str, list[str]]
) -> None:
    learn(stage, new_name)
    address = new_name[1][0]
    ports = (80, 442, 444, 53, 22, stage.rng.randrange(1024, 65536))
    denied = [stage.batch.syn(address, port) for port in ports]
    wire.wait_for(stage.internet, wire.is_syn(stage.batch.syn(address, 443)))
    stage.batch.fence()
    for sequence in denied:
        assert wire.seen(stage.batch.tap, wire.is_syn(sequence))
        assert wire.seen(stage.internet, wire.is_syn(sequence)) == []
    assert not [
        packet for packet in wire.seen(stage.batch.tap, wire.from_(address)) if packet[TCP].sport != 443
    ]


def test_a_learned_address_is_open_for_the_protocol_of_the_policy_only(
    stage: Stage, new_name: tuple[str, list[str]]
) -> None:
    learn(stage, new_name)
    address, label = new_name[1][0], wire.fresh_label(stage.rng)
    stage.batch.udp(address, label.encode(), dport=443)
    wire.wait_for(stage.internet, wire.is_syn(stage.batch.syn(address, 443)))
    stage.batch.fence()
    assert wire.seen(stage.internet, wire.holding(label)) == []


def test_an_answer_opens_nothing_before_it_was_asked_for(
    stage: Stage, new_name: tuple[str, list[str]]
) -> None:
    address = new_name[1][0]
    early = stage.batch.syn(address, 443)
    stage.batch.fence()
    learn(stage, new_name)
    wire.wait_for(stage.internet, wire.is_syn(stage.batch.syn(address, 443)))
    assert wire.seen(stage.internet, wire.is_syn(early)) == []


def learn(stage: Stage, new_name: tuple[str, list[str]], transport: str = "udp") -> None:
    """`batch` asks for the name."""
    name, addresses = new_name
    message = wire.query(wire.mixed_case(name, stage.rng), ident=stage.id16())
    answer = stage.batch.ask_over(transport, stage.cluster_ip, message)
    assert sorted(wire.addresses(answer)) == sorted(addresses)


def assert_answers(answer: bytes, asked: bytes) -> None:
    """NOERROR with the asker's ID and the asker's question, letter for letter."""
    assert wire.ident(answer) == wire.ident(asked)
    assert answer[2] & 0x80
    assert wire.rcode(answer) == wire.NOERROR
    question = wire.question_of(asked)
    assert answer[wire.QUESTION : wire.QUESTION + len(question)] == question
