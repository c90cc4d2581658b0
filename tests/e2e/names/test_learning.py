"""What an answer teaches, from the DNS server's octets to the kernel's set: which addresses, for how long.

The lies that must teach nothing are in `tests/e2e/bypass`; here are the truths, in all their shapes.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import dns.message
import dns.rdatatype
import pytest

from ..bypass.bypass_world import ZONE, World
from ..bypass.scripted import answer
from ..pair import wire

pytestmark = pytest.mark.root

WEEK_S = 7 * 86_400
HIGHEST_TTL_S = 0x7FFF_FFFF
REFUSED, NXDOMAIN = 5, 3


@dataclass(frozen=True, slots=True)
class Truth:
    """Records of an answer, in order; `{name}` is asked for, `{one}` and `{two}` are new addresses. `ttl_s`:
    how long they are known for."""

    records: tuple[str, ...]
    ttl_s: int
    both: bool = False


TRUTHS: dict[str, Truth] = {
    "one address": Truth(("{name} 77 A {one}",), 77),
    "two addresses, each with the smaller TTL": Truth(
        ("{name} 300 A {one}", "{name} 60 A {two}"), 60, both=True
    ),
    "a chain, with the smallest TTL on the way": Truth(
        ("{name} 300 CNAME a.far.test.", "a.far.test 20 CNAME b.far.test.", "b.far.test 500 A {one}"),
        20,
    ),
    "a chain told from its end": Truth(
        ("b.far.test 500 A {one}", "a.far.test 20 CNAME b.far.test.", "{name} 300 CNAME a.far.test."),
        20,
    ),
    "a subtree that was moved": Truth(
        (f"{ZONE} 90 DNAME far.test.", "{name} 90 CNAME {label}.far.test.", "{label}.far.test 40 A {one}"),
        40,
    ),
    "a subtree that was moved, without the alias made of it": Truth(
        (f"{ZONE} 90 DNAME far.test.", "{label}.far.test 40 A {one}"), 40
    ),
    "an address beside an alias": Truth(
        ("{name} 50 A {one}", "{name} 60 CNAME a.far.test.", "a.far.test 70 A {two}"), 50, both=True
    ),
    "a TTL of zero": Truth(("{name} 0 A {one}",), 0),
    "a TTL beyond a week": Truth((f"{{name}} {HIGHEST_TTL_S} A {{one}}",), WEEK_S),
    "other letters in the owner": Truth(("{upper} 60 A {one}",), 60),
    "an address twice": Truth(("{name} 60 A {one}", "{name} 60 A {one}"), 60),
    "other types around it": Truth(
        (
            "{name} 60 TXT words",
            "{name} 60 MX 1 mail.far.test.",
            "{name} 60 A {one}",
            "{name} 60 CAA 0 issue x",
        ),
        60,
    ),
}


def known(world: World, name: str) -> dict[str, int]:
    """Address → TTL, of what the shim knows of a name."""
    view: dict[str, Any] = world.node.shim.http_get("/cache").json()
    return {
        one["address"]: round(one["expires_at"] - one["learned_at"])
        for one in view["addresses"]
        if one["name"] == f"{name}."
    }


@pytest.mark.parametrize("what", TRUTHS)
def test_an_answer_teaches_its_addresses_under_the_name_asked_for(world: World, what: str) -> None:
    truth, label = TRUTHS[what], world.marker()
    name, one, two = f"{label}.{ZONE}", world.address(), world.address()
    records = [
        record.format(name=name, upper=name.upper(), label=label, one=one, two=two)
        for record in truth.records
    ]
    world.server.script(name, lambda asked: asked.answer(answer(asked.message, *records)))
    got = world.ask(name)
    wanted = [one, two] if truth.both else [one]
    assert set(wire.addresses(got)) == set(wanted)
    assert known(world, name) == dict.fromkeys(wanted, truth.ttl_s)
    for address in wanted:
        world.assert_open(address)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_hundred_addresses_are_all_open_when_the_answer_is_there(world: World, transport: str) -> None:
    """Over UDP that is more than a packet of the link holds: it comes in fragments, and leaves in some."""
    name = f"{world.marker()}.{ZONE}"
    addresses = sorted({world.address() for _ in range(100)})
    world.server.answers_with(name, *(f"60 A {address}" for address in addresses))
    asked = dns.message.make_query(name, "A", use_edns=0, payload=4096).to_wire()
    got = by_socket(world, asked) if transport == "udp" else world.guest.ask_tcp(world.cluster_ip, asked)[0]
    assert sorted(wire.addresses(got)) == addresses
    assert known(world, name).keys() == set(addresses)
    for address in (addresses[0], addresses[-1]):
        world.assert_open(address)


def test_an_address_of_two_names_is_known_for_both(world: World) -> None:
    address = world.address()
    names = [f"{world.marker()}.{ZONE}" for _ in range(2)]
    for name, ttl_s in zip(names, (30, 600), strict=True):
        world.server.answers_with(name, f"{ttl_s} A {address}")
        world.ask(name)
    assert [known(world, name) for name in names] == [{address: 30}, {address: 600}]


def test_any_teaches_the_addresses_in_it(world: World) -> None:
    name, address = f"{world.marker()}.{ZONE}", world.address()
    world.server.answers_with(name, "60 TXT words", f"60 A {address}")
    world.ask(name, qtype=dns.rdatatype.ANY)
    assert known(world, name) == {address: 60}


RECORDS = {
    "MX": "10 mail.far.test.",
    "SRV": "1 2 443 a.far.test.",
    "TXT": '"some" "words"',
    "PTR": "a.far.test.",
    "NAPTR": '10 20 "u" "sip+E2U" "!^.*$!sip:x@far.test!" .',
    "HTTPS": "1 . alpn=h2 ipv4hint=198.51.100.99",
    "SVCB": "1 a.far.test. port=8443",
    "CAA": '0 issue "far.test"',
    "TYPE65280": "\\# 4 c6336463",
}


@pytest.mark.parametrize("qtype", RECORDS)
def test_every_other_type_is_answered_as_the_server_said_and_teaches_nothing(
    world: World, qtype: str
) -> None:
    name = f"{world.marker()}.{ZONE}"
    said: list[bytes] = []

    def script(asked: Any) -> None:
        said.append(answer(asked.message, f"{name} 60 {qtype} {RECORDS[qtype]}"))
        asked.answer(said[-1])

    world.server.script(name, script)
    got = world.ask(name, qtype=dns.rdatatype.from_text(qtype))
    assert got[2:] == said[0][2:]
    assert known(world, name) == {}
    assert not world.is_learned("198.51.100.99")


def test_a_class_other_than_internet_is_refused_and_asked_nobody(world: World) -> None:
    name = f"{world.marker()}.{ZONE}"
    query = wire.query(name, "TXT", ident=world.id16())
    chaos = query[:-2] + b"\0\3" if query[-2:] == b"\0\1" else query.replace(b"\0\x10\0\1", b"\0\x10\0\3")
    assert chaos != query
    assert wire.rcode(world.guest.ask(world.cluster_ip, chaos)) == REFUSED
    world.assert_never_asked(name.split(".")[0].encode())


@pytest.mark.parametrize(("code", "label"), [(0, "no data"), (NXDOMAIN, "no name")])
def test_a_negative_answer_passes_with_its_soa_and_teaches_nothing(
    world: World, code: int, label: str
) -> None:
    name = f"{world.marker()}.{ZONE}"
    soa = (f"{ZONE} 60 SOA ns.{ZONE}. host.{ZONE}. 1 2 3 4 5",)
    said: list[bytes] = []

    def script(asked: Any) -> None:
        said.append(answer(asked.message, authority=soa, rcode=code))
        asked.answer(said[-1])

    world.server.script(name, script)
    assert world.ask(name)[2:] == said[0][2:], label
    assert known(world, name) == {}


def test_a_walk_along_the_search_list_teaches_the_name_that_exists_and_no_other(world: World) -> None:
    """Of the list's names the policy allows none: they are refused one by one, and the client goes on."""
    label = world.marker()
    name, address = f"{label}.{ZONE}", world.address()
    world.server.answers_with(name, f"60 A {address}")
    walk = [
        f"{name}.{suffix}" for suffix in ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
    ]
    assert [wire.rcode(world.ask(one)) for one in walk] == [REFUSED] * len(walk)
    assert wire.addresses(world.ask(name)) == [address]
    assert known(world, name) == {address: 60}
    assert [known(world, one) for one in walk] == [{}] * len(walk)


def by_socket(world: World, asked: bytes) -> bytes:
    """Asked by the pod's own kernel, which puts fragments together."""
    with world.guest.pod.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(wire.DEADLINE_S)
        made.connect((world.cluster_ip, wire.DNS_PORT))
        made.send(asked)
        return made.recv(65_535)
