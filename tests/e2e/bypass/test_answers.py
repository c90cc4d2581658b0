"""Answers that lie: whose address it is, who says so, what it may be. None of them opens an address.

The guest asks for a name that it may. Before the honest answer come lies that lead to a target; whichever of
them the guest then gets, its way to the target stays shut: no SYN arrives, and no set of the kernel has it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from lab.runtime.handles import Inside

from ..pair import wire
from ..pair.wire import DNS_PORT, NXDOMAIN, REFUSED, Wire
from .bypass_world import EXACT, OPEN, OTHERS_ZONE, ZONE, World
from .scripted import Asked, answer

pytestmark = pytest.mark.root

Place = tuple[str, int]

SERVFAIL = 2
CHAOS, IN = b"\0\3", b"\0\1"


@dataclass(frozen=True, slots=True)
class Lie:
    """What a lie is made from: the question as it arrived, the name in it, and where the lie leads."""

    asked: bytes
    name: str
    target: str

    @property
    def raw_target(self) -> bytes:
        return socket.inet_aton(self.target)

    def answer(self, *records: str, rcode: int = 0, **sections: tuple[str, ...]) -> bytes:
        return answer(self.asked, *map(self._filled, records), rcode=rcode, **{
            section: tuple(map(self._filled, texts)) for section, texts in sections.items()
        })  # fmt: skip

    def honest(self) -> bytes:
        """As if it were true."""
        return self.answer("{name} 60 A {target}")

    def to_other(self, question: str, qtype: str = "A") -> bytes:
        """A true answer to another question, under this one's ID."""
        other = wire.query(question, qtype, ident=wire.ident(self.asked))
        return answer(other, f"{question} 60 A {self.target}")

    def _filled(self, record: str) -> str:
        return record.format(name=self.name, target=self.target)


def patched(packet: bytes, at: int, new: bytes) -> bytes:
    at = at % len(packet)
    return packet[:at] + new + packet[at + len(new) :]


def with_flags(packet: bytes, clear: int = 0, put: int = 0) -> bytes:
    flags = int.from_bytes(packet[2:4]) & ~clear | put
    return patched(packet, 2, flags.to_bytes(2))


def upper_case(lie: Lie) -> bytes:
    """The question's letters are not the ones that were sent."""
    honest = lie.honest()
    return honest[:12] + honest[12 : 12 + len(lie.name)].swapcase() + honest[12 + len(lie.name) :]


def many_dnames(lie: Lie) -> bytes:
    records = [f"n{number}.example.test 60 DNAME example.test." for number in range(40)]
    return lie.answer(*records, f"{ZONE} 60 DNAME far.example.", "{name} 60 A {target}")


def long_chain(lie: Lie) -> bytes:
    links = [f"l{number}.far.example 60 CNAME l{number + 1}.far.example." for number in range(100)]
    return lie.answer("{name} 60 CNAME l0.far.example.", *links, "l100.far.example 60 A {target}")


