"""Names and patterns against independent oracles: dnspython, and Python's `re` on printed names."""

from __future__ import annotations

import re

import dns.exception
import dns.name
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acns.dns import name, pattern
from acns.dns.name import MalformedDNS

LABELS = st.lists(st.binary(min_size=1, max_size=20), max_size=8)
TEXTS = st.text(alphabet='aB0-_.\\12 5;@$"()\n', min_size=1, max_size=40)
# Biased towards what names are made of: short lengths, pointers, zeros.
WIRES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=5),
        st.binary(min_size=1, max_size=6).map(lambda label: bytes((len(label),)) + label),
        st.integers(0, 60).map(lambda target: bytes((0xC0, target))),
        st.just(b"\0"),
    ),
    max_size=30,
).map(b"".join)


@given(LABELS)
def test_a_printed_name_reads_as_dnspython_prints_it(labels: list[bytes]) -> None:
    lowered = tuple(label.lower() for label in labels)
    text = name.to_text(lowered)
    assert text == dns.name.Name([*lowered, b""]).to_text()
    assert name.from_text(text) == lowered


@given(TEXTS)
@example("a\\.")
@example("a\\\\.")
def test_text_is_understood_as_dnspython_understands_it(text: str) -> None:
    if text == "@":
        return  # a zone file's word for its origin
    try:
        expected = dns.name.from_text(text.encode(), dns.name.root).canonicalize().labels[:-1]
    except dns.exception.DNSException:
        with pytest.raises(ValueError, match="domain name"):
            name.from_text(text)
    else:
        assert name.from_text(text) == expected


@given(WIRES, st.integers(0, 60))
@example(b"\xc0\x00", 0)
@example(b"\x00" + b"\x01a\xc0\x00" + b"\x01b\xc0\x01", 5)
def test_wire_is_read_as_dnspython_reads_it(wire: bytes, offset: int) -> None:
    try:
        expected, consumed = dns.name.from_wire(wire, min(offset, len(wire)))
    except (dns.exception.DNSException, IndexError):
        with pytest.raises(MalformedDNS):
            name.read(wire, offset)
        with pytest.raises(MalformedDNS):
            name.NameReader(wire).read(offset)
    else:
        result = (expected.canonicalize().labels[:-1], offset + consumed)
        assert name.read(wire, offset) == result
        reader = name.NameReader(wire)
        assert reader.read(offset) == reader.read(offset) == result


@given(LABELS)
def test_wire_round_trips(labels: list[bytes]) -> None:
    wire = name.to_wire(labels)
    assert name.read_labels(wire, 0) == (labels, len(wire))


# --- patterns ------------------------------------------------------------------------------------------

PATTERN_LABELS = st.text(alphabet="ab*-", min_size=1, max_size=5)
PATTERNS = st.lists(PATTERN_LABELS, min_size=1, max_size=4).map(".".join)
# Small alphabets, so that matches are common; a dot and an odd byte inside labels, so that traps are too.
NAMES = st.lists(st.text(alphabet="aabb-. ", min_size=1, max_size=4), min_size=1, max_size=5)


def oracle(text: str, labels: list[str]) -> bool:
    """Cilium's translation into a regular expression, over labels joined by something no label holds."""
    if re.fullmatch(r"\*+", text):
        return True
    separated = text + "."
    translated = ""
    leading = re.match(r"\*\*+\.", separated)
    if leading:
        translated, separated = r"(?:[-a-zA-Z0-9_]+\n)+", separated[leading.end() :]
    for part in re.findall(r"\*+|\.|[^*.]+", separated):
        translated += {"*": "[-a-zA-Z0-9_]*", ".": "\n"}.get(part[0], re.escape(part))
    return re.fullmatch(translated, "".join(label + "\n" for label in labels)) is not None


@given(PATTERNS, NAMES)
@example("**.a", ["b", "b", "a"])
@example("*a*b*a", ["abaaba"])
@example("*.a", ["b.b", "a"])
def test_a_pattern_matches_what_its_regular_expression_matches(text: str, labels: list[str]) -> None:
    wire_name = tuple(label.encode() for label in labels)
    assert pattern.match_pattern(text).matches(wire_name) == oracle(text, labels)


@given(PATTERNS, st.data())
def test_a_name_made_from_a_pattern_matches_it(text: str, data: st.DataObject) -> None:
    filled = "".join(data.draw(st.sampled_from(["a", "b-_9", "x"])) if c == "*" else c for c in text)
    assert pattern.match_pattern(text).matches(name.from_text(filled))


@given(PATTERNS, NAMES)
def test_canonical_text_means_the_same(text: str, labels: list[str]) -> None:
    selector = pattern.match_pattern(text)
    wire_name = tuple(label.encode() for label in labels)
    assert pattern.match_pattern(selector.text) == selector
    assert pattern.from_wire_pattern(selector.text).matches(wire_name) == selector.matches(wire_name)
