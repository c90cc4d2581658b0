"""Messages against dnspython, and the readers against bytes that mean harm."""

from __future__ import annotations

import random
from collections import Counter

import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acns.dns import message, name, wire
from acns.dns.message import MalformedDNS
from acns.fqdn import gate

HOSTS = st.sampled_from(["a.x.", "B.x.", "c.B.x.", "x.", "long-label.c.b.X.", ".", "y.z.a.x."])
IPV4 = st.integers(0, 255).map(lambda last: f"192.0.2.{last}")
IPV6 = st.integers(0, 255).map(lambda last: f"2001:db8::{last:x}")
SIGNATURE = "RRSIG {} 8 3 60 20300101000000 20200101000000 1 {} AAAA"
RECORDS = st.one_of(
    st.tuples(st.just("A"), IPV4),
    st.tuples(st.just("AAAA"), IPV6),
    st.tuples(st.sampled_from(["CNAME", "NS", "PTR", "DNAME", "CNAME", "DNAME"]), HOSTS),
    st.tuples(st.just("MX"), HOSTS.map(lambda host: f"10 {host}")),
    st.tuples(st.just("SRV"), HOSTS.map(lambda host: f"1 2 3 {host}")),
    st.tuples(st.just("NAPTR"), HOSTS.map(lambda host: f'1 2 "u" "sip+E2U" "!x!y!" {host}')),
    st.tuples(st.just("SOA"), st.tuples(HOSTS, HOSTS).map(lambda two: f"{two[0]} {two[1]} 1 2 3 4 5")),
    st.tuples(st.just("RP"), st.tuples(HOSTS, HOSTS).map(lambda two: f"{two[0]} {two[1]}")),
    st.tuples(st.just("TXT"), st.just('"some text"')),
    st.tuples(st.just("HTTPS"), HOSTS.map(lambda host: f"1 {host} alpn=h2")),
    st.tuples(st.just("RRSIG"), HOSTS.map(lambda host: SIGNATURE.format("AAAA", host)[6:])),
    st.tuples(st.just("RRSIG"), HOSTS.map(lambda host: SIGNATURE.format("A", host)[6:])),
)
SECTIONS = st.lists(st.tuples(HOSTS, st.integers(0, 400), RECORDS), max_size=12)


def response(answers: list[object], authority: list[object], asked: str, edns: bool) -> dns.message.Message:
    query = dns.message.make_query(asked, "AAAA", use_edns=0 if edns else -1)
    made = dns.message.make_response(query)
    for section, records in ((made.answer, answers), (made.authority, authority)):
        for owner, ttl, (kind, rdata) in records:  # type: ignore[misc]
            section.append(dns.rrset.from_text(owner, ttl, "IN", kind, rdata))
    return made


RESPONSES = st.builds(response, SECTIONS, SECTIONS, HOSTS, st.booleans())


def flat(section: list[dns.rrset.RRset]) -> Counter[tuple[bytes, int, int, str]]:
    """The records of a section: exact owner, type, TTL, data."""
    return Counter(
        (rrset.name.to_wire() or b"", int(rrset.rdtype), rrset.ttl, rdata.to_text())
        for rrset in section
        for rdata in rrset
    )


def parsed(packet: bytes) -> dns.message.Message:
    return dns.message.from_wire(packet, one_rr_per_rrset=True)


def is_aaaa(record: tuple[bytes, int, int, str]) -> bool:
    return record[1] == 28 or (record[1] == 46 and record[3].startswith("AAAA "))


@given(RESPONSES)
def test_without_aaaa_is_the_message_less_its_aaaa_records(made: dns.message.Message) -> None:
    packet = made.to_wire()
    before, after = parsed(packet), parsed(message.without_aaaa(packet))
    expected = Counter({record: n for record, n in flat(before.answer).items() if not is_aaaa(record)})
    assert flat(after.answer) == expected
    assert flat(after.authority) == flat(before.authority)
    assert (after.question, after.edns, after.rcode()) == (before.question, before.edns, before.rcode())
    assert len(message.without_aaaa(packet)) <= len(packet)


@given(RESPONSES)
def test_an_answer_is_read_as_dnspython_reads_it(made: dns.message.Message) -> None:
    packet = made.to_wire()
    read = message.read_answer(packet)
    expected = Counter(
        (rrset.name.canonicalize().labels[:-1], int(rrset.rdtype), rrset.ttl)
        for rrset in parsed(packet).answer
        for _ in rrset
    )
    assert Counter((one.owner, one.type, one.ttl_s) for one in read.records) == expected


