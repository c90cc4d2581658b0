"""What the resolver remembers: bounded memory, and what is known to be open."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.dns import wire
from acns.resolver import judged
from acns.resolver.judged import Case
from acns.resolver.known import LEAD_S, MAX_ADDRESSES, UNKNOWN, Known, Promise
from acns.resolver.memory import Memory
from acns.resolver.metrics import TCP
from acns.resolver.proxy import Proxy
from tests.unit.resolver import alone
from tests.unit.resolver.alone import ADDRESS, ANSWER, QUERY, QUESTION

WWW = (b"www", b"example", b"com")
ONE, TWO = b"\xc0\0\2\1", b"\xc0\0\2\2"

# --- memory ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 60)), st.integers(1, 20))
def test_it_never_holds_more_than_two_generations(keys: list[int], limit: int) -> None:
    memory: Memory[int, int] = Memory(limit)
    for key in keys:
        if memory.get(key) is None:
            memory.put(key, -key)
        assert len(memory) <= 2 * limit
        assert memory.get(key) == -key


def test_what_is_asked_for_stays_however_many_others_come() -> None:
    memory: Memory[str, int] = Memory(100)
    memory.put("hot", 1)
    for number in range(10_000):
        memory.put(str(number), number)
        if number % 50 == 0:
            assert memory.get("hot") == 1


def test_what_is_not_asked_for_goes() -> None:
    memory: Memory[int, int] = Memory(10)
    memory.put(-1, 1)
    for number in range(20):
        memory.put(number, number)
    assert memory.get(-1) is None


def test_weights_count() -> None:
    memory: Memory[bytes, int] = Memory(1_000, lambda key, _: len(key))
    for number in range(100):
        memory.put(b"%100d" % number, number)
    assert len(memory) <= 20


def test_a_value_that_has_grown_weighs_what_it_weighs_now() -> None:
    memory: Memory[int, str] = Memory(100, lambda _, value: len(value))
    for size in range(1, 40):
        for number in range(10):
            memory.put(number, "x" * size)
    assert sum(len(memory.get(number) or "") for number in range(10)) <= 200
    memory.put(1, "x")
    assert memory.get(1) == "x"


def test_the_newest_value_of_a_key_counts_whichever_generation_had_the_old_one() -> None:
    memory: Memory[int, str] = Memory(2)
    for key in (1, 2, 3):
        memory.put(key, "old")
    memory.put(1, "new")
    assert memory.get(1) == "new"
    memory.discard(1)
    assert memory.get(1) is None


def test_what_goes_for_want_of_room_is_told_once_and_nothing_else_is() -> None:
    gone = list[int]()
    memory: Memory[int, str] = Memory(10, forgotten=lambda key, _: gone.append(key))
    for number in range(25):
        memory.put(number, "x")
        memory.get(0)
    memory.put(24, "y")
    memory.discard(23)
    assert sorted(gone) == [one for one in range(25) if one not in memory and one != 23]


# --- answers ---------------------------------------------------------------------------------------------

ROOM = 200_000


def asked_about_one_name(count: int, addresses: int) -> tuple[Proxy, list[Case]]:
    """So many questions, each with other EDNS, and all with an answer of so many addresses."""
    proxy, cases = alone.proxy(), list[Case]()
    records = [
        b"\xc0\x0c" + wire.record_tail(1, 1, 60, ADDRESS[:3] + bytes((one,))) for one in range(addresses)
    ]
    answer = ANSWER[:6] + addresses.to_bytes(2) + ANSWER[8:12] + QUESTION + b"".join(records)
    for number in range(count):
        opt = b"\0" + wire.record_tail(wire.TYPE_OPT, 4_096, number, b"")
        cases.append(alone.case_of(proxy, QUERY[:11] + b"\1" + QUERY[12:] + opt))
        proxy.transports[TCP].judgements.answer(cases[-1].question, answer[2:])
    return proxy, cases


def test_no_question_keeps_an_answer_that_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "_ANSWERS_BYTES", ROOM)
    proxy, cases = asked_about_one_name(500, addresses=80)
    keeping = [case.question for case in cases if case.question.last is not None]
    assert 0 < sum(len(question.last_rest) for question in keeping) < ROOM
    assert cases[-1].question in keeping
    forgotten = cases[0].question
    assert (forgotten.last, forgotten.last_rest) == (None, b"")
    again = proxy.transports[TCP].judgements.answer(forgotten, ANSWER[2:])
    assert (forgotten.last, forgotten.last_rest) == (again, ANSWER[2:])


def test_answers_count_by_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "_ANSWERS_BYTES", ROOM)
    _, cases = asked_about_one_name(500, addresses=80)
    kept = sum(case.question.last is not None for case in cases)
    assert kept * 80 * judged._ADDRESS_BYTES < 2 * ROOM


# --- what is known -----------------------------------------------------------------------------------------


def addresses(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(count)]


def test_all_addresses_have_to_be_promised() -> None:
    known = Known()
    known.promised(WWW, [ONE], Promise(100.0, 300.0))
    assert known.promise(WWW, [ONE]) == (100.0, 300.0)
    assert known.promise(WWW, [ONE, TWO]) == UNKNOWN
    assert known.promise(WWW[1:], [ONE]) == UNKNOWN


def test_the_shortest_promise_of_several_addresses_counts_and_the_longest_of_one() -> None:
    known = Known()
    known.promised(WWW, [ONE], Promise(100.0, 300.0))
    known.promised(WWW, [ONE, TWO], Promise(50.0, 400.0))
    assert known.promise(WWW, [ONE]) == (100.0, 400.0)
    assert known.promise(WWW, [ONE, TWO]) == (50.0, 400.0)


def test_forgetting_makes_another_epoch() -> None:
    known = Known()
    epochs = {known.epoch}
    known.promised(WWW, [ONE], Promise(100.0, 300.0))
    for forget in (lambda: known.forget(WWW), known.forget_all):
        forget()
        epochs.add(known.epoch)
        assert known.promise(WWW, [ONE]) == UNKNOWN
    assert len(epochs) == 3


def test_of_too_many_addresses_of_a_name_those_told_last_stay_and_those_promised_longest() -> None:
    known, all_of_them = Known(), addresses(MAX_ADDRESSES + 8)
    longest, shortest, more = all_of_them[:1], all_of_them[1:9], all_of_them[9:MAX_ADDRESSES]
    for told, kept_until in ((longest, 300.0), (shortest, 60.0), (more, 100.0)):
        known.promised(WWW, told, Promise(kept_until, 300.0))
    now = all_of_them[MAX_ADDRESSES - 1 :]
    known.promised(WWW, now, Promise(50.0, 300.0))
    assert known.promise(WWW, now) == (50.0, 300.0)
    assert known.promise(WWW, [*longest, *more[:-1]]) == (100.0, 300.0)
    assert all(known.promise(WWW, [one]) == UNKNOWN for one in shortest)


def test_the_agents_word_on_a_name_that_was_not_remembered_whole_has_all_its_answers_told_again() -> None:
    """It may be less than what an address was promised that is not remembered any more."""
    known, epochs = Known(), set()
    for count in (MAX_ADDRESSES - 1, MAX_ADDRESSES + 1):
        known.promised(WWW, addresses(count), Promise(100.0, 300.0))
        known.said(WWW, [ONE], Promise(100.0, 300.0))
        epochs.add(known.epoch)
    assert epochs == {0, 1}


def test_a_name_with_too_many_addresses_makes_no_other_epoch() -> None:
    """In which all answers would be told again, whatever their names."""
    known = Known()
    for number in range(10):
        known.promised(WWW, addresses(MAX_ADDRESSES + number), Promise(100.0, 300.0))
    assert known.epoch == 0


def test_names_with_many_addresses_count_by_them() -> None:
    known = Known(names=100)
    for number in range(1_000):
        known.promised((b"%d" % number,), addresses(MAX_ADDRESSES), Promise(100.0, 300.0))
    assert len(known) * MAX_ADDRESSES <= 2 * 100 * 4


def test_a_name_that_is_told_address_by_address_counts_by_all_of_them() -> None:
    known = Known(names=100)
    for number in range(1_000):
        for address in addresses(20):
            known.promised((b"%d" % number,), [address], Promise(100.0, 300.0))
    assert len(known) * 20 <= 2 * 100 * 4


@given(
    told_at=st.floats(0, 1e6),
    told_s=st.integers(0, 600_000),
    kept_s=st.integers(0, 300),
    ttl=st.integers(0, 600_000),
)
def test_no_answer_passes_silently_near_the_promises_end_nor_far_beyond_what_was_told(
    told_at: float, told_s: int, kept_s: int, ttl: int
) -> None:
    promise = Promise(told_at + min(kept_s, told_s), told_at + told_s)
    sure_until = promise.sure_until(ttl)
    assert sure_until <= promise.kept_until - LEAD_S
    assert sure_until + ttl <= promise.expires_at + 0.25 * ttl + 1e-3


def test_nothing_is_sure_of_what_is_unknown() -> None:
    assert UNKNOWN.sure_until(300) == -math.inf
