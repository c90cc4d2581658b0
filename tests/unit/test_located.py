"""YAML with places: the same values and places whoever reads it, and no text that brings the reader down."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from acns import located, scalars
from acns.errors import InputError
from acns.located import Document, Position

ROOT = Path(__file__).parents[2]
TEXTS = sorted([*ROOT.glob("topologies/**/*.yaml"), *ROOT.glob("tests/**/*.yaml")])

needs_libyaml = pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")


@pytest.fixture(params=["libyaml", "python"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both of PyYAML's readers, one after the other."""
    if request.param == "python":
        monkeypatch.setattr(located, "Loader", scalars.as_kubernetes_reads(yaml.SafeLoader))
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    return str(request.param)


def only(text: str) -> Document:
    (document,) = located.load(text, "x.yaml")
    return document


def outcome(text: str) -> object:
    """Documents, or where the text is wrong."""
    try:
        return located.load(text, "x.yaml")
    except InputError as error:
        return [(problem.line, problem.column) for problem in error.problems]


@needs_libyaml
def test_libyaml_is_used_where_it_is_there() -> None:
    assert issubclass(located.Loader, yaml.CSafeLoader)


@needs_libyaml
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_both_readers_agree_on_values_and_places(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text()
    fast = outcome(text)
    monkeypatch.setattr(located, "Loader", scalars.as_kubernetes_reads(yaml.SafeLoader))
    assert outcome(text) == fast


def test_keys_and_entries_have_their_places(reader: str) -> None:
    document = only("a:\n- x\n- {b: 'é', cc: ü}\n")
    assert document.value == {"a": ["x", {"b": "é", "cc": "ü"}]}
    assert document.positions == {
        (): Position(1, 1),
        ("a",): Position(1, 1),
        ("a", 0): Position(2, 3),
        ("a", 1): Position(3, 3),
        ("a", 1, "b"): Position(3, 4),
        ("a", 1, "cc"): Position(3, 12),
    }


def test_a_place_that_is_not_there_is_that_of_what_surrounds_it(reader: str) -> None:
    assert only("a: {b: 1}").position(("a", "b", "c")) == Position(1, 5)


def test_anchors_and_merges_are_resolved(reader: str) -> None:
    assert only("x: &x {k: 1}\nw: *x\nz: {<<: *x, l: 2}\n").value == {
        "x": {"k": 1}, "w": {"k": 1}, "z": {"k": 1, "l": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("merging", "value"),
    [
        ("{<<: *x, k: 9}", {"k": 9}),
        ("{m: 9, <<: *x}", {"m": 9, "k": 1}),
        ("{<<: *x, m: 9, <<: {l: 7}}", {"k": 1, "m": 9, "l": 7}),
        ("{<<: [*x, *y]}", {"k": 1, "l": 3}),
        ("{<<: [*y, *x]}", {"k": 2, "l": 3}),
        ("{<<: [*y, *x], l: 9}", {"k": 2, "l": 9}),
        ("{<<: *z}", {"k": 1, "l": 4}),
        ("{<<: {<<: *z, k: 8}, l: 9}", {"k": 8, "l": 9}),
        ("{!!merge x: 1, !!merge <<: *x}", {"x": 1, "k": 1}),
    ],
)
def test_an_own_key_wins_over_those_merged_before_it_and_of_these_the_first(
    reader: str, merging: str, value: dict[str, int]
) -> None:
    text = f"x: &x {{k: 1}}\ny: &y {{k: 2, l: 3}}\nz: &z {{<<: *x, l: 4}}\na: {merging}\n"
    assert only(text).value["a"] == value
    assert only(text).value["z"] == {"k": 1, "l": 4}


@pytest.mark.parametrize(
    ("merging", "column", "message", "hint"),
    [
        (
            "{k: 9, l: 8, <<: *x}",
            17,
            "'k' stands before a '<<' that has it too",
            "Kubernetes takes the merged one: write '<<' first",
        ),
        (
            "{k: 9, <<: [{m: 1}, *x]}",
            11,
            "'k' stands before a '<<' that has it too",
            "Kubernetes takes the merged one: write '<<' first",
        ),
        (
            "{<<: {k: 9}, m: 1, <<: *x}",
            23,
            "'k' is merged by an earlier '<<' too",
            "Kubernetes takes the last one: write one '<<: [*a, *b]', of which the first one's count",
        ),
    ],
)
def test_a_merge_that_takes_the_place_of_what_stands_before_it_is_told(
    reader: str, merging: str, column: int, message: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        located.load(f"x: &x {{k: 1, l: 2}}\na: {merging}\nb: 1\nb: 2\n", "x.yaml")
    merge, twice = caught.value.problems
    assert (merge.line, merge.column, merge.message, merge.hint) == (2, column, message, hint)
    assert twice.message == "'b' is given twice"


def test_a_merge_of_very_many_keys_names_one_of_them(reader: str) -> None:
    keys = ", ".join(f"k{n}: 1" for n in range(1000))
    with pytest.raises(InputError) as caught:
        located.load(f"{{{keys}, <<: {{{keys}}}}}\n", "x.yaml")
    (problem,) = caught.value.problems
    assert problem.message == "'k0' stands before a '<<' that has it too"


def test_a_merged_value_has_its_place_where_it_is_written(reader: str) -> None:
    document = only("x: &x {k: 1, l: 2}\nz:\n  <<: *x\n  k: 3\n")
    assert (document.position(("z", "k")), document.position(("z", "l"))) == (Position(4, 3), Position(1, 14))


def test_a_key_that_is_written_twice_in_a_merged_mapping_is_told_once(reader: str) -> None:
    with pytest.raises(InputError) as caught:
        located.load("x: &x {k: 1, k: 2}\ny: {<<: *x, k: 3}\nz: *x\n", "x.yaml")
    assert [str(each) for each in caught.value.problems] == ["x.yaml:1:14: 'k' is given twice"]


def test_many_merges_do_not_take_long(reader: str) -> None:
    chain = "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    assert only("a0: &a0 {k: 1}\n" + chain).value["a59"] == {"k": 1}


def test_merged_values_count_each_time(reader: str) -> None:
    keys = ", ".join(f"k{n}: 1" for n in range(1000))
    merging = ", ".join(["{<<: *a}"] * 1000)
    with pytest.raises(InputError) as caught:
        located.load(f"a: &a {{{keys}}}\nb: {{<<: [{merging}]}}\n", "x.yaml")
    (problem,) = caught.value.problems
    assert problem.message.startswith("more than 500,000 values")


def test_merges_that_stand_in_keys_do_not_overflow_a_stack(reader: str) -> None:
    chain = "".join(f"? &a{n} {{<<: *a{n - 1}}}\n: 1\n" for n in range(1, 2000))
    with pytest.raises(InputError, match="nested deeper"):
        located.load(f"a: &a0 {{k: 1}}\n{chain}z: {{<<: *a1999}}\n", "x.yaml")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\na: 2\n", 2, "given twice"),
        ("a: &a [*a]\n", 1, "contains itself"),
        ("a: &a {<<: *a}\n", 1, "contains itself"),
        ("a: &a\n  b: {<<: *a}\n", 2, "contains itself"),
        ("a:\n  <<: [{b: 1}, c]\n", 2, "only mappings can be merged"),
        ("? [x]\n: 1\n", 1, "plain word"),
        ("a: [\n", 2, "not YAML"),
        ("a: \0", 1, "not YAML"),
    ],
)
def test_what_is_refused_is_refused_at_its_place(reader: str, text: str, line: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        located.load(text, "x.yaml")
    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.line == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n\tb: 1\n", "2:1: not YAML: found character that cannot start any token (this is a tab"),
        ("a: 1\n{{- if .x }}\nb: 2\n", "(a template? Render it first)"),
        ("a: 1\nb: \0\n", "2:4: not YAML: "),
        ("a: äöü\nb: ä\x07\n", "2:5: not YAML: "),
    ],
)
def test_the_usual_mistakes_are_told_by_what_they_are(text: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        located.load(text, "x.yaml")


def test_too_many_values_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(located, "MAX_NODES", 5)
    with pytest.raises(InputError) as caught:
        located.load("a: [1, 2, 3, 4, 5, 6, 7, 8]\n", "x.yaml")
    (problem,) = caught.value.problems
    assert problem.message == "more than 5 values, those of each alias counted"


@pytest.mark.parametrize("nesting", ["[", "- ", "{a: "])
@pytest.mark.parametrize("levels", [located.MAX_DEPTH + 1, 1_000_000])
def test_deep_nesting_is_refused_before_it_can_overflow_a_stack(nesting: str, levels: int) -> None:
    with pytest.raises(InputError) as caught:
        located.load(nesting * levels, "x.yaml")
    assert "nested deeper" in caught.value.problems[0].message


def test_what_is_nested_as_deeply_as_is_allowed_is_read(reader: str) -> None:
    depth = located.MAX_DEPTH
    value = only("[" * depth + "]" * depth).value
    for _ in range(depth):
        (value,) = value or [None]
    assert value is None


def test_many_aliases_do_not_make_a_small_text_large(reader: str) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(InputError) as caught:
        located.load("\n".join(lines), "x.yaml")
    assert "more than 500,000 values" in caught.value.problems[0].message


@given(st.text(max_size=60))
def test_no_text_brings_anything_but_input_errors(text: str) -> None:
    outcome(text)


@given(st.text(alphabet="a1:-[]{}&*,#'\"| \n\t", max_size=40))
def test_no_punctuation_does_either(text: str) -> None:
    outcome(text)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("toFQDN", "did you mean 'toFQDNs'?"),
        ("TCP", "did you mean 'tcp'?"),
        ("xyz", "known here: tcp, toFQDNs"),
    ],
)
def test_hints_name_the_closest_word_or_the_few_there_are(word: str, hint: str) -> None:
    assert located.did_you_mean(word, ["toFQDNs", "tcp"]) == hint


