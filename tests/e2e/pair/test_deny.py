"""Deny: what no rule allows reaches nobody, neither as a question nor as a connection.

Each refused question carries a label that nobody else has used, and each SYN a random sequence number. So
their bytes would be known in any packet, and they are looked for at the DNS pod and at the Internet, behind a
round trip that was begun after them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest
from scapy.layers.dns import DNS
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.packet import Raw

from lab.runtime.handles import Inside
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from . import wire
from .wire import Stage, Wire

pytestmark = pytest.mark.root

SERVERS = ["cluster_ip", "dns_address"]
ALLOWED = "api.example.com"
QTYPES = {"A": 1, "AAAA": 28, "TXT": 16, "HTTPS": 65, "ANY": 255, "one that nobody knows": 65_280}
RESOLVER_PORT = 10053
NOTIMP = 4


@pytest.fixture
def stage(quickstart: Lab) -> Iterator[Stage]:
    with wire.stage(quickstart) as made:
        yield made


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_name_outside_the_rules_is_refused_and_never_asked_for(
    stage: Stage, transport: str, server: str
) -> None:
    label = wire.fresh_label(stage.rng)
    for qtype in QTYPES.values():
        name = wire.mixed_case(f"{label}.example.org", stage.rng)
        message = wire.query(name, qtype, ident=stage.id16())
        assert_refused(stage.frontend.ask_over(transport, getattr(stage, server), message), message)
    assert_never_asked(stage, label)


@pytest.mark.parametrize(
    "name",
    [
        "{}.api.example.com",
        "{}api.example.com",
        "{}.com",
        "api.example.com.{}",
        "api.example.com.{}.example.org",
        "api.example.{}",
        "api{}.example.com",
        "api.{}example.com",
        "*.{}.example.com",
        "{}.storage.example.net",  # batch may ask this
    ],
)
def test_a_name_that_only_resembles_an_allowed_one_is_refused(stage: Stage, name: str) -> None:
    label = wire.fresh_label(stage.rng)
    message = wire.query(name.format(label), ident=stage.id16())
    assert_refused(stage.frontend.ask(stage.cluster_ip, message), message)
    assert_never_asked(stage, label)


@pytest.mark.parametrize("labels", [[], [b"com"], [b"example", b"com"], [b"api"], [b"api", b"example"]])
def test_a_part_of_an_allowed_name_is_refused(stage: Stage, labels: list[bytes]) -> None:
    message = wire.query(labels, ident=stage.id16())
    assert_refused(stage.frontend.ask(stage.cluster_ip, message), message)
    stage.frontend.fence()
    question = wire.question_of(message)
    asked = [wire.payload(packet) for packet in wire.seen(stage.dns_pod, wire.is_udp_to(53))]
    assert [message for message in asked if wire.question_of(message) == question] == []


@pytest.mark.parametrize(
    "labels",
    [
        [b"api.example.com"],
        [b"api.example", b"com"],
        [b"api", b"example.com"],
        [b"api", b"example", b"com."],
        [b"api", b"example", b"com\0"],
        [b"api\\", b"example", b"com"],
    ],
)
def test_a_dot_inside_a_label_is_not_taken_for_the_end_of_one(stage: Stage, labels: list[bytes]) -> None:
    message = wire.query(labels, ident=stage.id16())
    assert_refused(stage.frontend.ask(stage.cluster_ip, message), message)
    stage.frontend.fence()
    assert wire.seen(stage.dns_pod, wire.holding(wire.labels_wire(labels))) == []


def test_a_pattern_matches_one_whole_label_only(stage: Stage) -> None:
    label = wire.fresh_label(stage.rng)
    own = label.encode()
    for labels in (
        [own, b"a", b"storage", b"example", b"net"],
        [own + b".a", b"storage", b"example", b"net"],
        [own, b"storage.example", b"net"],
        [own + b".storage", b"example", b"net"],
    ):
        message = wire.query(labels, ident=stage.id16())
        assert_refused(stage.batch.ask(stage.cluster_ip, message), message)
    assert_never_asked(stage, label)


def test_an_allowed_name_is_seen_where_denied_ones_are_looked_for(stage: Stage) -> None:
    """The other tests' way of looking does find what is there."""
    label = wire.fresh_label(stage.rng)
    name = wire.mixed_case(f"{label}.storage.example.net", stage.rng)
    stage.batch.ask(stage.cluster_ip, wire.query(name, ident=stage.id16()))
    assert wire.seen(stage.dns_pod, wire.holding(label))
    assert wire.seen(stage.internet, wire.holding(label))
    assert is_in_query_log(stage, label)