LIES: dict[str, Callable[[Lie], bytes]] = {
    "the address of a name that nobody asked for": lambda lie: lie.answer("evil.test 60 A {target}"),
    "another name's address beside the true one": lambda lie: lie.answer(
        f"{{name}} 60 A {OPEN}", "evil.test 60 A {target}"
    ),
    "an address of the name above": lambda lie: lie.answer(f"{ZONE} 60 A {{target}}"),
    "an address of a name below": lambda lie: lie.answer("x.{name} 60 A {target}"),
    "an address of the root": lambda lie: lie.answer(". 60 A {target}"),
    "an address of the exact name that is allowed too": lambda lie: lie.answer(f"{EXACT} 60 A {{target}}"),
    "an address in the authority section": lambda lie: lie.answer(authority=("{name} 60 A {target}",)),
    "an address in the additional section": lambda lie: lie.answer(additional=("{name} 60 A {target}",)),
    "glue": lambda lie: lie.answer(
        authority=("{name} 60 NS ns.far.example.",), additional=("ns.far.example 60 A {target}",)
    ),
    "an alias to one name and the address of another": lambda lie: lie.answer(
        "{name} 60 CNAME a.far.example.", "b.far.example 60 A {target}"
    ),
    "an alias whose address is additional": lambda lie: lie.answer(
        "{name} 60 CNAME a.far.example.", additional=("a.far.example 60 A {target}",)
    ),
    "somebody else's alias": lambda lie: lie.answer(
        "evil.test 60 CNAME a.far.example.", "a.far.example 60 A {target}"
    ),
    "an alias that leads back": lambda lie: lie.answer(
        "a.far.example 60 CNAME {name}.", "a.far.example 60 A {target}"
    ),
    "an alias in a ring beside an address": lambda lie: lie.answer(
        "{name} 60 CNAME a.far.example.", "a.far.example 60 CNAME {name}.", "b.far.example 60 A {target}"
    ),
    "a subtree moved that the name is not in": lambda lie: lie.answer(
        f"{OTHERS_ZONE} 60 DNAME far.example.", "a.far.example 60 A {target}"
    ),
    "a subtree moved whose top the name is": lambda lie: lie.answer(
        "{name} 60 DNAME far.example.", "far.example 60 A {target}"
    ),
    "a subtree moved, and the address of its new top": lambda lie: lie.answer(
        f"{ZONE} 60 DNAME far.example.", "far.example 60 A {target}"
    ),
    "more moves than any chain has": many_dnames,
    "an endless chain": long_chain,
    "the target of a service record": lambda lie: lie.answer(
        "{name} 60 SRV 1 2 443 a.far.example.", "a.far.example 60 A {target}"
    ),
    "the target of a mail record": lambda lie: lie.answer(
        "{name} 60 MX 1 a.far.example.", "a.far.example 60 A {target}"
    ),
    "a hint in an HTTPS record": lambda lie: lie.answer("{name} 60 HTTPS 1 . ipv4hint={target}"),
    "an IPv4 address dressed as IPv6": lambda lie: lie.answer("{name} 60 AAAA ::ffff:{target}"),
    "an address of class CH": lambda lie: patched(lie.honest(), -12, CHAOS),
    "an address of five octets": lambda lie: patched(lie.honest(), -6, b"\0\5") + b"\0",
    "an address of three octets": lambda lie: patched(lie.honest(), -6, b"\0\3")[:-1],
    "an address of more octets than there are": lambda lie: patched(lie.honest(), -6, b"\0\5"),
    "more records than there are": lambda lie: patched(lie.honest(), 6, b"\0\2"),
    "a record that is not counted": lambda lie: patched(lie.honest(), 6, b"\0\0"),
    "an owner that points forwards": lambda lie: patched(lie.honest(), -16, b"\xff\xff"),
    "an owner that points at itself": lambda lie: patched(
        lie.honest(), -16, (0xC000 | len(lie.honest()) - 16).to_bytes(2)
    ),
    "a name error with an address": lambda lie: lie.answer("{name} 60 A {target}", rcode=NXDOMAIN),
    "a server failure with an address": lambda lie: lie.answer("{name} 60 A {target}", rcode=SERVFAIL),
    "a refusal with an address": lambda lie: lie.answer("{name} 60 A {target}", rcode=REFUSED),
    "a query with an address in it": lambda lie: with_flags(lie.honest(), clear=0x8000),
    "an answer of another operation": lambda lie: with_flags(lie.honest(), put=0x2800),
    "the answer to a question for a denied name": lambda lie: lie.to_other("evil.test"),
    "the answer to a question for another allowed name": lambda lie: lie.to_other(f"zz.{ZONE}"),
    "the answer to a question of another type": lambda lie: lie.to_other(lie.name, "TXT"),
    "the answer to a question in other letters": upper_case,
    "the answer to a question of class CH": lambda lie: patched(
        lie.honest(), 12 + len(lie.name) + 4, CHAOS
    ),
    "the answer to two questions": lambda lie: patched(lie.honest(), 4, b"\0\2"),
    "the answer to no question": lambda lie: patched(lie.honest(), 4, b"\0\0"),
    "an answer under another ID": lambda lie: patched(
        lie.honest(), 0, (wire.ident(lie.asked) ^ 1).to_bytes(2)
    ),
    "half an answer": lambda lie: lie.honest()[:-1],
    "half an answer with TC": lambda lie: with_flags(lie.honest()[:-1], put=0x0200),
}  # fmt: skip


def lied_to(world: World, lie: Callable[[Lie], bytes], qtype: str = "A") -> tuple[str, bytes]:
    """The guest asks a name that it may, and hears the lie before the truth: the target, and what it got."""
    name, target = f"{world.marker()}.{ZONE}", world.address()

    def script(asked: Asked) -> None:
        asked.answer(lie(Lie(asked.message, name, target)))
        asked.answer(answer(asked.message, f"{name} 60 A {OPEN}"))

    world.server.script(name, script)
    return target, world.ask(name, qtype=qtype)


@pytest.mark.parametrize("what", LIES)
def test_a_lie_opens_nothing(world: World, what: str) -> None:
    target, _ = lied_to(world, LIES[what])
    world.assert_closed(target)


def test_the_truth_opens_its_address(world: World) -> None:
    """The control of the above, and of how learning is looked for."""
    target, got = lied_to(world, Lie.honest)
    assert wire.addresses(got) == [target]
    world.assert_open(target)
    assert world.is_learned(target)


def test_a_chain_that_starts_at_the_question_opens_its_end(world: World) -> None:
    chain = ("{name} 60 CNAME a.far.example.", "a.far.example 60 CNAME b.far.example.")
    target, _ = lied_to(world, lambda lie: lie.answer(*chain, "b.far.example 60 A {target}"))
    world.assert_open(target)


