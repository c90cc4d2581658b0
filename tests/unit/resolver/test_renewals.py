"""Later ends in line to be told: each once at a time, the latest of each, none lost."""

from __future__ import annotations

from acns.api.codec import Mapping
from acns.resolver.renewals import Renewals

NAME = (b"www", b"example", b"com")


def mapping(*addresses: int, ttl_s: int = 60) -> Mapping:
    packed = tuple(bytes((192, 0, 2, one)) for one in addresses)
    return Mapping(name=NAME, addresses=packed, ttl_s=ttl_s, source_identity=9, source=b"\x0a\0\0\x05")


def test_those_who_are_asked_to_work_are_no_more_than_may_work_at_once() -> None:
    line = Renewals(at_once=2)
    workers = [line.add(mapping(number), 0.0) for number in range(1, 5)]
    assert len([one for one in workers if one is not None]) == 2
    assert len({one for one in workers if one is not None}) == 2


def test_one_worker_tells_all_that_is_in_line_and_then_ends() -> None:
    line = Renewals(at_once=1)
    worker = line.add(mapping(1), 0.0)
    line.add(mapping(2), 0.0)
    assert worker is not None
    told = [line.take(worker), line.take(worker)]
    assert [one.mapping for one in told if one] == [mapping(1), mapping(2)]
    assert line.take(worker) is None
    assert not line
    assert line.add(mapping(1), 1.0) is not None


def test_of_what_is_in_line_twice_the_latest_counts() -> None:
    line = Renewals(at_once=1)
    worker = line.add(mapping(1), 0.0)
    assert line.add(mapping(1, ttl_s=90), 5.0) is None
    assert worker is not None
    assert line.take(worker) == (mapping(1, ttl_s=90), 5.0)
    assert line.take(worker) is None


def test_a_shorter_ttl_later_does_not_take_the_place_of_a_later_end() -> None:
    line = Renewals(at_once=1)
    worker = line.add(mapping(1, ttl_s=300), 10.0)
    line.add(mapping(1, ttl_s=5), 11.0)
    assert worker is not None
    assert line.take(worker) == (mapping(1, ttl_s=300), 10.0)
    assert line.take(worker) is None


def test_a_worker_that_fails_leaves_its_place_to_another() -> None:
    line = Renewals(at_once=1)
    worker = line.add(mapping(1), 0.0)
    assert worker is not None
    line.take(worker)
    line.drop(worker)
    assert line.add(mapping(1), 1.0) == worker


def test_what_is_being_told_is_not_told_beside_itself_but_after() -> None:
    line = Renewals(at_once=2)
    first = line.add(mapping(1), 0.0)
    assert first is not None
    line.take(first)
    assert line.add(mapping(1), 1.0) is None
    second = line.add(mapping(2), 1.0)
    assert second is not None
    assert line.take(second) == (mapping(2), 1.0)
    assert line.take(second) is None
    assert line.take(first) == (mapping(1), 1.0)


def test_whatever_was_not_told_to_the_end_is_known_as_that() -> None:
    line = Renewals(at_once=1)
    worker = line.add(mapping(1), 0.0)
    line.add(mapping(2), 2.0)
    assert worker is not None
    line.take(worker)
    assert line.untold() == [(mapping(1), 0.0), (mapping(2), 2.0)]


def test_a_full_line_says_so() -> None:
    line = Renewals(at_once=1, room=2)
    line.add(mapping(1), 0.0)
    assert line.has_room
    line.add(mapping(2), 0.0)
    assert not line.has_room
