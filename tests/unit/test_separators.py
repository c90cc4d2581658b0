"""What Kubernetes would not read of a text with several documents is said, and is in force nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from acns import located
from acns.errors import InputError

SEPARATOR = "only a comment may stand behind '---': Kubernetes does not read the rest of the line"
UNREAD = "Kubernetes does not read this document: before it is no line feed and '---'"
DIRECTIVE = "Kubernetes reads no directives"


def values(text: str) -> list[Any]:
    return [document.value for document in located.load(text, "x.yaml")]


def problems(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(InputError) as caught:
        located.load(text, "x.yaml")
    return [(one.line, one.column, one.message) for one in caught.value.problems]


@pytest.mark.parametrize(
    "text",
    [
        *("a: 1\n---\nb: 2\n", "---\na: 1\n---\nb: 2", "a: 1\r\n---\r\nb: 2\r\n", "a: 1\n--- # b\nb: 2\n"),
        *("a: 1\n---  \t\nb: 2\n", "# c\n---\n---\na: 1\n...\n---\nb: 2\n...\n", "a: 1\n---\t# c\r\nb: 2\n"),
    ],
)
def test_documents_are_parted_by_lines_of_three_hyphens(text: str) -> None:
    assert values(text) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        *(("--- {a: 1}\n", (1, 5)), ("a: 1\n--- {b: 2}\n", (2, 5)), ("a: 1\n--- &x\nb: 2\n", (2, 5))),
        *(("a: 1\n---\t!!map\nb: 2\n", (2, 5)), ("a: |\n  b\n--- |\n  c\n", (3, 5)), ("---a: 1\n", (1, 4))),
        *(("a: 1\n---#c\n", (2, 4)), ("a: 1\n--- # c\rb: 2\n", (2, 5)), ("---\ra: 1\n", (1, 4))),
        ("a: 1\n--- # c\x85b: 2\n", (2, 5)),
    ],
)
def test_what_stands_behind_a_separator_is_an_error(text: str, place: tuple[int, int]) -> None:
    try:
        list(yaml.compose_all(text, Loader=located.Loader))
    except yaml.YAMLError:
        assert problems(text)
    else:
        assert problems(text)[0] == (*place, SEPARATOR)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\r---\nb: 2\n", (1, 6)),
        ("a: 1\n# c\x85---\nb: 2\n", (2, 5)),
        ("a: 1\n...\u2028--- # c\nb: 2\n", (2, 5)),
    ],
)
def test_a_document_that_only_yaml_sees_is_an_error(text: str, place: tuple[int, int]) -> None:
    assert problems(text) == [(*place, UNREAD)]


@pytest.mark.parametrize(
    ("text", "place"), [("%YAML 1.1\n---\na: 1\n", (1, 1)), ("a: 1\n...\n%TAG ! !x\n---\nb: 2\n", (3, 1))]
)
def test_a_directive_is_an_error(text: str, place: tuple[int, int]) -> None:
    assert problems(text) == [(*place, DIRECTIVE)]


def test_all_of_them_are_said_with_what_else_is_wrong_and_each_with_what_to_do() -> None:
    with pytest.raises(InputError) as caught:
        located.load("--- {a: 1}\n--- {b: 2, b: 3}\n...\r---\nc: 4\n", "x.yaml")
    assert [str(one) for one in caught.value.problems] == [
        f"x.yaml:1:5: {SEPARATOR} (put it on a line of its own)",
        f"x.yaml:2:5: {SEPARATOR} (put it on a line of its own)",
        "x.yaml:2:12: 'b' is given twice",
        f"x.yaml:3:5: {UNREAD} (begin it with a line '---')",
    ]


def test_of_very_many_some_are_said() -> None:
    assert len(problems("--- {a: 1}\n" * 50_000)) == 100


# --- as Kubernetes does it ---------------------------------------------------------------------------------

PIECES = ("a: 1", "[b]", "---", "...", "\n", "\r", "\r\n", "\x85", "\u2028", " ", "#", "|", "%YAML 1.1", "'")


def pieces(text: str) -> Iterator[str]:
    """As apimachinery's reader parts it. Raises ValueError."""
    piece = ""
    for line in text.removesuffix("\n").split("\n"):
        if not line.startswith("---"):
            piece += f"{line}\n"
            continue
        if (more := line[3:].strip()) and not more.startswith("#"):
            raise ValueError("invalid Yaml document separator")
        yield piece
        piece = ""
    yield piece


def first_document(piece: str) -> Any:
    """All that is read of a piece; None: nothing, as of one that is refused (`...` alone)."""
    loader = located.Loader(piece)
    try:
        return loader.get_data() if loader.check_data() else None
    except yaml.YAMLError:
        return None
    finally:
        loader.dispose()


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("a: 1\n---\n[b]\n")
@example("a: 1\n--- # c\u2028[b]")
@example("a: 1\n\r---\n[b]\n")
@example("|\n [b]")
@example("---\n...")
def test_what_is_read_is_what_kubernetes_reads(text: str) -> None:
    try:
        read = values(text)
    except InputError:
        return
    assert read == [value for value in map(first_document, pieces(text)) if value is not None]
