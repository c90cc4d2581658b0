"""What the cache promised stays, in every way in which an address could go early."""

from __future__ import annotations

import pytest

from acns.dns import pattern
from acns.dns.name import Name
from acns.fqdn import untold
from acns.fqdn.cache import PROMISED_AT_MOST_S, NameCache
from acns.resolver.known import Promise

EVERY = pattern.match_pattern("*.example.com")
WWW = (b"www", b"example", b"com")
ONE = b"\xc6\x33\x64\x01"


def name(number: int) -> Name:
    return (b"n%d" % number, b"example", b"com")


def address(number: int) -> bytes:
    return (0xC6120000 + number).to_bytes(4, "big")


def cache(**limits: float) -> NameCache:
    made = NameCache(**limits)  # type: ignore[arg-type]
    made.set_selectors([EVERY])
    return made


def promised(made: NameCache, ttl_s: float = 60.0, now: float = 0.0) -> float:
    made.learn(WWW, [ONE], ttl_s, now)
    return made.promise(WWW, [ONE], now)


def test_an_address_is_promised_for_its_ttl_but_not_for_ever() -> None:
    assert promised(cache(), 60.0) == 60.0
    assert promised(cache(), 86_400.0) == PROMISED_AT_MOST_S


def test_what_is_not_known_is_not_promised() -> None:
    made = cache()
    promised(made)
    assert made.promise(WWW, [ONE, address(1)], 0.0) == 0.0
    assert made.promise(name(1), [ONE], 0.0) == 0.0
    assert made.promise(WWW, [], 0.0) == 0.0


def test_a_flood_of_names_does_not_evict_what_was_promised() -> None:
    made = cache(max_names=100)
    assert promised(made) == 60.0
    for number in range(1_000):
        made.learn(name(number), [address(number)], 60.0, 1.0)
        assert made.name_count <= 101
    assert ONE in made.elements(EVERY)


