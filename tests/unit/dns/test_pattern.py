"""matchName and matchPattern: Cilium's language."""

from __future__ import annotations

import time

import pytest

from acns.dns import name, pattern


def matches(text: str, of: str) -> bool:
    return pattern.match_pattern(text).matches(name.from_text(of))


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("*.a.io", ["b.a.io", "B-1_x.A.io."], ["a.io", "c.b.a.io", "b.a.io.x", "."]),
        ("a*.io", ["a.io", "abc.io"], ["ba.io", "a.b.io"]),
        ("*a*b.io", ["ab.io", "xaxxb.io", "abab.io", "aab.io"], ["ba.io", "abx.io"]),
        ("app*.example.com", ["app.example.com", "app1.example.com"], ["example.com", "x.app1.example.com"]),
        ("*.example.com.*.*", ["x.example.com.svc.local"], ["x.example.com", "x.example.com.svc.a.local"]),
        ("**.a.io", ["b.a.io", "c.b.a.io", "a.io.a.io"], ["a.io", "xa.io"]),
        ("***.a.io", ["c.b.a.io"], ["a.io"]),
        ("x.**.a.io", ["x.y.a.io"], ["x.y.z.a.io", "x.a.io"]),
        ("**x.a.io", ["x.a.io", "yx.a.io"], ["y.x.a.io"]),
        ("a.io", ["a.io"], ["b.a.io"]),
    ],
)  # fmt: skip
def test_stars_stay_in_their_label_and_leading_double_stars_span_labels(
    text: str, yes: list[str], no: list[str]
) -> None:
    assert [one for one in yes if not matches(text, one)] == []
    assert [one for one in no if matches(text, one)] == []


@pytest.mark.parametrize("text", ["*", "**", "*.", "**.", "***"])
def test_stars_alone_match_every_name_even_the_root_and_odd_ones(text: str) -> None:
    selector = pattern.match_pattern(text)
    assert selector.is_match_all
    assert all(selector.matches(one) for one in [(), (b"a",), (b"a b", b"c.d", b"\xff")])


def test_a_dot_inside_a_label_separates_nothing() -> None:
    assert not pattern.match_pattern("*.*.a.io").matches((b"x.y", b"a", b"io"))
    assert not pattern.match_pattern("*.a.io").matches((b"x", b"a.io"))
    assert not pattern.match_name("x.a.io").matches((b"x.a", b"io"))
    assert not pattern.match_pattern("**.a.io").matches((b"x.y", b"a", b"io"))


def test_a_star_takes_no_odd_byte() -> None:
    assert not any(
        pattern.match_pattern("*.a.io").matches((bytes((octet,)), b"a", b"io"))
        for octet in range(256)
        if chr(octet) not in "-_0123456789abcdefghijklmnopqrstuvwxyz"
    )


def test_equal_meaning_has_equal_text() -> None:
    assert pattern.match_pattern("**") == pattern.match_pattern("*.")
    assert pattern.match_pattern("WWW*.a**b.IO") == pattern.match_pattern("www*.a*b.io.")
    assert pattern.match_pattern("****.a.io").text == "**.a.io."
    assert pattern.match_name("A.io") == pattern.match_name("a.IO.")
    assert pattern.match_name("a.io").key == "name:a.io."
    assert pattern.match_pattern("a.io").key == "pattern:a.io."


def test_a_pattern_from_the_stream_is_a_name_unless_it_has_a_star() -> None:
    assert pattern.from_wire_pattern("a.io.") == pattern.match_name("a.io")
    assert pattern.from_wire_pattern("*.a.io.") == pattern.match_pattern("*.a.io")
    assert pattern.from_wire_pattern("*.").is_match_all


@pytest.mark.parametrize("text", ["*..", "www.example.com..", "*.example.com..", ".."])
def test_a_pattern_from_the_stream_with_an_empty_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        pattern.from_wire_pattern(text)


def test_the_longest_selector_survives_the_stream() -> None:
    for selector in (pattern.match_name("a." * 127 + "a"), pattern.match_pattern("*." * 127 + "a")):
        assert pattern.from_wire_pattern(selector.text) == selector


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "empty"),
        (".", "empty label"),
        ("a..b", "empty label"),
        (".a", "empty label"),
        ("a?.io", "'?'"),
        ("a.io\n", r"'\\n'"),
        ("bücher.example", "xn--"),
        ("a" * 256, "256 characters"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_the_reason(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        pattern.match_name(text)
    with pytest.raises(ValueError, match=hint):
        pattern.match_pattern(text)


def test_a_star_in_match_name_points_to_match_pattern() -> None:
    with pytest.raises(ValueError, match="matchPattern"):
        pattern.match_name("*.a.io")


def test_no_pattern_makes_a_name_take_long() -> None:
    hostile = pattern.match_pattern("*a" * 120 + "*b")
    started = time.perf_counter()
    assert not hostile.matches((b"a" * 63,))
    assert not pattern.match_pattern("**.a.a").matches((b"a",) * 126 + (b"b",))
    assert time.perf_counter() - started < 1.0  # backtracking would take years