def test_a_denied_query_in_ip_fragments_reaches_nobody(stage: Stage) -> None:
    frontend, label, sport = stage.frontend, wire.fresh_label(stage.rng), stage.frontend.udp_port()
    message = wire.query(f"{label}.example.org", ident=stage.id16())
    header = IP(src=frontend.address, dst=stage.dns_address, id=stage.id16())
    for part in fragment(header / UDP(sport=sport, dport=53) / Raw(message), fragsize=8):
        frontend.send(part)
    assert_refused(wire.payload(frontend.answer(sport)), message)
    assert_never_asked(stage, label)
    assert wire.seen(stage.dns_pod, wire.from_(frontend.address)) == []


# --- addresses --------------------------------------------------------------------------------------------


def new_name(stage: Stage, parent: str) -> tuple[str, str, dict[str, InternetName]]:
    """A name and its address, of which nobody has heard, and its record."""
    name, address = f"{wire.fresh_label(stage.rng)}.{parent}", wire.fresh_address(stage.rng)
    return name, address, {name: InternetName(a=(IPv4Address(address),))}


def test_an_address_that_was_never_learned_is_closed(stage: Stage) -> None:
    _, address, records = new_name(stage, "storage.example.net")
    with wire.more_names(stage.lab, records):
        sequence = stage.batch.syn(address, 443)
        assert_stays_in_the_pod(stage, stage.batch, sequence)
        # Somebody is there, and silence is what the pod gets from it.
        wire.wait_for(stage.internet, wire.is_syn(stage.legacy.syn(address, 443)))
        assert wire.seen(stage.batch.tap, wire.from_(address)) == []


@pytest.mark.parametrize("qtype", ["A", "AAAA"])
def test_a_refused_question_opens_nothing(stage: Stage, qtype: str) -> None:
    name, address, records = new_name(stage, "example.org")
    with wire.more_names(stage.lab, records):
        message = wire.query(name, qtype, ident=stage.id16())
        assert_refused(stage.frontend.ask(stage.cluster_ip, message), message)
        assert_stays_in_the_pod(stage, stage.frontend, stage.frontend.syn(address, 443))


def test_an_address_learned_by_one_pod_is_closed_for_another_whose_policy_does_not_have_the_name(
    stage: Stage,
) -> None:
    stage.frontend.ask(stage.cluster_ip, wire.query(ALLOWED, ident=stage.id16()))
    name, address, records = new_name(stage, "storage.example.net")
    with wire.more_names(stage.lab, records):
        stage.batch.ask(stage.cluster_ip, wire.query(name, ident=stage.id16()))
        theirs = {stage.frontend: "198.51.100.10", stage.batch: address}
        for client, open_address in theirs.items():
            wire.wait_for(stage.internet, wire.is_syn(client.syn(open_address, 443)))
        assert_stays_in_the_pod(stage, stage.batch, stage.batch.syn("198.51.100.10", 443))
        assert_stays_in_the_pod(stage, stage.frontend, stage.frontend.syn(address, 443))


def test_an_address_that_another_pod_looked_up_without_policy_is_closed(stage: Stage) -> None:
    name, address, records = new_name(stage, "storage.example.net")
    with wire.more_names(stage.lab, records):
        stage.legacy.ask(stage.cluster_ip, wire.query(name, ident=stage.id16()))
        assert_stays_in_the_pod(stage, stage.batch, stage.batch.syn(address, 443))


# --- false senders ----------------------------------------------------------------------------------------


@pytest.fixture
def without_reverse_path_filter(quickstart: Lab) -> Iterator[None]:
    """The kernel's own check of sources is off, as Cilium has it on a node: what is left is ours."""
    node = quickstart.node("node1")
    listed = node.run(["sh", "-c", "grep . /proc/sys/net/ipv4/conf/*/rp_filter"]).stdout.split()
    before = dict(line.split(":") for line in listed)
    write_files(node, dict.fromkeys(before, "0"))
    try:
        yield
    finally:
        write_files(node, before)


def write_files(place: Inside, contents: dict[str, str]) -> None:
    script = "; ".join(f"echo {value} > {path}" for path, value in contents.items())
    assert place.run(["sh", "-c", script]).returncode == 0


WHO: dict[str, Callable[[Stage], str]] = {
    "a pod that may": lambda stage: stage.batch.address,
    "a pod without policy": lambda stage: stage.legacy.address,
    "the DNS pod": lambda stage: stage.dns_address,
    "the DNS Service": lambda stage: stage.cluster_ip,
    "the node": lambda stage: str(stage.lab.addressing.nodes[0].address),
    "the gateway": lambda stage: str(stage.lab.addressing.nodes[0].pod_gateway),
    "a stranger": lambda stage: "192.0.2.77",
    "loopback": lambda stage: "127.0.0.1",
}