def test_a_flood_of_addresses_does_not_evict_what_was_promised() -> None:
    made = cache(max_addresses=100)
    assert promised(made) == 60.0
    for number in range(1_000):
        made.learn(name(number // 10), [address(number)], 60.0, 1.0)
    assert ONE in made.elements(EVERY)
    assert made.address_count <= 101


def test_what_promised_names_bring_later_is_bounded() -> None:
    """A promise keeps its address, not whatever else its name is given."""
    made = cache(max_addresses=100)
    for number in range(40):
        made.learn(name(number), [address(number)], 60.0, 0.0)
        assert made.promise(name(number), [address(number)], 0.0) == 60.0
    for number in range(1_000):
        made.learn(name(number % 40), [address(100 + number)], 60.0, 1.0)
        assert made.address_count <= 101
    assert {address(number) for number in range(40)} <= made.elements(EVERY).keys()


def test_a_name_that_many_endpoints_learn_is_bounded_with_all() -> None:
    """Each of them may hold so many addresses of it, and all together no more than there is room for."""
    made = cache(max_addresses=1_000, max_addresses_per_name=100)
    for number in range(4_000):
        made.learn(WWW, [address(number)], 60.0, float(number) / 1000, f"endpoint {number % 40}")
        assert made.address_count <= 1_001
    assert address(3_999) in made.elements(EVERY)


def test_the_limit_of_its_own_name_does_not_evict_what_was_promised() -> None:
    made = cache(max_addresses_per_name=10)
    assert promised(made, 5.0) == 5.0
    for number in range(100):
        made.learn(WWW, [address(number)], 600.0, 1.0)
    made.collect(2.0, frozenset())
    assert ONE in made.elements(EVERY)
    assert len(made.addresses_of(WWW)) == 10


def test_a_selector_that_goes_and_comes_finds_what_was_promised() -> None:
    made = cache()
    promised(made)
    made.set_selectors([])
    for number in range(10):
        made.learn(name(number), [address(number)], 60.0, 1.0)
    made.collect(2.0, frozenset())
    made.set_selectors([EVERY])
    assert ONE in made.elements(EVERY)


def test_a_name_that_no_selector_wants_yet_is_kept_for_the_one_that_comes() -> None:
    made = NameCache(max_names=100)
    assert promised(made) == 60.0
    for number in range(1_000):
        made.learn(name(number), [address(number)], 60.0, 1.0)
    made.set_selectors([EVERY])
    assert ONE in made.elements(EVERY)


def test_more_than_half_full_nothing_is_promised_and_the_bounds_hold() -> None:
    made = cache(max_names=100)
    kept = 0
    for number in range(1_000):
        made.learn(name(number), [address(number)], 60.0, 1.0)
        kept += made.promise(name(number), [address(number)], 1.0) > 0
        assert made.name_count <= 101
    assert kept == 50


def test_past_half_who_floods_is_promised_nothing_and_others_are() -> None:
    made, outcomes = cache(max_names=100), set()
    made.learn(WWW, [ONE], 60.0, 0.0, asked_by="quiet")
    for number in range(1_000):
        made.learn(name(number), [address(number)], 60.0, 1.0, asked_by="loud")
        loud = made.promise(name(number), [address(number)], 1.0) > 0
        made.learn(WWW, [ONE], 60.0, 1.0, asked_by="quiet")
        quiet = made.promise(WWW, [ONE], 1.0) > 0
        outcomes.add((number < 49, made.name_count <= 90, loud, quiet))
    assert outcomes == {
        (True, True, True, True),
        (False, True, False, True),
        (False, False, False, False),
    }


def test_what_two_promise_each_other_in_turns_is_bounded_too() -> None:
    made = cache(max_names=100)
    for number in range(1_000):
        for by in ("one", "other"):
            made.learn(name(number), [address(number)], 60.0, 1.0, asked_by=by)
            made.promise(name(number), [address(number)], 1.0)
        assert made.name_count <= 101


def test_a_name_with_more_than_half_its_addresses_is_not_promised() -> None:
    made = cache(max_addresses_per_name=10)
    assert [bool(_learned(made, number)) for number in range(10)] == [True] * 5 + [False] * 5


def _learned(made: NameCache, number: int) -> float:
    made.learn(WWW, [address(number)], 60.0, 0.0)
    return made.promise(WWW, [address(number)], 0.0)


def test_when_the_promise_is_over_everything_is_as_before() -> None:
    made = cache(max_names=100)
    promised(made, 5.0)
    for number in range(200):
        made.learn(name(number), [address(number)], 60.0, 6.0)
    assert ONE not in made.elements(EVERY)


@pytest.mark.parametrize("ttl_s", [5.0, 600.0])
def test_a_promise_outlives_another_answer_of_a_shorter_ttl(ttl_s: float) -> None:
    made = cache(max_names=100)
    until = promised(made, ttl_s)
    made.learn(WWW, [ONE], 0.0, 1.0)
    for number in range(1_000):
        made.learn(name(number), [address(number)], 600.0, min(until, 4.0) - 0.5)
    assert ONE in made.elements(EVERY)


@pytest.mark.parametrize("told_s", [1, 5, 30, 60, 240, 300, 3_600, 86_400])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0, 1.3])
def test_an_address_stays_as_long_as_any_pod_may_use_it_whatever_was_left_untold(
    told_s: int, share: float
) -> None:
    """The last answer that leaves untold, and a collection every second."""
    made, ttl_s = cache(), told_s * share
    kept_s = promised(made, told_s)
    untold_until = Promise(kept_s, told_s).sure_until(ttl_s)
    used_until = max(untold_until + ttl_s, told_s)
    now = told_s - 1.0
    while now < used_until:
        now = min(now + 1.0, used_until)
        made.collect(now, frozenset())
        assert ONE in made.elements(EVERY), f"gone at {now} s, used until {used_until} s"
    made.collect(told_s + untold.kept_s(told_s) + 3.0, frozenset())
    assert ONE not in made.elements(EVERY)


def test_what_was_not_promised_goes_with_its_ttl() -> None:
    made = cache(settle_s=0.0)
    made.learn(WWW, [ONE], 60.0, 0.0)
    made.collect(60.5, frozenset())
    assert ONE not in made.elements(EVERY)
