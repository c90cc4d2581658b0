"""EDNS passes both ways as it is, and an answer is never larger than the pod said it can take.

Larger than one packet of the cable's, an answer comes in fragments, whole.
"""

from __future__ import annotations

import socket

import dns.edns
import dns.flags
import dns.message
import pytest
from scapy.layers.inet import IP
from scapy.packet import Packet

from acns.dns import message

from ..bypass.scripted import Asked, answer
from ..pair import wire
from .scene import Scene

pytestmark = pytest.mark.root

FILL = 65_280
"""A type that nobody knows: its one record makes an answer as large as a test wants it."""
OPTIONS = {
    "client-subnet": dns.edns.ECSOption("192.0.2.0", 24),
    "client cookie": dns.edns.GenericOption(10, b"\1\2\3\4\5\6\7\x08"),
    "cookies of both": dns.edns.GenericOption(10, bytes(range(24))),
    "server id": dns.edns.GenericOption(3, b""),
    "padding": dns.edns.GenericOption(12, b"\0" * 100),
    "extended error": dns.edns.GenericOption(15, b"\0\x0fwhy"),
    "nobody's": dns.edns.GenericOption(65_001, b"\xff\0\xff"),
}
FLAGS = {
    "none": 0,
    "DO": 0x8000,
    "DO and all that mean nothing yet": 0xFFFF,
}


def question(scene: Scene, name: str, **edns: object) -> bytes:
    made = dns.message.make_query(name, FILL, **edns)  # type: ignore[arg-type]
    made.flags |= dns.flags.AD | dns.flags.CD
    made.id = scene.id16()
    return made.to_wire()


def is_fragment(packet: Packet) -> bool:
    return IP in packet and bool(packet[IP].flags.MF or packet[IP].frag)


def ask(scene: Scene, query: bytes) -> bytes:
    """By a socket of the pod's own, whose kernel puts fragments together."""
    with scene.asker.pod.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(wire.DEADLINE_S)
        client.sendto(query, (scene.cluster_ip, wire.DNS_PORT))
        return client.recv(65_535)


def sized(name: str, asked: bytes, size: int) -> bytes:
    """An answer of exactly so many octets, with an OPT where the question has one."""
    empty = answer(asked, f"{name} 60 TYPE{FILL} \\# 0")
    octets = size - len(empty)
    return answer(asked, f"{name} 60 TYPE{FILL} \\# {octets} {'5a' * octets}")


def script_sized(scene: Scene, name: str, size: int) -> list[bytes]:
    """The server's answers to the name are so large, over either transport; what it has said is kept."""
    said: list[bytes] = []

    def script(asked: Asked) -> None:
        said.append(sized(name, asked.message, size))
        asked.answer(said[-1])

    scene.server.script(name, script)
    return said


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("what", OPTIONS)
def test_an_option_passes_to_the_server_and_another_comes_back_to_the_byte(
    scene: Scene, what: str, transport: str
) -> None:
    name, said = scene.name(), []

    def script(asked: Asked) -> None:
        made = dns.message.make_response(dns.message.from_wire(asked.message))
        made.use_edns(0, 0x8000, 1400, options=[OPTIONS[what], dns.edns.GenericOption(65_002, b"back")])
        made.flags |= dns.flags.AD
        said.append(made.to_wire())
        asked.answer(said[-1])

    scene.server.script(name, script)
    asked = question(scene, name, use_edns=0, payload=1232, options=[OPTIONS[what]])
    got = scene.asker.ask_over(transport, scene.cluster_ip, asked)
    (arrived,) = scene.server.asked
    assert arrived.message[2:] == asked[2:]
    assert got == asked[:2] + said[0][2:]


@pytest.mark.parametrize("payload", [0, 511, 512, 1232, 4096, 65_535])
@pytest.mark.parametrize("flags", FLAGS)
def test_the_size_and_the_flags_of_a_pods_edns_pass_to_the_server(
    scene: Scene, payload: int, flags: str
) -> None:
    name = scene.name()
    asked = question(scene, name, use_edns=0, ednsflags=FLAGS[flags], payload=payload)
    scene.asker.ask(scene.cluster_ip, asked)
    (arrived,) = scene.server.asked
    assert arrived.message[2:] == asked[2:]


