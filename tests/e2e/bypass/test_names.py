"""Questions for denied names in every dress: none comes out at the DNS server, over UDP or TCP.

The guest may ask for one exact name and one pattern. What it sends here holds other names, with labels that
nobody else uses, so their bytes are known wherever they come out.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.packet import Raw

from ..pair import wire
from ..pair.wire import DNS_PORT, FORMERR, NOERROR, REFUSED, Wire, framed, labels_wire
from .bypass_world import EXACT, ZONE, World

pytestmark = pytest.mark.root

NOTIMP = 4
TEST = [b"example", b"test"]
PUB = [b"pub", *TEST]
IN, CH, NONE, ANY = 1, 3, 254, 255
EDNS_1 = b"\0\0\x29\x04\xd0\0\1\0\0\0\0"

Labels = list[bytes]


def head(ident: int, flags: int = 0x0100, questions: int = 1, extra: int = 0) -> bytes:
    return b"".join(number.to_bytes(2) for number in (ident, flags, questions, 0, 0, extra))


def question(labels: Labels, qtype: int = 1, qclass: int = IN) -> bytes:
    return labels_wire(labels) + qtype.to_bytes(2) + qclass.to_bytes(2)


def codes(client: Wire, transport: str, server: str, message: bytes) -> list[int]:
    """The code of each answer; none where there is silence or an end of the connection."""
    if transport == "udp":
        sport = client.udp(server, message)
        client.fence()
        return [wire.rcode(wire.payload(packet)) for packet in client.answers(sport)]
    with client.connect(server) as connection:
        connection.sendall(framed(message))
        connection.shutdown(socket.SHUT_WR)
        return [wire.rcode(one) for one in all_framed(connection)]


def all_framed(connection: socket.socket) -> Iterator[bytes]:
    stream = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    while len(stream) > 2:
        end = 2 + int.from_bytes(stream[:2])
        yield stream[2:end]
        stream = stream[end:]


# --- names ------------------------------------------------------------------------------------------------

NAMES: dict[str, Callable[[bytes], Labels]] = {
    "a stranger": lambda m: [m, b"evil", b"test"],
    "a stranger in mixed case": lambda m: [m.upper(), b"eViL", b"TeSt"],
    "the allowed name as one label": lambda m: [m + b".pub.example.test"],
    "a dot that joins two labels of the pattern": lambda m: [m + b".pub", *TEST],
    "a dot in the label that the star stands for": lambda m: [m + b".x", *PUB],
    "a dot in the last label": lambda m: [m, b"pub", b"example.test"],
    "a dot at the end of the last label": lambda m: [m, b"pub", b"example", b"test."],
    "two labels for the star": lambda m: [b"a", m, *PUB],
    "the allowed name as a beginning": lambda m: [b"a", *PUB, m],
    "the allowed name as a beginning, then a root inside a label": lambda m: [b"a", *PUB[:-1], b"test\0" + m],
    "a zero octet behind the last label": lambda m: [m, b"pub", b"example", b"test\0"],
    "a zero octet in the label of the star": lambda m: [m + b"\0", *PUB],
    "a space in the label of the star": lambda m: [m + b" ", *PUB],
    "a line end in the label of the star": lambda m: [m + b"\n", *PUB],
    "octets that are no ASCII in the label of the star": lambda m: [m + b"\xff\xfe", *PUB],
    "an escaped dot": lambda m: [m + b"\\.pub", *TEST],
    "an escaped dot in decimal": lambda m: [m + b"\\046pub", *TEST],
    "an escaped dot of the web": lambda m: [m + b"%2epub", *TEST],
    "an ideographic full stop": lambda m: [m + "\u3002pub".encode(), *TEST],
    "a star": lambda m: [b"*", m, b"test"],
    "a star under the pattern": lambda m: [m + b"*", *PUB],
    "a letter that only Unicode folds": lambda m: [b"o\xe2\x84\xaa", *TEST],  # KELVIN SIGN
    "a look-alike in Punycode": lambda m: [b"xn--k-0tb", *TEST],
    "a look-alike in UTF-8": lambda m: ["\u043ek".encode(), *TEST],  # CYRILLIC SMALL LETTER O
    "the allowed name with a letter more": lambda m: [b"ok" + m, *TEST],
    "the allowed name with a label before it": lambda m: [m, b"ok", *TEST],
    "the name above the pattern": lambda m: [b"pub", *TEST],
    "the name above all": lambda m: [b"example", b"test"],
    "the allowed name under the cluster's domain": lambda m: [
        m,
        *PUB,
        b"default",
        b"svc",
        b"cluster",
        b"local",
    ],
    "what another pod may ask": lambda m: [m, b"other", *TEST],
    "an address backwards": lambda m: [m, b"99", b"100", b"51", b"198", b"in-addr", b"arpa"],
    "the longest name": lambda m: [m + b"x" * 40, b"y" * 63, b"z" * 63, b"w" * 63],
}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("dress", NAMES)
def test_a_name_that_no_rule_has_is_refused(world: World, dress: str, transport: str) -> None:
    labels = NAMES[dress](world.marker().encode())
    message = head(world.id16()) + question(labels)
    assert codes(world.guest, transport, world.cluster_ip, message) == [REFUSED]
    world.assert_never_asked(labels_wire(labels))


TYPES = {"NS": 2, "SOA": 6, "NULL": 10, "PTR": 12, "AAAA": 28, "SRV": 33, "OPT": 41, "HTTPS": 65, "TSIG": 250,
         "MAILB": 253, "ANY": 255, "none": 0, "the last": 65_535}  # fmt: skip


@pytest.mark.parametrize("qtype", TYPES)
def test_a_denied_name_is_refused_whatever_is_asked_of_it(world: World, qtype: str) -> None:
    label = world.marker().encode()
    message = head(world.id16()) + question([label, b"evil", b"test"], TYPES[qtype])
    assert codes(world.guest, "udp", world.cluster_ip, message) == [REFUSED]
    world.assert_never_asked(label)


@pytest.mark.parametrize(("what", "qtype", "qclass"), [
    ("a zone transfer", 252, IN), ("an incremental zone transfer", 251, IN), ("class CH", 1, CH),
    ("class ANY", 1, ANY), ("class NONE", 1, NONE), ("class 0", 1, 0),
])  # fmt: skip
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_an_allowed_name_is_refused_where_more_is_asked_than_a_name(
    world: World, what: str, qtype: int, qclass: int, transport: str
) -> None:
    label = world.marker().encode()
    message = head(world.id16()) + question([label, *PUB], qtype, qclass)
    assert codes(world.guest, transport, world.cluster_ip, message) == [REFUSED]
    world.assert_never_asked(label)


NO_QUERIES = {
    "an answer": (0x8180, 1),
    "an inverse query": (0x0900, 1),
    "a status query": (0x1100, 1),
    "a notification": (0x2000, 1),
    "an update": (0x2800, 1),
    "a stateful operation": (0x3000, 1),
    "no question": (0x0100, 0),
    "two questions": (0x0100, 2),
}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("what", NO_QUERIES)
def test_an_allowed_name_comes_out_in_a_query_only(world: World, what: str, transport: str) -> None:
    label = world.marker().encode()
    flags, questions = NO_QUERIES[what]
    message = head(world.id16(), flags, questions) + question([label, *PUB]) * max(questions, 1)
    assert set(codes(world.guest, transport, world.cluster_ip, message)) <= {FORMERR, NOTIMP}
    world.assert_never_asked(label)


# --- messages ---------------------------------------------------------------------------------------------

ALLOWED_LABELS = [b"ok", *TEST]
ALLOWED = question(ALLOWED_LABELS)


def denied(marker: bytes) -> bytes:
    return question([marker, b"evil", b"test"])


def pointed_to_additional(marker: bytes) -> bytes:
    """The question's name is a pointer to a record behind it."""
    record = labels_wire([marker, b"evil", b"test"]) + b"\0\x10\0\1\0\0\0\0\0\0"
    return head(1, extra=1) + b"\xc0\x12\0\1\0\1" + record


