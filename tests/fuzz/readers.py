"""One packet through everything of ours that reads packets; what must hold of it, whatever the packet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from acns.dns import message, name, wire
from acns.dns.message import MalformedDNS
from acns.fqdn import gate

POD = b"\x0a\0\0\1"
SERVER = gate.Server(b"\x0a\0\0\2", 53, message.UDP)
SETTINGS = gate.GateSettings()
_ASKED = message.read_query(bytes(5) + b"\1" + bytes(6) + b"\0\0\1\0\1")


def table() -> gate.PolicyTable:
    """A pod that may ask anybody for everything."""
    rule = gate.DNSRule(1, (), (gate.DNSServer(0, 0, 0),))
    return gate.PolicyTable([rule], [gate.EndpointAddress(POD, 1, 300)])


TABLE = table()


def take_everything(packet: bytes, policy: gate.PolicyTable = TABLE) -> None:
    """As a query, as an answer, and piece by piece. Raises what is no MalformedDNS, or AssertionError."""
    _without_harm(name.read, packet, 12)
    _without_harm(message.read_query, packet)
    _take_answer(packet)
    _take_rewritten(packet)
    verdict = gate.judge_query(policy, POD, SERVER, packet, SETTINGS)
    if isinstance(verdict, gate.Reply):
        _check_reply(packet, verdict.packet)
    elif isinstance(verdict, gate.Forward):
        gate.judge_answer(verdict.query, packet[:2] + b"\x80" + packet[3:], SETTINGS)


def take_answer_at_the_gate(packet: bytes) -> None:
    """As an answer to the very question that it says it answers."""
    try:
        header = wire.read_header(packet)
        question = wire.read_question(packet, header)
    except MalformedDNS:
        return
    asked = replace(_ASKED, name=question.name, question_wire=packet[12 : question.end])
    judged = gate.judge_answer(asked, packet[:2] + bytes((0x80 | packet[2] & 0x07,)) + packet[3:], SETTINGS)
    if isinstance(judged, gate.Deliver):
        assert len(judged.packet) <= asked.size_limit
        assert judged.packet[12 : question.end] == packet[12 : question.end]
        if judged.learned:
            assert all(map(gate.is_learnable_address, judged.learned.addresses))


def _take_answer(packet: bytes) -> None:
    try:
        read = message.read_answer(packet)
        found = message.learnable(read)
    except MalformedDNS:
        return
    addresses = {packet[one.start : one.end] for one in read.records if one.type == message.TYPE_A}
    assert set(found.addresses) <= addresses
    take_answer_at_the_gate(packet)


def _take_rewritten(packet: bytes) -> None:
    try:
        cut = message.truncated(packet)
    except MalformedDNS:
        return
    assert len(cut) <= wire.MAX_PLAIN_UDP_OCTETS
    assert wire.read_header(cut).flags & message.TC
    try:
        left = message.without_aaaa(packet)
    except MalformedDNS:
        return
    header = wire.read_header(left)
    answers = wire.read_records(left, wire.read_question(left, header).end, header.answers)
    assert not [one for one in answers if one.type == message.TYPE_AAAA]


def _check_reply(packet: bytes, reply: bytes) -> None:
    """Ours: of the same ID, a response, small, and readable by ourselves where it has a question."""
    header = wire.read_header(reply)
    assert (reply[:2], header.is_response) == (packet[:2], True)
    assert len(reply) <= wire.HEADER_OCTETS + name.MAX_NAME_OCTETS + 4 + 11
    if header.questions:
        assert message.read_answer(reply).records == ()


def _without_harm(read: Callable[..., object], *arguments: object) -> None:
    try:
        read(*arguments)
    except MalformedDNS:
        return