@pytest.mark.usefixtures("without_reverse_path_filter")
@pytest.mark.parametrize("claimed", WHO)
def test_packets_under_a_false_source_address_get_nowhere(stage: Stage, claimed: str) -> None:
    name, address, records = new_name(stage, "storage.example.net")
    with wire.more_names(stage.lab, records):
        stage.batch.ask(stage.cluster_ip, wire.query(name, ident=stage.id16()))
        wire.wait_for(stage.internet, wire.is_syn(stage.batch.syn(address, 443)))

        source = WHO[claimed](stage)
        marker = wire.fresh_label(stage.rng)
        message = wire.query(f"{marker}.storage.example.net", ident=stage.id16())
        datagram = UDP(sport=stage.batch.udp_port(), dport=53) / Raw(message)
        for server in (stage.cluster_ip, stage.dns_address):
            stage.frontend.send(IP(src=source, dst=server) / datagram)
            stage.frontend.syn(server, 53, source=source)
        sequence = stage.frontend.syn(address, 443, source=source)
        assert_stays_in_the_pod(stage, stage.frontend, sequence)
        assert_never_asked(stage, marker)
        assert wire.seen(stage.batch.tap, wire.holding(marker)) == []


@pytest.mark.usefixtures("without_reverse_path_filter")
@pytest.mark.parametrize("claimed", ["a pod that may", "the DNS pod"])
def test_a_pod_without_policy_cannot_pass_for_another_either(stage: Stage, claimed: str) -> None:
    source, marker = WHO[claimed](stage), wire.fresh_label(stage.rng)
    message = wire.query(f"{marker}.storage.example.net", ident=stage.id16())
    stage.legacy.send(IP(src=source, dst=stage.cluster_ip) / UDP(sport=5000, dport=53) / Raw(message))
    assert_stays_in_the_pod(stage, stage.legacy, stage.legacy.syn("198.51.100.99", 443, source=source))
    assert_never_asked(stage, marker)


# --- the resolver's own port ------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["frontend", "legacy"])
@pytest.mark.parametrize("place", ["the node", "the gateway", "loopback"])
def test_the_resolvers_own_port_is_closed_to_pods(stage: Stage, client: str, place: str) -> None:
    asker: Wire = getattr(stage, client)
    address = WHO[place](stage)
    message = wire.query(ALLOWED, ident=stage.id16())
    sport = asker.udp(address, message, dport=RESOLVER_PORT)
    sequence = asker.syn(address, RESOLVER_PORT)
    asker.fence()
    assert wire.seen(asker.tap, wire.is_answer_to_syn(sequence)) == []
    assert asker.answers(sport) == []
    assert wire.seen(asker.tap, wire.from_(address)) == []


# --- what is no query -------------------------------------------------------------------------------------


def malformed() -> dict[str, bytes]:
    """Messages that cannot be read as one question."""
    good = wire.query(ALLOWED, ident=0xFFFF)
    header, question = good[: wire.QUESTION], wire.question_of(good)
    asks_none, asks_two = (header[:4] + count.to_bytes(2) + header[6:] for count in (0, 2))
    return {
        "nothing": b"",
        "one octet": good[:1],
        "half a header": good[:7],
        "a header alone": header,
        "a question cut off": good[:-3],
        "a name cut off": good[:18],
        "no question": asks_none,
        "a question uncounted": asks_none + question,
        "two questions, one there": asks_two + question,
        "two questions": asks_two + question + question,
        "a label of 64": header + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        "a reserved label type": header + b"\x80api\0\0\1\0\1",
        "a name of 300 octets": header + (b"\x3b" + b"a" * 59) * 5 + b"\0\0\1\0\1",
        "a name without end": header + b"\1a" * 200,
        "a pointer to itself": header + b"\xc0\x0c\0\1\0\1",
        "pointers in a ring": header + b"\xc0\x0e\xc0\x0c\0\1\0\1",
        "a pointer forwards": header + b"\xc0\x12\0\1\0\1" + b"\3api\7example\3com\0",
        "a pointer into the header": header + b"\xc0\x00\0\1\0\1",
        "a pointer past the end": header + b"\xff\xff\0\1\0\1",
        "more records than there are": header[:6] + b"\xff" * 6 + question,
    }


def no_queries() -> dict[str, bytes]:
    """Messages that ask nothing of a resolver, by their flags."""
    good = wire.query(ALLOWED, ident=0xFFFF)
    flags = {"an answer": 0x8180, "an inverse query": 0x0900, "a notification": 0x2100, "an update": 0x2900}
    return {name: good[:2] + value.to_bytes(2) + good[4:] for name, value in flags.items()}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_malformed_messages_are_dropped_or_called_so(stage: Stage, transport: str) -> None:
    with unharmed(stage):
        codes = replies(stage, transport, malformed())
    assert {name: found for name, found in codes.items() if found not in ([], [wire.FORMERR])} == {}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_messages_that_are_no_queries_are_dropped_or_called_so(stage: Stage, transport: str) -> None:
    with unharmed(stage):
        codes = replies(stage, transport, no_queries())
    assert codes.pop("an answer") == []  # or two resolvers could talk for ever
    assert {name: found for name, found in codes.items() if found not in ([], [NOTIMP])} == {}