def pointed_into_label(marker: bytes) -> bytes:
    """Behind an allowed label the name goes on inside it, where another stands."""
    inner = labels_wire([marker, b"evil", b"test"])
    return head(1) + bytes((len(inner),)) + inner + b"\xc0\x0d\0\1\0\1"


SHAPES: dict[str, Callable[[bytes], bytes]] = {
    "a second question": lambda m: head(1, questions=2) + ALLOWED + denied(m),
    "an allowed question behind it": lambda m: head(1, questions=2) + denied(m) + ALLOWED,
    "a question that is not counted, behind an allowed one": lambda m: head(1) + ALLOWED + denied(m),
    "a question that is not counted": lambda m: head(1, questions=0) + denied(m),
    "256 questions, of which two are there": lambda m: head(1, questions=256) + ALLOWED + denied(m),
    "a whole query behind an allowed one": lambda m: head(1) + ALLOWED + head(2) + denied(m),
    "a framed query behind an allowed one": lambda m: head(1) + ALLOWED + framed(head(2) + denied(m)),
    "a question that points to a record": pointed_to_additional,
    "a question that points into its own label": pointed_into_label,
    "an inverse query": lambda m: head(1, 0x0900) + denied(m),
    "a status query": lambda m: head(1, 0x1100) + denied(m),
    "a notification": lambda m: head(1, 0x2000) + denied(m),
    "an update": lambda m: head(1, 0x2800) + denied(m),
    "a stateful operation": lambda m: head(1, 0x3000) + denied(m),
    "an opcode of nobody's": lambda m: head(1, 0x7900) + denied(m),
    "an answer": lambda m: head(1, 0x8180) + denied(m),
    "an answer of an allowed name, and a question behind it": lambda m: head(1, 0x8180) + ALLOWED + denied(m),
    "TC set": lambda m: head(1, 0x0300) + denied(m),
    "all flags set but QR": lambda m: head(1, 0x07FF) + denied(m),
    "no recursion desired": lambda m: head(1, 0) + denied(m),
    "EDNS version 1": lambda m: head(1, extra=1) + denied(m) + EDNS_1,
    "two OPT records": lambda m: head(1, extra=2) + denied(m) + EDNS_1 + EDNS_1,
    "a signature": lambda m: head(1, extra=1) + denied(m) + b"\0\0\xfa\0\xff" + bytes(6),
    "records that are not there": lambda m: head(1, extra=9) + denied(m),
    "500 octets behind it": lambda m: head(1) + denied(m) + bytes(500),
}  # fmt: skip


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_message_with_a_denied_question_anywhere_comes_out_nowhere(
    world: World, shape: str, transport: str
) -> None:
    label = world.marker().encode()
    answered = codes(world.guest, transport, world.cluster_ip, SHAPES[shape](label))
    assert NOERROR not in answered
    assert set(answered) <= {REFUSED, FORMERR, NOTIMP}
    world.assert_never_asked(label)


