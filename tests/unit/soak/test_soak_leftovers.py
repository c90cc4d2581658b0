"""What the soak calls a leak."""

from __future__ import annotations

import pytest

from ...soak.leftovers import DESCRIPTORS_GROWTH, MEMORY_GROWTH_MIB, MEMORY_MOST_MIB, grown

BEFORE = {"shim memory MiB": 50, "shim descriptors": 20, "mapping logs": 1, "unix sockets": 9}


def test_what_is_as_it_was_is_no_leak() -> None:
    assert list(grown(BEFORE, BEFORE, BEFORE)) == []


@pytest.mark.parametrize(
    ("what", "most"),
    [
        ("shim memory MiB", 50 + MEMORY_GROWTH_MIB),
        ("shim descriptors", 20 + DESCRIPTORS_GROWTH),
        ("mapping logs", 1),
        ("unix sockets", 9),
    ],
)
def test_more_than_may_be_is_a_leak(what: str, most: int) -> None:
    assert list(grown(BEFORE, {}, {**BEFORE, what: most})) == []
    assert list(grown(BEFORE, {}, {**BEFORE, what: most + 1})) == [what]


def test_memory_that_was_too_much_once_is_a_leak() -> None:
    worst = {"shim memory MiB": MEMORY_MOST_MIB + 1}
    assert list(grown(BEFORE, worst, BEFORE)) == ["shim memory MiB"]
