"""matchName and matchPattern against Python's `re`: which texts are taken, and what they match on the
wire.

Names are made *near* a pattern (one that it matches, then bent: another case, an odd octet, a dot inside
a label, a label more or less, the limits of 63 and 255 octets): two things drawn independently hardly
ever meet.
"""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from acns.dns import name, pattern
from acns.dns.pattern import FQDNSelector

from ..oracle import names

MAX_LABEL, MAX_NAME, MAX_TEXT = 63, 255, 255
LETTERS = string.ascii_letters + string.digits + "-_"

# Nearly all of the language, and what is just outside of it.
TEXTS = st.text(alphabet="aZ09-_*.*.?\\ [é\n", max_size=12)
LABEL = st.text(alphabet="aAbB1-_", min_size=1, max_size=6)
PATTERN_LABEL = st.one_of(
    LABEL, st.text(alphabet="aB1-_**", min_size=1, max_size=6), st.just("*"), st.just("**")
)
PATTERNS = st.builds(
    lambda labels, dot: ".".join(labels) + dot,
    st.lists(PATTERN_LABEL, min_size=1, max_size=5),
    st.sampled_from(("", ".")),
)


def wire_length(labels: names.Name) -> int:
    return sum(len(label) + 1 for label in labels) + 1


@st.composite
def near(draw: st.DrawFn, text: str) -> names.Name:
    """A name that the pattern may or may not match."""
    filling = st.text(alphabet=LETTERS, max_size=4)
    filled = "".join(draw(filling) if char == "*" else char for char in text.removesuffix("."))
    labels = [label.encode() for label in filled.split(".") if label]
    if draw(st.booleans()):
        labels = draw(bent(labels))
    assume(all(0 < len(label) <= MAX_LABEL for label in labels) and wire_length(tuple(labels)) <= MAX_NAME)
    return tuple(labels)


@st.composite
def bent(draw: st.DrawFn, labels: list[bytes]) -> list[bytes]:
    """One thing about it is changed."""
    if not labels:
        return [draw(st.binary(min_size=1, max_size=3))]
    at = draw(st.integers(0, len(labels) - 1))
    here, before, after = labels[at], labels[:at], labels[at + 1 :]
    match draw(st.sampled_from(("case", "octet", "dot", "joined", "more", "less", "split", "long"))):
        case "case":
            return [*before, here.swapcase(), *after]
        case "octet":
            place = draw(st.integers(0, len(here)))
            return [*before, here[:place] + draw(st.binary(min_size=1, max_size=1)) + here[place:], *after]
        case "dot":
            return [*before, here + b".", *after]
        case "joined":  # two labels in one: printed, it is the same name
            return [*before, b".".join([here, *after[:1]]), *after[1:]]
        case "more":
            return [draw(st.sampled_from((b"x", b"_", b"-", b"A1", b"*"))), *labels]
        case "less":
            return [*before, *after]
        case "split":
            return [*before, *(part for part in (here[:1], here[1:]) if part), *after]
    return [*before, (here * MAX_LABEL)[: draw(st.sampled_from((MAX_LABEL - 1, MAX_LABEL)))], *after]


@settings(max_examples=500)
@given(TEXTS)
@example("*" * MAX_TEXT)
@example("a" * (MAX_TEXT + 1))
@example("a.\n")
@example("..")
def test_a_text_is_taken_if_the_api_server_takes_it(text: str) -> None:
    for make, language in (
        (pattern.match_name, names.NAME_TEXT),
        (pattern.match_pattern, names.PATTERN_TEXT),
    ):
        taken = language.fullmatch(text) and len(text) <= MAX_TEXT
        event(f"taken: {bool(taken)}")
        if taken:
            assert isinstance(make(text), FQDNSelector)
        else:
            with pytest.raises(ValueError, match=r"match(Name|Pattern)"):
                make(text)


@settings(max_examples=500)
@given(PATTERNS, st.data())
def test_a_pattern_matches_on_the_wire_what_its_regular_expression_matches(
    text: str, data: st.DataObject
) -> None:
    labels = data.draw(near(text))
    expected = names.pattern_matches(text, labels)
    event(f"matches: {expected}")
    lowered = tuple(label.lower() for label in labels)  # how names are held
    assert pattern.match_pattern(text).matches(lowered) == expected


@given(st.lists(LABEL, min_size=1, max_size=4).map(".".join), st.data())
def test_a_name_matches_itself_in_any_case_and_nothing_else(text: str, data: st.DataObject) -> None:
    labels = data.draw(near(text))
    lowered = tuple(label.lower() for label in labels)
    for written in (text, text + ".", text.swapcase()):
        assert pattern.match_name(written).matches(lowered) == names.name_matches(text, labels)


@given(PATTERNS, st.lists(LABEL, max_size=5))
def test_ordinary_names_match_as_ciliums_expression_matches_them_printed(
    text: str, labels: list[str]
) -> None:
    """Cilium's own form: over `a.b.c.`, dots as dots. For names of ordinary letters nothing is lost by it."""
    printed = "".join(f"{label.lower()}." for label in labels) or "."
    canonical = text.lower() if text.endswith(".") else text.lower() + "."
    if re.fullmatch(r"\*+\.", canonical):
        expected = True
    else:
        leading = re.match(r"\*\*+\.", canonical)
        rest = canonical[leading.end() :] if leading else canonical
        translated = re.sub(r"\*+", "[-a-zA-Z0-9_]*", re.escape(rest).replace("\\*", "*"))
        subdomains = "([-a-zA-Z0-9_]+[.])+" if leading else ""
        expected = re.fullmatch(subdomains + translated, printed) is not None
    wire_name = name.from_text(printed)
    assert pattern.match_pattern(text).matches(wire_name) == expected


@given(st.integers(1, MAX_LABEL), st.integers(1, MAX_LABEL))
def test_the_longest_names_are_matched_to_their_last_octet(first: int, last: int) -> None:
    middle = (b"m" * MAX_LABEL,) * 2
    room = MAX_NAME - wire_length((*middle, b"f" * first))
    labels = (b"f" * first, *middle, b"l" * min(last, room - 1)) if room > 1 else (b"f" * first, *middle)
    text = b".".join(labels).decode()
    for other in (labels, (*labels[:-1], labels[-1][:-1] + b"x"), labels[1:]):
        assert pattern.match_name(text).matches(other) == (other == labels)
        assert pattern.match_pattern(f"*{text[1:]}").matches(other) == names.pattern_matches(
            f"*{text[1:]}", other
        )
        if len(text) <= MAX_TEXT - 3:
            assert pattern.match_pattern(f"**.{text}").matches((b"x", *other)) == (other == labels)