# --- streams ----------------------------------------------------------------------------------------------


def streams(ident: int, marker: bytes) -> dict[str, list[bytes]]:
    """Pieces as they are sent, each in a segment of its own."""
    good = head(ident) + ALLOWED
    bad = head(ident ^ 1) + denied(marker)
    both = framed(good) + framed(bad)
    return {
        "an allowed query and a denied one at once": [both],
        "a denied query and an allowed one at once": [framed(bad) + framed(good)],
        "a denied query behind an answered one": [framed(good), framed(bad)],
        "a denied query octet by octet": [bytes((octet,)) for octet in both],
        "a denied query whose length comes with the one before": [
            both[: len(good) + 4],
            both[len(good) + 4 :],
        ],
        "a denied query inside the frame of an allowed one": [framed(good + framed(bad))],
        "a denied query in the rest of a frame that is said to be short": [
            (12).to_bytes(2) + good + framed(bad)
        ],
        "a denied query in the rest of a frame that is said to be long": [
            (600).to_bytes(2) + good + framed(bad)
        ],
        "a denied query behind an empty frame": [b"\0\0" + framed(bad) + framed(good)],
        "a hundred denied queries and an allowed one": [framed(bad) * 100 + framed(good)],
    }


@pytest.mark.parametrize("trick", streams(0, b""))
def test_a_denied_query_in_a_stream_is_not_carried_along(world: World, trick: str) -> None:
    world.server.answers_with(EXACT, "60 A 198.51.100.10")
    label = world.marker().encode()
    with world.guest.connect(world.cluster_ip) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in streams(world.id16(), label)[trick]:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        answered = [wire.rcode(one) for one in all_framed(connection)]
    assert answered.count(NOERROR) <= 1
    world.assert_never_asked(label)


def test_a_pod_that_pipelines_gets_each_name_its_own_verdict(world: World) -> None:
    """The control of the above: the allowed one does come out, and is answered."""
    world.server.answers_with(EXACT, "60 A 198.51.100.10")
    good, bad = head(11) + ALLOWED, head(12) + denied(world.marker().encode())
    with world.guest.connect(world.cluster_ip) as connection:
        connection.sendall(framed(good) + framed(bad))
        got = {wire.ident(one): wire.rcode(one) for one in (wire.read_framed(connection) for _ in range(2))}
    assert got == {11: NOERROR, 12: REFUSED}
    assert world.server.was_asked(ALLOWED)