def test_broken_framing_is_answered_by_closing(stage: Stage) -> None:
    good = wire.framed(wire.query(ALLOWED, ident=stage.id16()))
    with unharmed(stage):
        for stream in (b"", b"\0", b"\0\0" * 100, good[:-1], b"\xff\xff" + good, b"GET / HTTP/1.1\r\n\r\n"):
            assert replies_on_tcp(stage, stream) == b""


def test_octets_at_random_do_no_harm(stage: Stage) -> None:
    good = wire.query(ALLOWED, ident=stage.id16())
    sport = stage.frontend.udp_port()
    with living(stage):
        for _ in range(300):
            stage.frontend.udp(stage.cluster_ip, noise(stage, good), sport=sport)


def noise(stage: Stage, good: bytes) -> bytes:
    """A query with some octets changed, or nothing that ever was one."""
    rng = stage.rng
    changed = bytearray(good if rng.random() < 0.7 else rng.randbytes(rng.randrange(1, 200)))
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


@contextmanager
def living(stage: Stage) -> Iterator[None]:
    """The resolver lives through what is done in the block, and answers."""
    resolver = stage.lab.node("node1").resolver
    before = (resolver.pid, resolver.restarts)
    yield
    stage.frontend.fence()
    assert wire.addresses(stage.frontend.ask(stage.cluster_ip, wire.query(ALLOWED, ident=stage.id16())))
    assert (resolver.pid, resolver.restarts) == before


@contextmanager
def unharmed(stage: Stage) -> Iterator[None]:
    """As `living`, and nothing that is done in the block reaches the DNS server."""
    with living(stage):
        yield
        stage.frontend.fence()
        to_server = wire.seen(stage.dns_pod, wire.to_(stage.dns_address))
        assert [packet for packet in to_server if UDP in packet or packet[TCP].flags.S] == []


def replies(stage: Stage, transport: str, messages: dict[str, bytes]) -> dict[str, list[int]]:
    """The codes of all answers to each message, sent from a port or on a connection of its own."""
    if transport == "tcp":
        streams = {name: replies_on_tcp(stage, wire.framed(message)) for name, message in messages.items()}
        return {name: [wire.rcode(stream[2:])] if stream else [] for name, stream in streams.items()}
    sports = {name: stage.frontend.udp(stage.cluster_ip, message) for name, message in messages.items()}
    stage.frontend.fence()
    found = {name: stage.frontend.answers(sport) for name, sport in sports.items()}
    return {name: [wire.rcode(wire.payload(packet)) for packet in packets] for name, packets in found.items()}


def replies_on_tcp(stage: Stage, stream: bytes) -> bytes:
    """All that comes back for these octets on a connection whose sending half is then closed."""
    received = b""
    with stage.frontend.connect(stage.cluster_ip) as connection:
        connection.sendall(stream)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(4096):
            received += part
    return received


# --- words ------------------------------------------------------------------------------------------------


def assert_refused(answer: bytes, asked: bytes) -> None:
    """REFUSED with the asker's ID, RD bit and question, letter for letter, and nothing else."""
    head = DNS(answer[: wire.QUESTION])
    assert (head.id, head.qr, head.opcode, head.tc, head.rd, head.rcode) == (
        wire.ident(asked),
        1,
        0,
        0,
        1,
        wire.REFUSED,
    )
    assert (head.qdcount, head.ancount, head.nscount, head.arcount) == (1, 0, 0, 0)
    assert answer[wire.QUESTION :] == wire.question_of(asked)


def assert_never_asked(stage: Stage, label: str) -> None:
    """Nobody upstream has seen this label."""
    for client in (stage.frontend, stage.batch):
        client.fence()
    for tap in (stage.dns_pod, stage.internet):
        assert wire.seen(tap, wire.holding(label)) == []
    assert not is_in_query_log(stage, label)


def is_in_query_log(stage: Stage, label: str) -> bool:
    return any(label in entry["name"].lower() for entry in stage.lab.internet.queries())


def assert_stays_in_the_pod(stage: Stage, client: Wire, sequence: int) -> None:
    """That SYN has left the pod and arrived nowhere."""
    client.fence()
    assert wire.seen(client.tap, wire.is_syn(sequence))
    for tap in (stage.internet, stage.dns_pod):
        assert wire.seen(tap, wire.is_syn(sequence)) == []