def test_a_number_of_thousands_of_digits_is_text(reader: str) -> None:
    assert only(f"a: {'9' * 5_000}\n").value == {"a": "9" * 5_000}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("!!bool maybe", "'maybe' is no !!bool"),
        ("!!bool yES", "'yES' is no !!bool"),
        ("!!bool ''", "'' is no !!bool"),
        ("!!int abc", "'abc' is no !!int"),
        ("!!int 1.5", "'1.5' is no !!int"),
        ('!!int "12\\n"', "'12\\n' is no !!int"),
        ("!!float abc", "'abc' is no !!float"),
        ("!!null x", "'x' is no !!null"),
        ("!!int 99999999999999999999", "'99999999999999999999' is no !!int"),
        ("!!int 08", "'08' is no !!int"),
        ("!!int 0x10000000000000000", "'0x10000000000000000' is no !!int"),
        ("!!float 0x10000000000000000", "'0x10000000000000000' is no !!float"),
        ("!!float 1e400", "'1e400' is no !!float"),
        ("!!binary 'a Gk='", "'a Gk=' is no !!binary"),
        ("!!binary aGk", "'aGk' is no !!binary"),
        *(
            (f"!!timestamp {moment}", f"'{moment}' is no !!timestamp")
            for moment in (
                *("2024-01-05 1:2", "2024-01-05T1:2:3", "2024-01-05T1:2:3z", "2024-01-05T1:2:3+1:00"),
                *("2024-01-05T24:00:00Z", "2024-01-05T23:59:60Z", "1900-02-29", "2024-001-05", "2024-0-05"),
                *(
                    "2024-01-05 1:2:3Z",
                    "2024-01-05T1:2:3+25:00",
                    "2024-01-05T1:2:3+0100",
                    "2024-01-05T1:2:3.Z",
                ),
            )
        ),
        ("!!timestamp abc", "'abc' is no !!timestamp"),
        ("!!timestamp 2024-13-45", "'2024-13-45' is no !!timestamp"),
        ("!!binary '*'", "'*' is no !!binary"),
        (f"!!int {'z' * 1_000}", f"'{'z' * 60}' is no !!int"),
    ],
)
def test_a_value_that_does_not_fit_its_tag_is_told_at_its_place_beside_other_mistakes(
    reader: str, written: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        located.load(f"a: 1\nb: [{written}]\nc: 2\nc: 3\n{written}: 4\n", "x.yaml")
    places = [(problem.line, problem.column, problem.message) for problem in caught.value.problems]
    assert sorted(places) == [(2, 5, said), (4, 1, "'c' is given twice"), (5, 1, said)]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(("!!bool 'yes'", True), ("!!int '0x10'", 16), ("!!float 5", 5.0), ("!!float 010", 8.0)),
        *(("!!null ''", None), ("!!timestamp 2024-01-05", "2024-01-05"), ("!!binary aGk=", "hi")),
        *(("!!float 99999999999999999999", 1e20), ("!!float .inf", float("inf")), ("!!int 1_0", 10)),
        *(
            ("!!float 0x10", 16.0),
            ("!!float 1e3", 1e3),
            ('!!binary "aG\\nk="', "hi"),
            ("!!binary /w==", "\ufffd"),
        ),
        *(
            (f"!!timestamp {moment}", moment)
            for moment in (
                *("0000-01-01", "0000-02-29", "2024-1-5", "2024-01-05t1:2:3.5Z", "2024-01-05T01:02:03+24:60"),
                *("2024-01-05   1:2:3.1234567890123", "2024-01-05T1:2:3,5Z"),
            )
        ),
    ],
)
def test_a_value_that_fits_its_tag_is_what_kubernetes_makes_of_it(
    reader: str, written: str, value: object
) -> None:
    found = only(f"a: {written}\n").value["a"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(
            (f"{tag} {text}", text)
            for tag in ("!foo", "!!Int", "!!python/name:os.system")
            for text in ("x", "5")
        ),
        *(
            (f"{tag} x", "x")
            for tag in ("!!merge", "!!map", "!!seq", "!!set", "!!omap", "!!pairs", "!!value")
        ),
        *(("<<", "<<"), ("[<<]", ["<<"]), ("!foo", ""), ("!foo ~", "~"), ("!foo {b: 1}", {"b": 1})),
        *(
            ("!foo [1]", [1]),
            ("!!int {b: 1}", {"b": 1}),
            ("!!binary [1]", [1]),
            ("!!set {b, c}", {"b": None, "c": None}),
        ),
        ("{!foo <<: {b: 1}}", {"<<": {"b": 1}}),
        *(("{!!merge <<: {b: 1}}", {"b": 1}), ("{!foo yes: 1}", {"yes": 1}), ("{!!omap x: 1}", {"x": 1})),
    ],
)
def test_a_tag_that_means_nothing_to_kubernetes_makes_text_and_collections_as_if_it_were_not_there(
    reader: str, written: str, value: object
) -> None:
    assert only(f"a: {written}\n").value == {"a": value}
    assert yaml.load(f"a: {written}\n", Loader=located.Loader) == {"a": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(("! yes", "yes"), ("! 5", "5"), ('! "5"', "5"), ("! ~", "~"), ("!", ""), ("&b ! 5", "5")),
        *(
            ("! &b 5", "5"),
            ("!<!> 5", "5"),
            ("! # five\n  5", "5"),
            ("&b\n  ! 5", "5"),
            ("&b # c\n\n  # d\n  ! 5", "5"),
            ("&b #! 5\n  6", 6),
            ("[&b, ! 5]", [None, "5"]),
            ("&b # c\n\n# d\n! c: 5", None),
            ("[! , 6]", ["", 6]),
            ("! {b: 1}", {"b": 1}),
        ),
        *(("[! 5, 6, ! 7]", ["5", 6, "7"]), ("{! yes: 1, no: 2}", {"yes": 1, "false": 2})),
        *(("{! <<: {b: 1}}", {"b": 1}), ("'! 5'", "! 5"), ("[yes, ! yes, yes]", [True, "yes", True])),
    ],
)
@pytest.mark.parametrize("before", ["", "\ufeff", "é: \U0001f600 # \N{LINE SEPARATOR}\n"])
def test_what_is_marked_as_no_special_kind_is_text(
    reader: str, before: str, written: str, value: object
) -> None:
    assert only(f"{before}a: {written}\nz: yes\n").value["a"] == value