def test_the_largest_query_octet_by_octet_is_one_query_and_others_are_served_meanwhile(world: World) -> None:
    """65,535 octets of which 65,500 are padding (RFC 7830), in as many pieces as the guest can make of it."""
    world.server.answers_with(EXACT, "60 A 198.51.100.10")
    padding = b"\xfd\xe9" + (wire_max := 65_535 - 12 - len(ALLOWED) - 11 - 4).to_bytes(2) + bytes(wire_max)
    message = head(7, extra=1) + ALLOWED + b"\0\0\x29\x04\xd0\0\0\0\0" + len(padding).to_bytes(2) + padding
    assert len(message) == 65_535
    with world.guest.connect(world.cluster_ip) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = framed(message)
        for start in range(4_000):
            connection.send(stream[start : start + 1])
        assert wire.rcode(world.ask(f"a.{world.marker()}.test", client=world.other)) == REFUSED
        for start in range(4_000, len(stream)):
            connection.send(stream[start : start + 1])
        assert wire.rcode(wire.read_framed(connection)) == NOERROR
    (asked,) = [one for one in world.server.asked if len(one.message) == len(message)]
    assert asked.message[2:] == message[2:]


# --- pieces -----------------------------------------------------------------------------------------------


def test_a_denied_query_in_fragments_in_any_order_comes_out_nowhere(world: World) -> None:
    for order in (1, -1):
        label = world.marker().encode()
        datagram = UDP(sport=world.guest.udp_port(), dport=DNS_PORT) / Raw(head(world.id16()) + denied(label))
        whole = IP(src=world.guest.address, dst=world.dns_address, id=world.id16()) / datagram
        for part in fragment(whole, fragsize=8)[::order]:
            world.guest.send(part)
        world.guest.fence()
        assert not world.server.was_asked(label)
        assert wire.seen(world.dns, wire.from_(world.guest.address)) == []


@pytest.mark.parametrize("first", ["the allowed one", "the denied one"])
def test_fragments_that_overlap_cannot_put_a_denied_name_over_an_allowed_one(
    world: World, first: str
) -> None:
    """Both names are as long, so the second fragment of either message fits behind the first of the other."""
    label = world.marker().encode()
    good = [label, *PUB]
    bad = [label, b"bad", *TEST]
    datagrams = []
    ident = world.id16()
    sport = world.guest.udp_port()
    for labels in (good, bad):
        datagram = UDP(sport=sport, dport=DNS_PORT) / Raw(head(9) + question(labels))
        whole = IP(src=world.guest.address, dst=world.dns_address, id=ident) / datagram
        datagrams.append(fragment(IP(bytes(whole)), fragsize=16))
    allowed, forbidden = datagrams
    one, two = (allowed, forbidden) if first == "the allowed one" else (forbidden, allowed)
    for part in (*one[:-1], *two[1:-1], one[-1]):
        world.guest.send(part)
    world.guest.fence()
    assert not world.server.was_asked(labels_wire(bad))
    assert wire.seen(world.dns, wire.from_(world.guest.address)) == []


def test_a_query_in_a_syn_is_not_carried_past_the_resolver(world: World) -> None:
    label = world.marker().encode()
    stream = framed(head(world.id16()) + denied(label))
    for sport in (world.rng.randrange(20_000, 60_000), DNS_PORT):
        syn = TCP(sport=sport, dport=DNS_PORT, flags="S", seq=world.rng.getrandbits(32)) / Raw(stream)
        world.guest.send(IP(src=world.guest.address, dst=world.dns_address) / syn)
    world.assert_never_asked(label)


@pytest.mark.parametrize("sport", [DNS_PORT, 5353, 1, 65_535])
def test_a_denied_query_is_refused_from_whatever_port(world: World, sport: int) -> None:
    label = world.marker().encode()
    message = head(world.id16()) + denied(label)
    answer = world.guest.ask(world.cluster_ip, message, sport=world.guest.udp_port(sport))
    assert wire.rcode(answer) == REFUSED
    world.assert_never_asked(label)


# --- and so they would come out ---------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_same_names_come_out_of_a_pod_without_policy(world: World, transport: str) -> None:
    """The probes of this file are good: without a policy the server sees them."""
    for dress in (
        "a stranger",
        "a dot that joins two labels of the pattern",
        "a space in the label of the star",
    ):
        labels = NAMES[dress](world.marker().encode())
        message = head(world.id16()) + question(labels)
        assert codes(world.free, transport, world.cluster_ip, message)
        assert world.server.was_asked(labels_wire(labels))


@pytest.mark.parametrize("shape", ["a second question", "an update", "an answer", "a signature"])
def test_the_same_messages_come_out_of_a_pod_without_policy(world: World, shape: str) -> None:
    label = world.marker().encode()
    codes(world.free, "udp", world.cluster_ip, SHAPES[shape](label))
    wire.until(lambda: world.server.was_asked(label), "it comes out")


def test_an_allowed_name_is_asked_for_and_answered(world: World) -> None:
    name = f"{world.marker()}.{ZONE}"
    world.server.answers_with(name, "60 A 198.51.100.10")
    assert wire.addresses(world.ask(name)) == ["198.51.100.10"]
