"""What the profiles say of names, whoever writes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.dns import name as names
from acns.dns.pattern import match_pattern
from acns.policy.codes import Code
from acns.policy.profiles import Profile, dns_name, fqdn_peer, is_service_name

LABELS = st.sampled_from(["a", "*", "**", "app*", "*b", "x-1"])
PATTERNS = st.lists(LABELS, min_size=1, max_size=6).map(".".join)


@given(PATTERNS)
def test_a_pattern_is_doubtful_exactly_when_its_last_label_is_a_wildcard(pattern: str) -> None:
    selector = match_pattern(pattern)
    finding = dns_name(Profile.CILIUM, selector)
    expected = not selector.is_match_all and pattern.split(".")[-1].strip("*") == ""
    assert (finding is not None and finding.code is Code.TRAILING_WILDCARD_LABELS) == expected


@given(PATTERNS)
def test_the_names_in_the_warning_are_true(pattern: str) -> None:
    selector = match_pattern(pattern)
    for finding in (dns_name(Profile.CILIUM, selector), fqdn_peer(Profile.CILIUM, selector)):
        if finding is None or finding.code is not Code.TRAILING_WILDCARD_LABELS:
            continue
        let_out = re.search(r"the pod may \w+(?: for)? '([^']+)'", finding.message)
        assert let_out is not None
        assert selector.matches(names.from_text(let_out[1]))
        if missed := re.search(r"'([^']+)' is missed", finding.message):
            assert not selector.matches(names.from_text(missed[1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db.svc.cluster.local", True),
        ("db.svc.clu*.local", True),
        ("db.svc.cluster*.local", True),
        ("db.svc.clu.local", False),
        ("db.svc.clust.local", False),
        ("db.svc.cl*.local", False),
    ],
)
def test_another_domain_is_no_service_though_its_name_begins_alike(text: str, expected: bool) -> None:
    assert is_service_name(match_pattern(text)) is expected