def test_each_of_many_anchors_is_looked_at_once(reader: str) -> None:
    written = ",".join(f"&a{number}" for number in range(100_000))
    assert only(f"a: [! ,{written}]").value["a"] == [""] + [None] * 100_000


def test_dates_are_text_as_kubernetes_reads_them() -> None:
    [document] = located.load("release: 2024-01-05\nodd: 2024-13-45\n", "f.yaml")
    assert document.value == {"release": "2024-01-05", "odd": "2024-13-45"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((word, True) for word in ("y", "Y", "yes", "On", "TRUE")),
        *((word, False) for word in ("n", "N", "no", "Off", "FALSE")),
        *(
            (word, word)
            for word in ("yES", "yy", "nope", "1:40", "7:23", "1:2:3.5", "-1:30", "0x", "0b2", "1e", "e1")
        ),
        *(
            (word, word)
            for word in ("1e400", ".", "+", "_1", "._5", "1.2.3.4", "10.0.0.0/8", "2024-01-05", "=", "0o8")
        ),
        *((word, None) for word in ("~", "null", "Null", "NULL", "")),
        *(("12345e7", 12345e7), ("1e3", 1e3), ("1E5", 1e5), ("+1.5e-1", 0.15), (".5e1", 5.0), ("1.", 1.0)),
        *(("08", 8.0), ("0_9", 9.0), ("1_0.5", 10.5), (".inf", float("inf")), ("-.INF", float("-inf"))),
        *(
            ("017", 15),
            ("0o17", 15),
            ("-0x1_F", -31),
            ("0b11", 3),
            ("+5", 5),
            ("1_000", 1000),
            ("0", 0),
            ("0_", 0),
        ),
        *(("00", 0), ("-_7", -7), (".5_0", 0.5), (f"0x{'0' * 40}1f", 31)),
        *(("18446744073709551615", (1 << 64) - 1), ("18446744073709551616", float(1 << 64))),
        *(("9223372036854775808", 1 << 63), ("+9223372036854775808", float(1 << 63))),
        *(("-9223372036854775808", -1 << 63), ("-9223372036854775809", -float(1 << 63))),
        *(("0xffffffffffffffff", (1 << 64) - 1), ("0777777777777777777777777", 777777777777777777777777.0)),
        *(
            (word, word)
            for word in (
                f"0x{'1' * 40}",
                "0x10000000000000000",
                "-0xffffffffffffffff",
                "+0xffffffffffffffff",
                f"0b{'1' * 65}",
                "0o7777777777777777777777",
            )
        ),
    ],
)
def test_plain_scalars_are_what_kubernetes_reads(reader: str, written: str, value: object) -> None:
    found = only(f"a: {written}\n").value["a"]
    assert (type(found), found) == (type(value), value)
    assert only(f"a: '{written}'\n").value["a"] == written
    told = yaml.dump({"a": written}, Dumper=scalars.Dumper)
    assert only(told).value["a"] == yaml.safe_load(told)["a"] == written


