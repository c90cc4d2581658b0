"""DNS messages in a scenario's words: they give the same octets again, or the octets stand there."""

from __future__ import annotations

import dns.edns
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.repro.scenario import messages, records
from lab.repro.scenario.model import Answer, Step

LABELS = st.text("abcXYZ019-_", min_size=1, max_size=12)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
RECORDS = st.one_of(
    st.ip_addresses(v=4).map(lambda one: ("A", str(one))),
    st.ip_addresses(v=6).map(lambda one: ("AAAA", str(one))),
    NAMES.map(lambda one: ("CNAME", f"{one}.")),
    st.just(("MX", "10 mail.example.com.")),
    st.just(("TXT", '"some text"')),
    st.just(("HTTPS", "1 . ipv4hint=198.51.100.1")),
)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A query and an answer as dnspython writes them."""
    query = dns.message.make_query(
        draw(NAMES), draw(st.sampled_from(["A", "AAAA", "HTTPS"])), id=draw(st.integers(0, 65_535))
    )
    if draw(st.booleans()):
        query.use_edns(0, payload=draw(st.integers(512, 4096)))
    answer = dns.message.make_response(query, recursion_available=draw(st.booleans()))
    for kind, data in draw(st.lists(RECORDS, max_size=4)):
        answer.answer.append(
            dns.rrset.from_text(draw(NAMES) + ".", draw(st.integers(0, 86_400)), "IN", kind, data)
        )
    answer.set_rcode(draw(st.integers(0, 5)))
    return query.to_wire(), answer.to_wire()


@given(exchanges())
def test_words_of_an_exchange_give_its_octets_again(exchange: tuple[bytes, bytes]) -> None:
    query, answer = exchange
    step = Step.model_validate(messages.query_words(query))
    assert messages.query(step, int.from_bytes(query[:2])) == query
    assert messages.answer(messages.answer_words(answer, query), query) == answer


@given(exchanges())
def test_common_answers_need_no_octets(exchange: tuple[bytes, bytes]) -> None:
    query, answer = exchange
    plain = {dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.CNAME}
    if all(one.rdtype in plain for one in dns.message.from_wire(answer).answer):
        assert messages.answer_words(answer, query).octets is None


@given(st.binary(max_size=80), st.binary(min_size=2, max_size=80))
def test_any_octets_stay_what_they_are(query: bytes, answer: bytes) -> None:
    asked = b"\0\x07" + query
    step = Step.model_validate(messages.query_words(asked))
    assert messages.query(step, 7) == asked
    made = messages.answer(messages.answer_words(b"\0\x07" + answer, asked), asked)
    assert made == b"\0\x07" + answer or messages.question(asked) is not None


def test_an_answer_takes_the_id_and_the_case_of_whoever_asks_now() -> None:
    recorded = dns.message.make_query("api.example.com", "A", id=1).to_wire()
    said = Answer(records=("api.example.com 60 A 198.51.100.1",))
    as_octets = Answer(octets=messages.answer(said, recorded)[2:].hex())
    now = dns.message.make_query("API.example.COM", "A", id=99).to_wire()
    for one in (said, as_octets):
        made = messages.answer(one, now)
        assert (made[:2], made[12:33]) == (now[:2], now[12:33])
    assert messages.answer(said.model_copy(update={"wrong_id": True}), now)[:2] != now[:2]


@pytest.mark.parametrize(
    ("records_", "more", "outcome"),
    [
        (["a.io 60 A 198.51.100.2", "a.io 60 A 198.51.100.1"], {}, "NOERROR 198.51.100.1 198.51.100.2"),
        (["a.io 60 CNAME b.io", "b.io 60 A 198.51.100.1"], {}, "NOERROR CNAME 198.51.100.1"),
        ([], {"rcode": "NXDOMAIN"}, "NXDOMAIN"),
        ([], {"flags": "tc rd ra"}, "NOERROR tc"),
    ],
)
def test_an_outcome_is_what_a_client_is_told(records_: list[str], more: dict[str, str], outcome: str) -> None:
    query = messages.query(Step(ask="a.io A"), 1)
    answer = Answer.model_validate({"records": records_, **more})
    assert messages.outcome(query, messages.answer(answer, query)) == outcome


def test_hints_of_https_records_are_told_too() -> None:
    query = messages.query(Step(ask="a.io HTTPS"), 1)
    answer = Answer(records=("a.io 60 HTTPS \\# 00010000040008c6336401c6336402", "a.io 60 A 198.51.100.9"))
    told = messages.told_addresses(messages.answer(answer, query))
    assert told == {"198.51.100.1", "198.51.100.2", "198.51.100.9"}
    assert messages.told_addresses(b"\0" * 12) == set()


def test_what_is_no_answer_to_the_question_is_said_to_be_so() -> None:
    query, other = messages.query(Step(ask="a.io A"), 1), messages.query(Step(ask="b.io A"), 1)
    upper = messages.query(Step(ask="A.io A"), 1)
    assert messages.outcome(query, None) == "silent"
    assert messages.outcome(query, messages.answer(Answer(), other)) == "NOERROR other-question"
    assert messages.outcome(query, messages.answer(Answer(), upper)) == "NOERROR other-case"
    assert messages.outcome(query, b"\0\1") == "not DNS"


@pytest.mark.parametrize("text", [r"a\.b.example.com", r"\000\255.io", "A.b", "."])
def test_names_are_written_so_that_they_read_the_same(text: str) -> None:
    labels = records.labels_of(text)
    assert records.labels_of(records.name_text(labels)) == labels
