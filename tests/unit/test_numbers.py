"""Numbers stay with their text, and are reused only when the range is used up."""

from __future__ import annotations

import pytest

from acns.errors import EnvironmentFault
from acns.policy.numbers import NumberRegistry


def test_the_same_text_keeps_its_number() -> None:
    registry = NumberRegistry("grants", 1, 9)
    assert [registry.number(key) for key in "abab"] == [1, 2, 1, 2]


def test_a_forgotten_number_is_not_given_to_another_while_others_are_free() -> None:
    registry = NumberRegistry("grants", 1, 9)
    registry.number("a")
    registry.keep_only([])
    assert registry.number("b") == 2


def test_when_the_range_is_used_up_the_longest_forgotten_goes_first() -> None:
    registry = NumberRegistry("grants", 1, 3)
    for key in "abc":
        registry.number(key)
    registry.keep_only(["b", "c"])
    registry.keep_only(["b"])
    assert registry.number("d") == 1
    assert registry.number("e") == 3
    assert registry.number("b") == 2


def test_a_text_that_comes_back_is_no_longer_forgotten() -> None:
    registry = NumberRegistry("grants", 1, 2)
    registry.number("a")
    registry.number("b")
    registry.keep_only([])
    registry.number("a")
    assert registry.number("c") == 2


def test_no_number_left_is_said_clearly() -> None:
    registry = NumberRegistry("grants", 1, 1)
    registry.number("a")
    with pytest.raises(EnvironmentFault, match="all 1 numbers for grants"):
        registry.number("b")


def test_numbers_found_in_the_kernel_are_taken_over_and_never_given_to_others() -> None:
    registry = NumberRegistry("grants", 1, 9, {"a": 1})
    registry.adopt({"b": 5, "c": 1})
    assert [registry.number(key) for key in ("a", "b", "c", "d")] == [1, 5, 6, 7]


def test_nothing_found_changes_nothing() -> None:
    registry = NumberRegistry("grants", 1, 9)
    registry.adopt({})
    assert registry.number("a") == 1


def test_numbers_known_from_before_are_kept_and_not_given_again() -> None:
    registry = NumberRegistry("grants", 1, 9, {"a": 4})
    assert (registry.number("a"), registry.number("b")) == (4, 5)
