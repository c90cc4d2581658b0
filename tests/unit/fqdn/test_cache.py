"""How long a learned address stays, and what is written to the kernel for it."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest

from acns.dns import name, pattern
from acns.dns.name import Name
from acns.fqdn import untold
from acns.fqdn.cache import Change, End, NameCache, Stay

WWW, API, OTHER = (name.from_text(f"{host}.example.com") for host in ("www", "api", "other"))
STAR = pattern.match_pattern("*.example.com")
ONLY_WWW = pattern.match_name("www.example.com")
NOBODY: frozenset[bytes] = frozenset()


def ip(last: int) -> bytes:
    return IPv4Address("192.0.2.0").packed[:3] + bytes((last,))


def cache(**limits: float) -> NameCache:
    """One with the selector *.example.com, and nothing that delays or spares a write unless asked for."""
    made = NameCache(**{"settle_s": 0.0, "refresh_slack_s": 0.0, **limits})  # type: ignore[arg-type]
    made.set_selectors({STAR})
    return made


def puts(change: Change) -> dict[str, dict[int, float]]:
    return {s.text: {a[3]: at for a, at in addresses.items()} for s, addresses in change.put.items()}


def end(learned_at: float, ttl_s: float) -> float:
    """Of an element: what the kernel is told, but for the margin."""
    return learned_at + ttl_s + untold.kept_s(ttl_s)


def deletes(change: Change) -> dict[str, set[int]]:
    return {s.text: {a[3] for a in addresses} for s, addresses in change.delete.items()}


# --- learning ------------------------------------------------------------------------------------------


def test_an_address_is_written_to_each_selector_that_matches_its_name_and_to_no_other() -> None:
    one = cache()
    one.set_selectors({STAR, ONLY_WWW, pattern.match_name("api.example.com")})
    change = one.learn(WWW, [ip(1), ip(2)], 30, now=100)
    assert puts(change) == {
        "*.example.com.": {1: end(100, 30), 2: end(100, 30)},
        "www.example.com.": {1: end(100, 30), 2: end(100, 30)},
    }
    assert not change.delete


def test_the_latest_expiry_wins_and_a_shorter_ttl_never_shortens() -> None:
    one = cache()
    one.learn(WWW, [ip(1)], 60, now=100)
    assert not one.learn(WWW, [ip(1)], 10, now=110)
    assert one.elements(STAR) == {ip(1): end(100, 60)}
    assert puts(one.learn(WWW, [ip(1)], 60, now=120)) == {"*.example.com.": {1: end(120, 60)}}


def test_a_name_no_selector_matches_is_remembered_and_written_nowhere() -> None:
    one = cache()
    assert not one.learn(name.from_text("www.example.org"), [ip(1)], 60, now=0)
    assert one.name_count == 1


def test_min_ttl_raises_a_smaller_ttl_only() -> None:
    one = cache(min_ttl_s=30)
    assert puts(one.learn(WWW, [ip(1)], 5, now=0)) == {"*.example.com.": {1: end(0, 30)}}
    assert puts(one.learn(WWW, [ip(2)], 90, now=0)) == {"*.example.com.": {2: end(0, 90)}}


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0"]
)
def test_what_may_never_be_learned_is_left_out_whoever_says_it(address: str) -> None:
    one = cache()
    assert not one.learn(WWW, [IPv4Address(address).packed, bytes(16), b""], 60, now=0)
    assert one.address_count == one.name_count == 0


def test_an_expiry_that_grew_by_less_than_the_slack_is_not_written_again_until_it_adds_up() -> None:
    one = cache(refresh_slack_s=1.0)
    assert one.learn(WWW, [ip(1)], 30, now=100.0)
    assert not one.learn(WWW, [ip(1)], 30, now=100.9)
    assert one.elements(STAR) == {ip(1): end(100.9, 30)}
    assert puts(one.learn(WWW, [ip(1)], 30, now=101.5)) == {"*.example.com.": {1: end(101.5, 30)}}


def test_what_could_not_be_written_is_written_when_it_is_learned_again() -> None:
    one = cache()
    failed = one.learn(WWW, [ip(1)], 60, now=100)
    one.unwritten(failed)
    assert puts(one.learn(WWW, [ip(1)], 10, now=101)) == {"*.example.com.": {1: end(100, 60)}}


# --- collection ----------------------------------------------------------------------------------------


def test_an_expired_address_leaves_at_a_collection_and_not_before_its_time() -> None:
    one = cache()
    one.learn(WWW, [ip(1)], 60, now=100)
    assert not one.collect(160, NOBODY)
    assert deletes(one.collect(160.1, NOBODY)) == {"*.example.com.": {1}}
    assert one.elements(STAR) == {}
    assert one.address_count == one.name_count == 0


def test_nothing_leaves_without_a_collection() -> None:
    one = cache()
    one.learn(WWW, [ip(1)], 1, now=0)
    change = one.learn(API, [ip(2)], 60, now=1_000)
    assert not change.delete
    assert ip(1) in one.elements(STAR)


def test_a_live_address_stays_and_is_refreshed_in_the_kernel() -> None:
    one = cache()
    one.learn(WWW, [ip(1)], 60, now=0)
    for now in (100, 200, 300):
        change = one.collect(now, {ip(1)})
        assert (puts(change), deletes(change)) == ({"*.example.com.": {1: now}}, {})
    assert deletes(one.collect(400, NOBODY)) == {"*.example.com.": {1}}


def test_one_live_address_keeps_its_names_others_and_no_other_names() -> None:
    one = cache()
    one.learn(WWW, [ip(1), ip(2)], 60, now=0)
    one.learn(API, [ip(3)], 60, now=0)
    assert deletes(one.collect(100, {ip(1)})) == {"*.example.com.": {3}}
    assert set(one.elements(STAR)) == {ip(1), ip(2)}


def test_the_idle_grace_runs_from_the_last_connection_seen_or_the_expiry() -> None:
    one = cache(idle_grace_s=50)
    one.learn(WWW, [ip(1)], 60, now=0)
    one.learn(API, [ip(2)], 60, now=0)
    assert not one.collect(100, {ip(1)}).delete
    assert deletes(one.collect(120, NOBODY)) == {"*.example.com.": {2}}
    assert not one.collect(150, NOBODY).delete
    assert deletes(one.collect(151, NOBODY)) == {"*.example.com.": {1}}


def test_an_address_learned_just_now_stays_even_with_ttl_zero() -> None:
    one = cache(settle_s=2.0)
    one.learn(WWW, [ip(1)], 0, now=100)
    assert not one.collect(101, NOBODY).delete
    one.learn(WWW, [ip(1)], 0, now=102)
    assert not one.collect(103.5, NOBODY).delete
    assert deletes(one.collect(104.5, NOBODY)) == {"*.example.com.": {1}}


def test_a_name_asked_for_again_and_again_does_not_keep_its_old_addresses() -> None:
    one = cache(settle_s=2.0)
    one.learn(WWW, [ip(1)], 1, now=100)
    for now in range(101, 110):
        one.learn(WWW, [ip(2)], 1, now=now)
    assert deletes(one.collect(110, NOBODY)) == {"*.example.com.": {1}}


def test_an_address_two_names_share_leaves_with_the_last_of_them() -> None:
    one = cache()
    one.set_selectors({STAR, ONLY_WWW})
    one.learn(WWW, [ip(1)], 60, now=0)
    one.learn(API, [ip(1)], 120, now=0)
    assert deletes(one.collect(100, NOBODY)) == {"www.example.com.": {1}}
    assert one.elements(STAR) == {ip(1): end(0, 120)}
    assert deletes(one.collect(200, NOBODY)) == {"*.example.com.": {1}}


# --- selectors -----------------------------------------------------------------------------------------


def test_a_selector_that_comes_applies_at_once_to_known_names() -> None:
    one = cache()
    one.learn(WWW, [ip(1)], 60, now=0)
    one.learn(API, [ip(2)], 60, now=0)
    change = one.set_selectors({STAR, ONLY_WWW})
    assert (puts(change), deletes(change)) == ({"www.example.com.": {1: 60}}, {})
    assert puts(one.learn(WWW, [ip(3)], 60, now=1)) == {
        "*.example.com.": {3: end(1, 60)},
        "www.example.com.": {3: end(1, 60)},
    }


def test_a_selector_that_goes_takes_its_elements_with_it_and_leaves_the_others() -> None:
    one = cache()
    one.set_selectors({STAR, ONLY_WWW})
    one.learn(WWW, [ip(1)], 60, now=0)
    assert deletes(one.set_selectors({ONLY_WWW})) == {"*.example.com.": {1}}
    assert one.elements(STAR) == {}
    assert deletes(one.collect(100, NOBODY)) == {"www.example.com.": {1}}


def test_selectors_that_stay_are_not_touched() -> None:
    one = cache()
    one.learn(WWW, [ip(1)], 60, now=0)
    assert not one.set_selectors({STAR})


def test_a_selector_that_went_and_came_back_has_its_addresses_again() -> None:
    one = cache()
    one.learn(WWW, [ip(1)], 60, now=0)
    one.set_selectors(set())
    assert puts(one.set_selectors({STAR})) == {"*.example.com.": {1: 60}}


# --- what the kernel had ---------------------------------------------------------------------------------


@pytest.mark.parametrize("selectors_first", [True, False])
def test_an_adopted_element_is_not_rewritten_and_ends_like_any_other(selectors_first: bool) -> None:
    one = NameCache(settle_s=0, refresh_slack_s=0)
    if selectors_first:
        one.set_selectors({STAR})
    one.adopt(STAR, ip(1), expires_at=60)
    one.adopt(STAR, ip(2), expires_at=60)
    one.set_selectors({STAR})
    assert one.elements(STAR) == {ip(1): 60, ip(2): 60}
    if selectors_first:
        assert not one.set_selectors({STAR})
    assert not one.collect(60, NOBODY)
    change = one.collect(61, {ip(1)})
    assert (puts(change), deletes(change)) == ({"*.example.com.": {1: 61}}, {"*.example.com.": {2}})
    assert deletes(one.collect(62, NOBODY)) == {"*.example.com.": {1}}
    assert one.address_count == 0


def test_an_adopted_address_that_is_learned_again_stays_with_its_name() -> None:
    one = cache()
    one.adopt(STAR, ip(1), expires_at=60)
    assert puts(one.learn(WWW, [ip(1)], 100, now=10)) == {"*.example.com.": {1: end(10, 100)}}
    assert not one.collect(100, NOBODY).delete
    assert deletes(one.collect(111, NOBODY)) == {"*.example.com.": {1}}


def test_what_an_earlier_life_promised_is_kept_by_the_next_which_knows_the_elements_only() -> None:
    """An answer may leave untold while it ends no more than a quarter of its TTL after what was told."""
    slack_s = 1.0
    one = cache(refresh_slack_s=slack_s)
    (told,) = puts(one.learn(WWW, [ip(1)], 4, now=0)).values()
    assert not one.learn(WWW, [ip(1)], 4, now=slack_s)  # nor told to the kernel
    assert one.promise(WWW, [ip(1)], now=slack_s)
    untold_end = slack_s + 4 + untold.allowed_s(4)
    later = cache(refresh_slack_s=slack_s)
    later.adopt(STAR, ip(1), told[1])
    assert not later.collect(untold_end, NOBODY)
    assert deletes(later.collect(untold_end + 0.5, NOBODY)) == {"*.example.com.": {1}}


def test_an_element_that_is_adopted_again_stays_until_its_later_end() -> None:
    one = cache()
    one.adopt(STAR, ip(1), expires_at=60)
    one.adopt(STAR, ip(1), expires_at=100)
    one.adopt(STAR, ip(1), expires_at=80)
    assert one.elements(STAR) == {ip(1): 100}
    assert not one.collect(100, NOBODY)
    assert deletes(one.collect(101, NOBODY)) == {"*.example.com.": {1}}


def test_adopting_what_is_known_for_longer_does_not_hide_that_the_kernel_has_less() -> None:
    one = cache()
    one.unwritten(one.learn(WWW, [ip(1)], 100, now=0))
    one.adopt(STAR, ip(1), expires_at=60)
    assert puts(one.learn(WWW, [ip(1)], 50, now=1)) == {"*.example.com.": {1: end(0, 100)}}


# --- why -----------------------------------------------------------------------------------------------


def stays(one: NameCache, now: float) -> dict[int, Stay]:
    return {known.address[3]: known.stay for known in one.known(now)}


def test_it_can_say_why_an_address_is_there() -> None:
    one = cache(idle_grace_s=10, settle_s=3)
    one.learn(WWW, [ip(1), ip(2)], 50, now=0)
    one.learn(API, [ip(3)], 0, now=50)
    one.learn(OTHER, [ip(4)], 0, now=38)
    one.collect(40, {ip(1)})
    assert stays(one, 50) == {1: Stay.FRESH, 2: Stay.FRESH, 3: Stay.FRESH, 4: Stay.DUE}
    assert stays(one, 51) == {1: Stay.IN_USE, 2: Stay.NAME_IN_USE, 3: Stay.GRACE, 4: Stay.DUE}
    one.collect(52, NOBODY)
    assert stays(one, 60) == {1: Stay.GRACE, 2: Stay.GRACE, 3: Stay.GRACE}
    assert stays(one, 61) == {1: Stay.DUE, 2: Stay.DUE, 3: Stay.DUE}


def test_no_collection_lets_an_address_go_before_it_says() -> None:
    one = cache(idle_grace_s=10)
    one.learn(WWW, [ip(1)], 50, now=0)
    (known,) = one.known(now=0)
    assert not one.collect(known.stays_until, NOBODY).delete
    assert one.collect(known.stays_until + 0.1, NOBODY).delete


def test_whoever_wants_to_know_is_told_why_an_address_went() -> None:
    told: list[tuple[Name | None, int, End]] = []
    one = NameCache(
        settle_s=0.0,
        max_addresses_per_name=1,
        max_names=2,
        ended=lambda name, address, _, why: told.append((name, address[3], why)),
    )
    one.set_selectors({STAR})
    one.learn(WWW, [ip(1)], 10, now=0)
    one.learn(WWW, [ip(2)], 20, now=0)
    one.collect(1, NOBODY)
    one.collect(21, NOBODY)
    one.learn(API, [ip(3)], 10, now=21)
    one.learn((b"x", b"org"), [ip(4)], 10, now=21)
    one.learn((b"y", b"org"), [ip(5)], 10, now=21)
    assert told[:2] == [(WWW, 1, End.LIMIT_PER_NAME), (WWW, 2, End.EXPIRED)]
    assert {why for _, _, why in told[2:]} == {End.LIMIT}
    assert API not in {name for name, _, _ in told}


# --- bounds --------------------------------------------------------------------------------------------


def test_a_name_over_its_limit_loses_the_earliest_expiry_first_and_never_one_in_use() -> None:
    one = cache(max_addresses_per_name=2)
    for last in (1, 2, 3, 4):
        one.learn(WWW, [ip(last)], 100 + last, now=0)
    assert deletes(one.collect(1, {ip(1)})) == {"*.example.com.": {2, 3}}
    assert set(one.elements(STAR)) == {ip(1), ip(4)}
    assert one.collect(2, {ip(1), ip(4)}).delete == {}


def test_the_limit_is_for_each_endpoint_that_asks() -> None:
    one = cache(max_addresses_per_name=2)
    for last, asking in ((1, "ns/a"), (2, "ns/a"), (3, "ns/b"), (4, "ns/b"), (5, "ns/a")):
        one.learn(WWW, [ip(last)], 100 + last, 0, asking)
    assert deletes(one.collect(1, NOBODY)) == {"*.example.com.": {1}}
    one.learn(WWW, [ip(2), ip(5)], 200, 2, "ns/b")  # now these count for it
    assert deletes(one.collect(3, NOBODY)) == {"*.example.com.": {3, 4}}


def test_between_collections_a_name_cannot_grow_past_twice_its_limit() -> None:
    one = cache(max_addresses_per_name=10)
    for batch in range(20):
        one.learn(WWW, [ip(batch * 10 + i) for i in range(10)], 60, now=batch)
        assert len(one.elements(STAR)) <= 20
    assert set(one.elements(STAR)) >= {ip(190 + i) for i in range(10)}


def test_of_one_answer_all_addresses_are_there_until_a_collection() -> None:
    one = cache(max_addresses_per_name=10)
    one.learn(WWW, [ip(i) for i in range(50)], 60, now=0)
    one.learn(WWW, [ip(100 + i) for i in range(50)], 60, now=1)
    assert set(one.elements(STAR)) >= {ip(100 + i) for i in range(50)}
    assert one.promise(WWW, [ip(100)], now=1) == 0.0
    one.collect(2, NOBODY)
    assert len(one.elements(STAR)) == 10


def test_names_are_bounded_and_what_no_selector_wants_goes_first() -> None:
    one = cache(max_names=10)
    one.learn(WWW, [ip(1)], 60, now=0)
    for i in range(100):
        one.learn((b"n%d" % i, b"org"), [ip(2)], 1e9, now=1)
    assert one.name_count <= 10
    assert one.elements(STAR) == {ip(1): end(0, 60)}


def test_a_wanted_name_takes_its_room_from_unwanted_ones_however_new_they_are() -> None:
    one = cache(max_names=10)
    one.learn(WWW, [ip(1)], 60, now=0)
    for i in range(9):
        one.learn((b"n%d" % i, b"org"), [ip(2)], 1e9, now=1)
    assert not one.learn(API, [ip(3)], 60, now=2).delete
    assert set(one.elements(STAR)) == {ip(1), ip(3)}


def test_of_wanted_names_those_in_use_go_last_and_the_newest_always_stays() -> None:
    one = cache(max_names=10)
    one.learn(WWW, [ip(1)], 60, now=0)
    one.collect(0, {ip(1)})
    gone: set[int] = set()
    for i in range(2, 60):
        newest: Name = (b"n%d" % i, b"example", b"com")
        change = one.learn(newest, [ip(i)], 1e9, now=1)
        gone |= deletes(change).get("*.example.com.", set())
        assert ip(i) in one.elements(STAR)
    assert one.name_count <= 10
    assert ip(1) in one.elements(STAR)
    assert len(gone) + len(one.elements(STAR)) == 59


def test_a_new_name_stays_even_where_all_the_others_are_in_use() -> None:
    one = cache(max_names=3)
    for last in (1, 2, 3):
        one.learn((b"n%d" % last, b"example", b"com"), [ip(last)], 60, now=0)
    one.collect(0, {ip(1), ip(2), ip(3)})
    change = one.learn(WWW, [ip(9)], 60, now=1)
    assert puts(change) == {"*.example.com.": {9: end(1, 60)}}
    assert ip(9) in one.elements(STAR)
    assert one.name_count <= 3


def test_a_flood_of_unwanted_names_does_not_cost_a_wanted_one() -> None:
    one = cache(max_names=5)
    for last in range(5):
        one.learn((b"n%d" % last, b"example", b"com"), [ip(last)], 60, now=0)
    for i in range(50):
        assert not one.learn((b"n%d" % i, b"org"), [ip(99)], 1e9, now=1)
    assert len(one.elements(STAR)) == one.name_count == 5


def flooded(one: NameCache, times: int, addresses: int, by: str) -> None:
    for i in range(times):
        found = [ip(50 + j) for j in range(addresses)]
        one.learn((b"n%d" % i, b"example", b"com"), found, 1e9, now=1 + i / 1000, asked_by=by)


def test_a_flood_of_one_endpoints_names_costs_it_its_own_and_no_other_endpoint_any() -> None:
    one = cache(max_names=20)
    for i in range(4):
        one.learn((b"quiet%d" % i, b"example", b"com"), [ip(i)], 60, now=0, asked_by="quiet")
    flooded(one, times=200, addresses=1, by="loud")
    assert one.name_count <= 20
    assert {ip(i) for i in range(4)} <= set(one.elements(STAR))


def test_a_flood_of_one_endpoints_addresses_costs_it_its_own_and_no_other_endpoint_any() -> None:
    one = cache(max_addresses=100)
    one.learn(WWW, [ip(1), ip(2)], 60, now=0, asked_by="quiet")
    flooded(one, times=50, addresses=20, by="loud")
    assert one.address_count <= 100
    assert set(one.addresses_of(WWW)) == {ip(1), ip(2)}


def test_whoever_floods_loses_what_is_in_use_before_another_loses_what_is_idle() -> None:
    one = cache(max_names=10)
    one.learn(WWW, [ip(1)], 60, now=0, asked_by="quiet")
    one.collect(0, {ip(50)})
    flooded(one, times=100, addresses=1, by="loud")
    assert one.name_count <= 10
    assert ip(1) in one.elements(STAR)


def test_an_idle_name_goes_before_any_that_is_fresh_or_in_use_whoever_holds_it() -> None:
    one = cache(max_names=10, idle_grace_s=3600)
    one.learn(WWW, [ip(1)], 60, now=0, asked_by="quiet")
    one.learn(API, [ip(2)], 60, now=0, asked_by="quiet")
    one.learn(OTHER, [ip(3)], 300, now=0, asked_by="quiet")
    one.collect(100, {ip(2), *(ip(50 + i) for i in range(8))})
    for i in range(8):
        one.learn((b"n%d" % i, b"example", b"com"), [ip(50 + i)], 60, now=100, asked_by="loud")
    assert set(one.elements(STAR)) == {ip(2), ip(3), *(ip(50 + i) for i in range(8))}


def test_whoever_floods_cannot_take_over_names_of_others_before() -> None:
    one = cache(max_names=20)
    flooded(one, times=10, addresses=1, by="loud")
    for by in ("quiet", "loud"):
        one.learn(WWW, [ip(1)], 60, now=2, asked_by=by)
    for i in range(200):
        one.learn((b"m%d" % i, b"example", b"com"), [ip(60)], 1e9, now=3, asked_by="loud")
    assert ip(1) in one.elements(STAR)


def test_where_everybody_holds_much_each_keeps_the_same() -> None:
    one = cache(max_names=20)
    for by in ("a", "b"):
        for i in range(100):
            one.learn((b"%d%s" % (i, by.encode()), b"example", b"com"), [ip(i)], 1e9, now=i, asked_by=by)
    held = Counter(known.asked_by for known in one.known(100))
    assert abs(held["a"] - held["b"]) <= 2 + 0.2 * 20


def test_what_was_learned_just_now_does_not_leave_for_being_short() -> None:
    one = cache(max_addresses_per_name=2)
    for last in (1, 2, 3):
        one.learn(WWW, [ip(last)], 100, now=0)
    change = one.learn(WWW, [ip(4), ip(5)], 1, now=1)
    assert puts(change) == {"*.example.com.": {4: end(1, 1), 5: end(1, 1)}}
    assert deletes(change) == {"*.example.com.": {1, 2, 3}}


def test_names_that_all_share_a_live_address_are_bounded_too() -> None:
    one = cache(max_names=10)
    one.learn(WWW, [ip(1)], 60, now=0)
    one.collect(0, {ip(1)})
    for i in range(100):
        one.learn((b"n%d" % i, b"example", b"com"), [ip(1)], 60, now=1)
    assert one.name_count <= 10


def test_addresses_are_bounded_in_all() -> None:
    one = cache(max_addresses=50)
    for i in range(40):
        one.learn((b"n%d" % i, b"example", b"com"), [ip(j) for j in range(1, 11)], 60, now=i)
        assert one.address_count <= 50
    for last in range(200):
        one.adopt(STAR, ip(last), 60)
    assert one.address_count <= 50