@pytest.mark.parametrize(
    ("written", "key"),
    [
        *(("on", "true"), ("N", "false"), ("'y'", "y"), ("''", "")),
        *(("0x10", "16"), ("0b11", "3"), ("010", "8"), ("+5", "5"), ("1_000", "1000"), ("'0x10'", "0x10")),
        *(("1.10", "1.1"), ("1e3", "1000"), ("-0.0", "-0"), ("0.1", "0.1"), ("0.0001", "0.0001")),
        *(("1e-5", "1e-05"), ("123456.0", "123456"), ("1234567.0", "1.234567e+06"), ("1e20", "1e+20")),
        *(("1.23456789", "1.2345679"), ("16777217.0", "1.6777216e+07"), ("1e300", ".inf")),
        *((".inf", ".inf"), ("-.INF", "-.inf"), (".nan", ".nan"), ("1e400", "1e400")),
        *((f"0x{'1' * 40}", f"0x{'1' * 40}"), ("99999999999999999999", "1e+20")),
        *(("2024-01-05", "2024-01-05"), ("!!timestamp 2024-01-05", "2024-01-05"), ("!!binary aGk=", "hi")),
        *(("!foo yes", "yes"), ("!foo <<", "<<")),
    ],
)
def test_a_key_is_the_text_that_kubernetes_makes_of_it(reader: str, written: str, key: str) -> None:
    assert only(f"{{{written}: 1}}").value == {key: 1}
    assert yaml.load(f"{{{written}: 1, <<: {{a: 1}}}}", Loader=located.Loader) == {key: 1, "a": 1}


