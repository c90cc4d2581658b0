"""The resolver's memory of judgements, against the gate itself: the same verdicts, however often."""

from __future__ import annotations

import json
import random

import dns.message
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from acns.dns import pattern
from acns.fqdn import gate
from acns.resolver.batch import sockaddr_of
from acns.resolver.budget import InFlight
from acns.resolver.judged import Answer, Case, Judgements
from acns.resolver.settings import ResolverSettings

PODS = [bytes((10, 244, 0, last)) for last in range(1, 5)]
SERVERS = [(bytes((10, 96, 0, last)), 53) for last in (10, 11)]
NAMES = ["www.example.com.", "WWW.example.com.", "a.b.example.com.", "www.example.org.", "x.io.", "."]
NAMED = gate.DNSRule(
    1, (pattern.match_pattern("*.example.com"), pattern.match_name("x.io")), (gate.DNSServer(300, 53, 17),)
)
TABLES = [
    gate.PolicyTable(
        rules=[NAMED, *more],
        endpoints=[gate.EndpointAddress(pod, number, 400) for number, pod in enumerate(PODS[:3], 1)],
        prefixes=[gate.IdentityPrefix(SERVERS[0][0], 32, 300)],
    )
    for more in (
        [gate.DNSRule(2, (), (gate.DNSServer(0, 53, 0),))],
        [gate.DNSRule(3, NAMED.selectors, NAMED.servers)],
    )
]
GATES = [
    gate.GateSettings(),
    gate.GateSettings(denied=gate.DeniedCode.NXDOMAIN, aaaa=gate.AAAAMode.PASSTHROUGH),
]


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Good ones, and some with octets changed."""
    made = dns.message.make_query(
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(["A", "AAAA", "TXT", "ANY"])),
        rdclass=draw(st.sampled_from(["IN", "IN", "IN", "CH"])),
        use_edns=draw(st.sampled_from([False, 0])),
        payload=draw(st.sampled_from([100, 512, 1232])),
    )
    made.id = draw(st.integers(0, 0xFFFF))
    return draw(damage(made.to_wire()))


@st.composite
def damage(draw: st.DrawFn, packet: bytes) -> bytes:
    chance = random.Random(draw(st.integers(0, 1 << 16)))
    wrong = bytearray(packet)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        wrong[chance.randrange(2, len(wrong))] = chance.randrange(256)
    return bytes(wrong[: draw(st.sampled_from([len(wrong)] * 4 + [chance.randrange(len(wrong) + 1)]))])


def verdict_of(case: Case, packet: bytes) -> gate.Verdict:
    """The case as the gate would say it."""
    if case.refusal is None:
        assert case.question.query is not None
        return gate.Forward(case.question.query, case.asker.endpoint_id)
    if isinstance(case.refusal, gate.Drop):
        return case.refusal
    return gate.Reply(packet[:2] + case.reply_rest, case.refusal.reason)


def same(one: gate.Verdict, other: gate.Verdict) -> bool:
    """But for the query's ID, which a case does not know."""
    if isinstance(one, gate.Forward) and isinstance(other, gate.Forward):
        mine, theirs = one.query, other.query
        return one.endpoint_id == other.endpoint_id and (
            (mine.name, mine.qtype, mine.question_wire, mine.size_limit, mine.flags)
            == (theirs.name, theirs.qtype, theirs.question_wire, theirs.size_limit, theirs.flags)
        )
    return one == other


@given(
    asked=st.lists(
        st.tuples(queries(), st.sampled_from(PODS), st.sampled_from(SERVERS), st.sampled_from(TABLES)),
        max_size=12,
    ),
    settings=st.sampled_from(GATES),
    protocol=st.sampled_from([6, 17]),
)
def test_a_remembered_query_has_the_gates_verdict_and_a_journal_line(
    asked: list[tuple[bytes, bytes, tuple[bytes, int], gate.PolicyTable]],
    settings: gate.GateSettings,
    protocol: int,
) -> None:
    judgements = Judgements(protocol, settings, InFlight.of(ResolverSettings()))
    for packet, pod, server, table in asked + asked:
        judgements.use(table)
        case = judgements.case(pod + sockaddr_of(*server) + packet[2:], pod, server, packet)
        expected = gate.judge_query(table, pod, gate.Server(*server, protocol), packet, settings)
        assert same(verdict_of(case, packet), expected)
        line = json.loads(b'{"ts": 1' + case.query_line)
        assert line["event"] == "dns.query"
        assert (line["verdict"] == "forward") == isinstance(expected, gate.Forward)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A query, and something that came for it."""
    made = dns.message.make_query(draw(st.sampled_from(NAMES[:3])), draw(st.sampled_from(["A", "AAAA"])))
    response = dns.message.make_response(made)
    owner = made.question[0].name
    ttl = draw(st.sampled_from([0, 60, 0xFFFFFFFF]))
    for rdtype, data in (("A", "192.0.2.7"), ("A", "127.0.0.1"), ("AAAA", "2001:db8::1"), ("CNAME", "x.io.")):
        if draw(st.booleans()):
            response.answer.append(dns.rrset.from_text(owner, ttl, "IN", rdtype, data))
    return made.to_wire(), draw(damage(response.to_wire()))


@given(exchanges=st.lists(exchanges(), max_size=8), settings=st.sampled_from(GATES))
def test_a_remembered_answer_has_the_gates_verdict_and_a_journal_line(
    exchanges: list[tuple[bytes, bytes]], settings: gate.GateSettings
) -> None:
    judgements = Judgements(17, settings, InFlight.of(ResolverSettings()))
    judgements.use(TABLES[0])
    for query, packet in exchanges + exchanges:
        if len(packet) < 2:
            continue
        key = PODS[1] + sockaddr_of(*SERVERS[0]) + query[2:]
        question = judgements.case(key, PODS[1], SERVERS[0], query).question
        assert question.query is not None
        expected = gate.judge_answer(question.query, packet, settings)
        found = judgements.answer(question, packet[2:])
        assert outcome(found, packet) == expected
        if isinstance(expected, gate.Deliver):
            assert json.loads(b'{"ts": 1, "x": 1' + found.line("plain"))["outcome"] == "plain"


def test_answers_that_differ_in_one_octet_anywhere_are_judged_apart() -> None:
    query = dns.message.make_query(NAMES[0], "A")
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.7"))
    packet = response.to_wire()
    judgements = Judgements(17, GATES[0], InFlight.of(ResolverSettings()))
    judgements.use(TABLES[0])
    asked = query.to_wire()
    question = judgements.case(
        PODS[1] + sockaddr_of(*SERVERS[0]) + asked[2:], PODS[1], SERVERS[0], asked
    ).question
    assert question.query is not None
    for offset in range(2, len(packet)):
        changed = packet[:offset] + bytes((packet[offset] ^ 1,)) + packet[offset + 1 :]
        for one in (packet, changed):
            expected = gate.judge_answer(question.query, one, GATES[0])
            assert outcome(judgements.answer(question, one[2:]), one) == expected


def outcome(answer: Answer, packet: bytes) -> gate.Ignore | gate.Unusable | gate.Deliver:
    if answer.ignored is not None:
        return gate.Ignore(answer.ignored)
    if answer.unusable is not None:
        return gate.Unusable(answer.unusable)
    noted = json.loads("{" + answer.known_line.decode().lstrip(", "))
    return gate.Deliver(packet[:2] + answer.rest, answer.learned, noted["rcode"])
