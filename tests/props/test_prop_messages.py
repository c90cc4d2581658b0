"""Messages against dnspython, and the readers against bytes that mean harm."""

from __future__ import annotations

import random
from collections import Counter

import dns.message
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from acns.dns import message

from ..fuzz import oracle, readers
from ..fuzz.messages import mutated

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
    packet = made.to_wire()
    try:
        found = set(message.learnable(message.read_answer(packet)).addresses)
    except message.MalformedDNS:
        found = None  # a chain without end
    assert oracle.learnable(parsed(packet)) in (found, None)


@given(RESPONSES)
def test_a_truncated_answer_is_small_and_valid(made: dns.message.Message) -> None:
    cut = message.truncated(made.to_wire())
    assert len(cut) <= 512
    assert parsed(cut).answer == []


# --- hostile bytes (more of them in tests/fuzz) -----------------------------------------------------------


@settings(max_examples=150)
@given(RESPONSES, st.integers(0, 2**32))
def test_no_mutation_of_an_answer_harms_a_reader(made: dns.message.Message, seed: int) -> None:
    packet, chance = made.to_wire(), random.Random(seed)
    for _ in range(20):
        readers.take_everything(mutated(packet, chance))
