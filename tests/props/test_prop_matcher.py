"""The index of selectors finds exactly those that match."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from acns.dns import name, pattern
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.fqdn.matcher import Matcher

from .test_pattern_oracle import PATTERNS, near

SELECTORS = PATTERNS.map(lambda text: pattern.from_wire_pattern(text))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[FQDNSelector], Name]:
    """Selectors, and a name near one of them."""
    selectors = draw(st.lists(SELECTORS, min_size=1, max_size=12))
    near_to = draw(st.sampled_from(selectors))
    labels = draw(near(near_to.text))
    return selectors, tuple(label.lower() for label in labels)


@given(cases())
def test_the_index_finds_exactly_the_selectors_that_match(case: tuple[list[FQDNSelector], Name]) -> None:
    selectors, asked = case
    expected = {one for one in selectors if one.matches(asked)}
    event("matched" if expected else "none")
    found = Matcher(selectors).matching(asked)
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_the_root_is_found_by_what_matches_all() -> None:
    everything = pattern.match_pattern("*")
    assert Matcher([everything, pattern.match_pattern("*.a.io")]).matching(()) == (everything,)
    assert Matcher([everything]).matching(name.from_text("x.a.io.")) == (everything,)
