"""Selectors found by name, as if each of them had been asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.dns import pattern
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.fqdn.matcher import Matcher
from acns.fqdn.table import DNSRule, DNSServer, NameRules, PolicyTable

WHOLE = st.sampled_from(["*.", "**", "*", "**.a", "a", "a.b", "*a*.b", "b.**.a", "ab*ba.a"])
MADE = st.lists(st.text("ab*", min_size=1, max_size=4), min_size=1, max_size=4).map(".".join)
SELECTORS = st.lists(st.one_of(WHOLE, MADE).map(pattern.match_pattern), max_size=12)
LABELS = st.one_of(st.text("ab", min_size=1, max_size=4).map(str.encode), st.sampled_from([b"a.b", b"\xff"]))
NAMES = st.lists(LABELS, max_size=5).map(tuple)
SERVER = DNSServer(0, 53, 17)


def one_by_one(selectors: list[FQDNSelector], name: Name) -> set[FQDNSelector]:
    return {one for one in selectors if one.matches(name)}


@given(SELECTORS, NAMES)
def test_those_are_found_that_match_when_they_are_asked_one_by_one(
    selectors: list[FQDNSelector], name: Name
) -> None:
    matcher = Matcher(selectors)
    found = matcher.matching(name)
    assert len(set(found)) == len(found)
    assert set(found) == one_by_one(selectors, name)
    assert matcher.matches(name) == bool(found)


@given(st.lists(SELECTORS, max_size=4), NAMES)
def test_a_name_is_allowed_where_a_rule_is_empty_or_one_of_its_selectors_matches(
    rules: list[list[FQDNSelector]], name: Name
) -> None:
    table = PolicyTable([DNSRule(1, tuple(selectors), (SERVER,)) for selectors in rules])
    names = table.names_for(1, bytes(4), 53, 17)
    assert names.allow(name) == any(not selectors or one_by_one(selectors, name) for selectors in rules)
    assert names.are_none == (not rules)


class Asked:
    """How many selectors are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        matches = FQDNSelector.matches

        def counted(selector: FQDNSelector, name: Name) -> bool:
            self.count += 1
            return matches(selector, name)

        monkeypatch.setattr(FQDNSelector, "matches", counted)


@pytest.mark.parametrize(
    "text", ["*.w{}.example.com", "app{}*.example.com", "*-db{}.example.com", "a{}.*.example.com", "w{}.*"]
)
def test_a_denied_name_asks_none_of_thousands_of_patterns(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    selectors = [pattern.match_pattern(text.format(number)) for number in range(2_000)]
    rules = NameRules(selectors, everything=False)
    asked = Asked(monkeypatch)
    assert not any(rules.allow((b"no", *rest, b"example", b"com")) for rest in ((), (b"x",), (b"x", b"y")))
    assert asked.count == 0


def test_equal_rules_of_a_table_share_what_they_look_names_up_in_and_make_it_once() -> None:
    selectors = (pattern.match_pattern("*.a.io"), pattern.match_pattern("*.b.io"))
    table = PolicyTable(
        [DNSRule(1, selectors, (SERVER,)), DNSRule(2, selectors[::-1], (SERVER, DNSServer(9, 54, 6)))]
    )
    first, second = (table.names_for(endpoint, bytes(4), 53, 17) for endpoint in (1, 2))
    assert first is second
    assert first._matcher is None
    assert first.allow((b"x", b"a", b"io"))
    made = first._matcher
    assert not second.allow((b"x", b"c", b"io"))
    assert second._matcher is made
