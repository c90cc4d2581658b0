"""Whether two patterns have a name in common, against trying all short names."""

from __future__ import annotations

from itertools import product

from hypothesis import example, given
from hypothesis import strategies as st

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector, match_name, match_pattern
from acns.policy.overlap import Overlaps, globs_overlap, overlap

LONGEST_LABEL, MOST_LABELS = 3, 4
LABELS = [
    "".join(each).encode() for length in range(1, LONGEST_LABEL + 1) for each in product("ab", repeat=length)
]

globs = st.text("ab*", min_size=1, max_size=3)
patterns = st.lists(st.text("ab*", min_size=1, max_size=2), min_size=1, max_size=3).map(".".join)


def selector(text: str) -> FQDNSelector:
    return match_pattern(text) if "*" in text else match_name(text)


def names() -> list[Name]:
    """All names of few short labels: enough to tell patterns of fewer and shorter ones apart."""
    short = [label for label in LABELS if len(label) <= 2] + [b"aba", b"bab"]
    return [name for count in range(1, MOST_LABELS + 1) for name in product(short, repeat=count)]


NAMES = names()


@given(patterns, patterns)
@example("**.a", "a")
@example("**.a", "b.a")
@example("**.a", "**.b.a")
@example("*", "a.b")
@example("a*.b", "*b.b")
def test_two_selectors_overlap_if_some_name_is_matched_by_both(one: str, other: str) -> None:
    first, second = selector(one), selector(other)
    common = any(first.matches(name) and second.matches(name) for name in NAMES)
    assert overlap(first, second) == overlap(second, first) == common


@given(patterns, st.lists(patterns, max_size=4))
@example("a", ["**"])
@example("**", ["a"])
@example("*.b.a", ["**.a"])
@example("b*.a", ["b.a"])
def test_a_selector_overlaps_one_of_many_if_it_does_one_by_one(one: str, others: list[str]) -> None:
    wanted, many = selector(one), [selector(other) for other in others]
    assert Overlaps(many).any(wanted) == any(overlap(wanted, each) for each in many)


@given(globs, globs)
def test_two_labels_overlap_if_some_label_is_matched_by_both(one: str, other: str) -> None:
    labels = [*LABELS, *("".join(each).encode() for each in product("ab", repeat=4))]
    first, second = selector(f"x.{one}"), selector(f"x.{other}")
    common = any(first.matches((b"x", label)) and second.matches((b"x", label)) for label in labels)
    assert globs_overlap(one, other) == common


def test_long_labels_full_of_stars_are_decided_at_once() -> None:
    assert globs_overlap("a*" * 31, "*a" * 31)
    assert not globs_overlap("a*" * 31 + "b", "*a" * 31 + "c")
