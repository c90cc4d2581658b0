"""How much of what is known is alive, as the metrics show it."""

from __future__ import annotations

from acns.dns.pattern import match_name
from acns.fqdn.cache import Census, NameCache

API, WWW = (b"api", b"example", b"com"), (b"www", b"example", b"com")
ONE, TWO, THREE = b"\xc0\0\2\1", b"\xc0\0\2\2", b"\xc0\0\2\3"


def known() -> NameCache:
    """Two names; one has an address that expires at 10 and one that expires at 100."""
    cache = NameCache()
    cache.set_selectors([match_name("api.example.com")])
    cache.learn(API, [ONE], 10, now=0)
    cache.learn(API, [TWO], 100, now=0)
    cache.learn(WWW, [THREE], 10, now=0)
    return cache


def test_all_within_their_ttl_are_alive() -> None:
    assert known().census(now=5) == Census(names=2, addresses=3, kept=0)


def test_what_is_past_its_ttl_is_not_alive_though_no_collection_has_taken_it() -> None:
    assert known().census(now=11) == Census(names=1, addresses=1, kept=0)
    assert known().census(now=101) == Census(names=0, addresses=0, kept=0)


def test_what_a_connection_keeps_past_its_ttl_is_counted_apart() -> None:
    cache = known()
    cache.collect(50, live={ONE})
    assert cache.census(now=50) == Census(names=1, addresses=1, kept=1)
    assert cache.name_count == 1
    cache.collect(60, live=set())
    assert cache.census(now=60) == Census(names=1, addresses=1, kept=0)
