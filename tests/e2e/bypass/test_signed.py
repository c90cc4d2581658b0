"""Signed messages pass as they are: what a signature covers is changed nowhere on the way, there and back."""

from __future__ import annotations

import dns.message
import dns.rrset
import dns.tsig
import pytest

from acns.dns import wire as dns_wire

from ..pair import wire
from . import scripted
from .bypass_world import OPEN, ZONE, World
from .scripted import Asked

pytestmark = pytest.mark.root

KEY = dns.tsig.Key("key.example.", b"secret of both ends", "hmac-sha256")
SIG0 = b"\0" + dns_wire.record_tail(24, 255, 0, bytes(17) + b"\1\3key\0" + b"signature")
SERVFAIL = 2


def signed(name: str, ident: int) -> bytes:
    """A query with a SIG(0)."""
    plain = wire.query(name, ident=ident)
    return plain[:10] + b"\0\1" + plain[12:] + SIG0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("qtype", "data"), [("A", OPEN), ("AAAA", "2001:db8::10"), ("TXT", " ".join(['"x"' * 9]))]
)
def test_a_tsig_is_right_at_both_ends(world: World, transport: str, qtype: str, data: str) -> None:
    name = f"{world.marker()}.{ZONE}"
    query = dns.message.make_query(name, qtype)
    query.use_tsig(KEY)
    packet = query.to_wire()
    sent: list[bytes] = []

    def script(asked: Asked) -> None:
        received = dns.message.from_wire(asked.message, keyring=KEY)  # raises where the signature is wrong
        answer = dns.message.make_response(received)
        answer.answer = [dns.rrset.from_text(f"{name}.", 60, "IN", qtype, data)]
        sent.append(answer.to_wire())
        asked.answer(sent[0])

    world.server.script(name, script)
    got = world.guest.ask_over(transport, world.cluster_ip, packet)
    assert got[2:] == sent[0][2:]
    verified = dns.message.from_wire(got, keyring=KEY, request_mac=query.mac)
    assert verified.had_tsig
    assert len(verified.answer) == 1
    assert not world.is_learned("2001:db8::10")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_sig0_leaves_under_its_own_id_and_comes_back_byte_for_byte(world: World, transport: str) -> None:
    name = f"{world.marker()}.{ZONE}"
    plain = wire.query(name, ident=world.id16())
    packet = signed(name, wire.ident(plain))
    heard: list[bytes] = []
    back = plain[:2] + b"\x81\x80" + plain[4:6] + b"\0\1\0\0\0\1" + plain[12:]
    back += b"\xc0\x0c" + dns_wire.record_tail(28, 1, 60, b"\x20\1\x0d\xb8" + bytes(12)) + SIG0

    def script(asked: Asked) -> None:
        heard.append(asked.message)
        asked.answer(back)

    world.server.script(name, script)
    assert world.guest.ask_over(transport, world.cluster_ip, packet) == back
    assert heard == [packet]


def test_a_second_sig0_under_an_id_in_flight_is_servfail_and_the_first_is_answered(world: World) -> None:
    """Under another ID its signature would be wrong, and under this one two answers could be its."""
    name, other, ident = f"{world.marker()}.{ZONE}", f"{world.marker()}.{ZONE}", world.id16()
    heard: list[Asked] = []
    for one in (name, other):
        world.server.script(one, heard.append)
    with world.guest.connect(world.cluster_ip) as connection:
        connection.sendall(wire.framed(signed(name, ident)) + wire.framed(signed(other, ident)))
        refused = wire.read_framed(connection)
        assert (wire.ident(refused), wire.rcode(refused)) == (ident, SERVFAIL)
        (asked,) = wire.until(lambda: heard, "the first arrives")
        assert asked.message == signed(name, ident)
        asked.answer(scripted.answer(asked.message, f"{name} 60 A {OPEN}"))
        assert wire.addresses(wire.read_framed(connection)) == [OPEN]
