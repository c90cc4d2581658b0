"""Addresses that are open under more than one selector."""

from __future__ import annotations

from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.pattern import match_name, match_pattern
from acns.policy.shared import shared_addresses

CDN, OWN = IPv4Address("198.51.100.1"), IPv4Address("198.51.100.2")
A, B, C = (names.from_text(text) for text in ("a.io", "b.io", "c.io"))
ONLY_A, ONLY_B, ANY_IO = match_name("a.io"), match_name("b.io"), match_pattern("*.io")


def test_an_address_of_two_names_opens_each_under_the_others_rule() -> None:
    (shared,) = shared_addresses({A: [CDN, OWN], B: [CDN]}, [ONLY_A, ONLY_B])
    assert (shared.address, shared.names) == (CDN, (A, B))
    assert shared.selectors == {ONLY_A: (A,), ONLY_B: (B,)}
    assert (shared.beyond(ONLY_A), shared.beyond(ONLY_B)) == ((B,), (A,))


def test_a_name_that_no_selector_matches_opens_nothing() -> None:
    assert shared_addresses({A: [CDN], C: [CDN]}, [ONLY_A]) == []


def test_names_of_one_selector_share_what_it_opens_anyway() -> None:
    assert shared_addresses({A: [CDN], B: [CDN]}, [ANY_IO]) == []


def test_a_narrow_selector_beside_a_wide_one_opens_beyond_its_name() -> None:
    (shared,) = shared_addresses({A: [CDN], B: [CDN]}, [ANY_IO, ONLY_A])
    assert (shared.beyond(ONLY_A), shared.beyond(ANY_IO)) == ((B,), ())


def test_one_name_under_two_selectors_is_not_shared() -> None:
    assert shared_addresses({A: [CDN]}, [ANY_IO, ONLY_A]) == []


def test_they_come_by_address() -> None:
    learned = {A: [OWN, CDN], B: [CDN, OWN]}
    assert [each.address for each in shared_addresses(learned, [ONLY_A, ONLY_B])] == [CDN, OWN]