def test_a_version_of_edns_that_is_not_known_is_the_servers_business(scene: Scene) -> None:
    """BADVERS is for whoever does not know it, and that is not us."""
    asked = question(scene, scene.name(), use_edns=7, payload=1232)
    scene.asker.ask(scene.cluster_ip, asked)
    (arrived,) = scene.server.asked
    assert arrived.message[2:] == asked[2:]


LIMITS = {None: 512, 0: 512, 511: 512, 512: 512, 1232: 1232, 1452: 1452, 4096: 4096}
"""What a pod says that it takes (None: no EDNS at all), and the largest answer that it is given."""


def edns_of(payload: int | None) -> dict[str, object]:
    return {"use_edns": False} if payload is None else {"use_edns": 0, "payload": payload}


@pytest.mark.parametrize("payload", LIMITS)
def test_an_answer_of_just_the_pods_limit_comes_whole(scene: Scene, payload: int | None) -> None:
    name = scene.name()
    said = script_sized(scene, name, LIMITS[payload])
    asked = question(scene, name, **edns_of(payload))
    assert ask(scene, asked) == asked[:2] + said[0][2:]


@pytest.mark.parametrize("payload", LIMITS)
def test_an_octet_more_is_cut_down_with_tc_and_comes_whole_over_tcp(
    scene: Scene, payload: int | None
) -> None:
    name = scene.name()
    said = script_sized(scene, name, LIMITS[payload] + 1)
    asked = question(scene, name, **edns_of(payload))
    got = dns.message.from_wire(scene.asker.ask(scene.cluster_ip, asked))
    assert got.flags & dns.flags.TC
    assert got.question == dns.message.from_wire(asked).question
    assert (got.answer, got.edns) == ([], -1 if payload is None else 0)
    assert scene.asker.ask_over("tcp", scene.cluster_ip, asked)[2:] == said[-1][2:]


@pytest.mark.parametrize("size", [1473, 3000, 16_000, 60_000])
def test_an_answer_larger_than_a_packet_comes_in_fragments_and_whole(scene: Scene, size: int) -> None:
    """At the server's cable, too: the resolver hears it in fragments, and sends it in new ones."""
    name = scene.name()
    said = script_sized(scene, name, size)
    asked = question(scene, name, use_edns=0, payload=65_535)
    assert ask(scene, asked) == asked[:2] + said[0][2:]
    pieces = wire.seen(scene.asker.tap, wire.both(wire.from_(scene.cluster_ip), is_fragment))
    assert len(pieces) == -(-(size + 8) // 1480)


def recursing(packet: bytes) -> bytes:
    """With RA: an empty answer with neither it nor AA means to glibc that the server knows nothing."""
    return packet[:3] + bytes([packet[3] | 0x80]) + packet[4:]


CLIENTS = {
    "dig": ("dig", "+short", "+tries=1", "+noedns"),
    "the C library": ("getent", "ahostsv4"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("keeps_to_limits", [True, False])
def test_a_client_that_is_given_tc_asks_over_tcp_and_has_every_address_open(
    scene: Scene, client: str, keeps_to_limits: bool
) -> None:
    """Whoever cuts the answer down: the server, or the resolver behind a server that minds no limit."""
    name, many = scene.name(), scene.addresses(60)

    def script(asked: Asked) -> None:
        whole = recursing(answer(asked.message, *(f"{name} 60 A {one}" for one in many)))
        cut = asked.transport == "udp" and keeps_to_limits
        asked.answer(message.truncated(whole) if cut else whole)

    scene.server.script(name, script)
    lines = scene.asker.pod.run([*CLIENTS[client], name]).stdout.splitlines()
    assert sorted({line.split()[0] for line in lines}) == many
    assert {one.transport for one in scene.server.asked} == {"udp", "tcp"}
    assert scene.learned(*many) == dict.fromkeys(many, scene.kept_s(60))
    scene.assert_open(many[-1])