# --- liars ------------------------------------------------------------------------------------------------

Liar = Callable[[World, bytes], None]


def resolvers_sockets(world: World) -> list[Place]:
    """Where the resolver waits for answers. A server sees other ports: the node masquerades its own."""
    table = world.node.run(["cat", "/proc/net/udp"]).stdout.splitlines()[1:]
    bound = [line.split()[1] for line in table]
    ports = [int(one.split(":")[1], 16) for one in bound if one.startswith("00000000:")]
    assert len(ports) >= 16
    plan = world.lab.addressing.nodes[0]
    return [(str(address), port) for address in (plan.address, plan.pod_gateway) for port in ports]


def from_socket(place: Inside, lie: bytes, targets: list[Place], source: Place = ("", 0)) -> None:
    with place.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind(source)
        for target in targets:
            liar.sendto(lie, target)


def other_port(world: World, lie: bytes) -> None:
    """The right server, from another of its ports."""
    from_socket(world.server.place, lie, resolvers_sockets(world))


def another_pod(world: World, lie: bytes) -> None:
    """Another pod, under its own address, from port 53."""
    from_socket(world.lab.pod("rogue"), lie, resolvers_sockets(world), ("", DNS_PORT))


def pod_as_the_server(liar: Wire, world: World, lie: bytes) -> None:
    for source in (world.dns_address, world.cluster_ip):
        for target, port in resolvers_sockets(world):
            liar.send(IP(src=source, dst=target) / UDP(sport=DNS_PORT, dport=port) / Raw(lie))
    liar.fence()


def another_pod_as_the_server(world: World, lie: bytes) -> None:
    """Another pod, under the server's address."""
    pod_as_the_server(world.free, world, lie)


def the_guest_as_the_server(world: World, lie: bytes) -> None:
    """The guest itself, under the server's address: a pod that wants to be lied to."""
    pod_as_the_server(world.guest, world, lie)


def the_internet(world: World, lie: bytes) -> None:
    """Somebody outside, from port 53. The pods' gateway is not to be reached from there."""
    at_node = [one for one in resolvers_sockets(world) if one[0] == str(world.node.address)]
    from_socket(world.lab.internet, lie, at_node, (OPEN, DNS_PORT))


LIARS: dict[str, Liar] = {
    "the server from another port": other_port,
    "another pod": another_pod,
    "another pod in the server's name": another_pod_as_the_server,
    "the guest in the server's name": the_guest_as_the_server,
    "somebody on the Internet": the_internet,
}


@pytest.mark.parametrize("liar", LIARS)
def test_a_right_answer_from_the_wrong_place_opens_nothing(world: World, liar: str) -> None:
    name, target = f"{world.marker()}.{ZONE}", world.address()
    heard: list[Asked] = []
    world.server.script(name, heard.append)
    sport = world.guest.udp(world.cluster_ip, wire.query(name, ident=world.id16()))
    (asked,) = wire.until(lambda: heard, "the question arrives")
    LIARS[liar](world, Lie(asked.message, name, target).honest())
    asked.answer(answer(asked.message, f"{name} 60 A {OPEN}"))
    assert wire.addresses(wire.payload(world.guest.answer(sport))) == [OPEN]
    world.assert_closed(target)


def test_a_second_answer_opens_nothing(world: World) -> None:
    name, target = f"{world.marker()}.{ZONE}", world.address()

    def script(asked: Asked) -> None:
        asked.answer(answer(asked.message, f"{name} 60 A {OPEN}"))
        asked.answer(answer(asked.message, f"{name} 60 A {target}"))

    world.server.script(name, script)
    assert wire.addresses(world.ask(name)) == [OPEN]
    world.assert_closed(target)


def test_an_answer_that_nobody_asked_for_opens_nothing(world: World) -> None:
    """To the guest's own port, from the server: it hears it, and that is all."""
    name, target = f"{world.marker()}.{ZONE}", world.address()
    lie = answer(wire.query(name, ident=world.id16()), f"{name} 60 A {target}")
    with world.server.place.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.sendto(lie, (world.guest.address, world.guest.udp_port()))
    world.assert_closed(target)


TCP_LIES = (
    "another name's address beside the true one",
    "an answer under another ID",
    "half an answer",
    "the answer to a question for a denied name",
    "an address in the additional section",
)


def test_lies_over_tcp_open_nothing(world: World) -> None:
    for what in TCP_LIES:
        name, target = f"{world.marker()}.{ZONE}", world.address()

        def script(asked: Asked, what: str = what, name: str = name, target: str = target) -> None:
            asked.answer(LIES[what](Lie(asked.message, name, target)))
            asked.answer(answer(asked.message, f"{name} 60 A {OPEN}"))

        world.server.script(name, script)
        world.guest.ask_tcp(world.cluster_ip, wire.query(name, ident=world.id16()))
        world.assert_closed(target)