@pytest.mark.parametrize("dumper", [yaml.SafeDumper, getattr(yaml, "CSafeDumper", yaml.SafeDumper)])
@pytest.mark.parametrize("style", [None, "|"])
@given(
    st.text(alphabet="a \n'#\N{NEXT LINE}\N{LINE SEPARATOR}\ufeff\N{GRINNING FACE}\x07\x1b\r\t") | st.text(),
    st.booleans(),
)
def test_any_text_is_read_as_it_was_before_it_was_written(
    dumper: type[Any], style: str | None, text: str, allow_unicode: bool
) -> None:
    told = yaml.dump(
        {"a": text, f"b{text}": 1},
        Dumper=scalars.as_kubernetes_is_told(dumper),
        default_style=style,
        allow_unicode=allow_unicode,
    )
    assert only(told).value["a"] == text


def test_what_comes_twice_in_a_manifest_is_written_twice() -> None:
    ports = ["8080"]
    told = yaml.dump([ports, ports], Dumper=scalars.ManifestDumper)
    assert told == "- - '8080'\n- - '8080'\n"


def test_two_keys_that_are_the_same_number_are_one_key(reader: str) -> None:
    with pytest.raises(InputError, match="'16' is given twice"):
        located.load("{0x10: 1, 16: 2}", "x.yaml")


