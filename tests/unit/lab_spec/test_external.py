"""What a topology may tell an external program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.spec import external

VALUES = {name: f"<{name}>" for name in external.PLACEHOLDERS}


def test_every_placeholder_is_filled_and_doubled_braces_are_braces() -> None:
    text = "{{" + "".join(f"{{{name}}}" for name in external.PLACEHOLDERS) + "}}"
    assert external.unknown(text) == []
    assert external.filled(text, VALUES) == "{" + "".join(VALUES.values()) + "}"


@pytest.mark.parametrize(
    "text",
    ["{}", "{nodes}", "{node.__class__}", "{node!r}", "{node:>9}", "{0}", "{node[0]}", "{", "a}b", "{node "],
)
def test_nothing_else_is_a_placeholder(text: str) -> None:
    assert external.unknown(text)


def test_a_value_with_braces_is_not_filled_again() -> None:
    assert external.filled("{home}", {**VALUES, "home": "/{node}"}) == "/{node}"


def test_the_page_lists_the_placeholders_that_there_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "interop.md").read_text()
    assert dict(re.findall(r"^\| `\{(\w+)\}` \| (.*) \|$", page, re.M)) == external.PLACEHOLDERS