@given(RESPONSES)
def test_learned_is_what_a_walk_along_the_aliases_finds(made: dns.message.Message) -> None:
    """The oracle asks of every address whether a way leads to it, over dnspython's objects."""
    reached = {made.question[0].name.canonicalize()}
    for _ in range(20):
        for rrset in made.answer:
            owner = rrset.name.canonicalize()
            for here in list(reached):
                if rrset.rdtype == dns.rdatatype.CNAME and owner == here:
                    reached.add(rrset[0].target.canonicalize())
                if rrset.rdtype == dns.rdatatype.DNAME and here.is_subdomain(owner) and here != owner:
                    try:
                        reached.add(here.relativize(owner).concatenate(rrset[0].target).canonicalize())
                    except dns.exception.DNSException:
                        continue
        if len(reached) > 40:
            return  # DNAMEs that multiply: bounded, and where exactly is not promised
    expected = {
        rdata.address
        for rrset in made.answer
        if rrset.rdtype == dns.rdatatype.A and rrset.name.canonicalize() in reached
        for rdata in rrset
    }
    found = message.learnable(message.read_answer(made.to_wire()))
    assert {".".join(map(str, address)) for address in found.addresses} == expected


@given(RESPONSES)
def test_a_truncated_answer_is_small_and_valid(made: dns.message.Message) -> None:
    cut = message.truncated(made.to_wire())
    assert len(cut) <= 512
    assert parsed(cut).answer == []


# --- hostile bytes ---------------------------------------------------------------------------------------

TABLE = gate.PolicyTable(
    [gate.DNSRule(1, (), (gate.DNSServer(0, 0, 0),))],
    [gate.EndpointAddress(b"\x0a\0\0\1", 1, 300)],
)
SERVER = gate.Server(b"\x0a\0\0\2", 53, 17)


def take_everything(packet: bytes) -> None:
    """Every reader sees the packet; only MalformedDNS may come out."""
    for read in (
        message.read_query,
        message.read_answer,
        lambda one: message.learnable(message.read_answer(one)),
        message.without_aaaa,
        message.truncated,
        lambda one: message.reply_with_rcode(one, 5),
        lambda one: name.read(one, 12),
    ):
        try:
            read(packet)
        except MalformedDNS:
            continue
    verdict = gate.judge_query(TABLE, b"\x0a\0\0\1", SERVER, packet, gate.GateSettings())
    if isinstance(verdict, gate.Forward):
        gate.judge_answer(verdict.query, packet[:2] + b"\x80" + packet[3:], gate.GateSettings())


def mutated(packet: bytes, chance: random.Random) -> bytes:
    """The packet with a few things wrong: octets, counts, pointers, length."""
    wrong = bytearray(packet)
    for _ in range(chance.randint(1, 6)):
        kind, place = chance.randrange(5), chance.randrange(len(wrong))
        if kind == 0:
            wrong[place] = chance.randrange(256)
        elif kind == 1:
            wrong[place : place + 2] = (0xC000 | chance.randrange(len(wrong) + 3)).to_bytes(2, "big")
        elif kind == 2:
            wrong[4 + chance.randrange(8)] = chance.choice([0, 1, 2, 255])
        elif kind == 3:
            del wrong[place : place + chance.randrange(4)]
        else:
            wrong[place:place] = chance.randbytes(chance.randrange(1, 5))
        if not wrong:
            break
    return bytes(wrong)


@given(st.binary(max_size=300))
def test_no_bytes_crash_a_reader(packet: bytes) -> None:
    take_everything(packet)


@settings(max_examples=150)
@given(RESPONSES, st.integers(0, 2**32))
def test_no_mutation_of_an_answer_crashes_a_reader(made: dns.message.Message, seed: int) -> None:
    packet, chance = made.to_wire(), random.Random(seed)
    for _ in range(20):
        take_everything(mutated(packet, chance))


@settings(max_examples=150)
@given(RESPONSES, st.integers(0, 2**32))
def test_what_is_left_of_a_damaged_answer_has_no_aaaa(made: dns.message.Message, seed: int) -> None:
    packet = mutated(made.to_wire(), random.Random(seed))
    try:
        left = message.without_aaaa(packet)
    except MalformedDNS:
        return
    header = wire.read_header(left)
    answers = wire.read_records(left, wire.read_question(left, header).end, header.answers)
    assert not [record for record in answers if record.type == wire.TYPE_AAAA]


def test_a_whole_message_of_pointers_to_pointers_is_read_in_a_moment() -> None:
    """65,535 octets: a long name, then records whose owners all point into it."""
    labels = b"\1a" * 126 + b"\0"
    head = bytes(2) + b"\x80\0\0\1" + b"\xff\xff" + bytes(4) + b"\0\0\1\0\1" + labels[:0]
    padding = b"\0\0\x10\0\1\0\0\0\0" + len(labels).to_bytes(2, "big") + labels
    start = len(head) + 11
    records = b""
    count = 1
    while len(head) + len(padding) + len(records) < 65_500:
        pointer = (0xC000 | start + 2 * (count % 126)).to_bytes(2, "big")
        records += pointer + b"\0\5\0\1\0\0\0\0\0\2" + pointer
        count += 1
    packet = head[:6] + count.to_bytes(2, "big") + head[8:] + padding + records
    assert len(message.read_answer(packet).records) == count
    message.learnable(message.read_answer(packet))
    with pytest.raises(MalformedDNS):
        message.read_answer(packet[:-1])