@pytest.mark.parametrize("written", ["~", "[x]", "{x: 1}", "9223372036854775808"])
def test_what_is_no_key_is_none_where_places_are_not_asked_for(reader: str, written: str) -> None:
    with pytest.raises(scalars.Misfit):
        yaml.load(f"a: 1\n{written}: 2\n", Loader=located.Loader)


def test_null_is_no_key(reader: str) -> None:
    with pytest.raises(InputError, match=re.escape("x.yaml:2:1: null cannot be a key")):
        located.load("a: 1\n~: 2\n", "x.yaml")


@pytest.mark.parametrize("written", ["9223372036854775808", "18446744073709551615", "0xffffffffffffffff"])
def test_what_has_room_in_64_bits_only_without_a_sign_is_no_key(reader: str, written: str) -> None:
    with pytest.raises(InputError) as caught:
        located.load(f"a: 1\n{written}: 2\n", "x.yaml")
    (problem,) = caught.value.problems
    assert str(problem) == f"x.yaml:2:1: the number {written} is too large for a key (put it in quotes)"
    assert only(f"{{9223372036854775807: 1, -9223372036854775808: 2, '{written}': 3}}").value == {
        "9223372036854775807": 1, "-9223372036854775808": 2, written: 3,
    }  # fmt: skip


def test_long_scalars_that_are_nearly_numbers_are_looked_through_once(reader: str) -> None:
    for start in ("1", "0", "0x", "1.", "1e", "-", "0o", "+."):
        written = f"{start}{'_' * 400_000}{'0' * 400_000}{'_' * 400_000}z"
        assert only(f"a: {written}\n").value["a"] == written


JSON = {"key \N{GRINNING FACE}\\": "\N{GRINNING FACE}\N{GRINNING FACE}", "b": r"\ud83d\ude00", "c": ["x"]}


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_read_with_its_surrogate_pairs_and_all_in_it_has_its_place(
    reader: str, indent: int | None
) -> None:
    document = only(json.dumps(JSON, indent=indent))
    assert document.value == JSON
    plain = json.dumps(JSON, indent=indent).replace(r"\ud83d\ude00", "............")
    same = only(plain).positions
    assert list(document.positions.values()) == list(same.values())


@needs_libyaml
@pytest.mark.parametrize("text", [r'{"a": "\ud83d"}', r'{"a": "\ude00\ud83d"}', r'a: "\ud83d\ude00"'])
def test_half_a_pair_is_refused_and_so_is_one_outside_json(text: str) -> None:
    with pytest.raises(InputError, match="invalid Unicode character escape code"):
        located.load(text, "x.yaml")


def test_what_is_wrong_in_several_documents_is_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        located.load("a: 1\na: 2\n---\nb: 1\nb: 2\n", "f.yaml")
    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (2, "'a' is given twice"),
        (5, "'b' is given twice"),
    ]
