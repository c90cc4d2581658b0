"""What each may hold so that all together fit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.fqdn.shares import share


@pytest.mark.parametrize(
    ("held", "room", "each"),
    [
        ([], 10, math.inf),
        ([3, 4], 10, math.inf),
        ([20], 10, 10),
        ([2, 100], 10, 8),
        ([100, 2, 100], 10, 4),
        ([5, 5], 10, math.inf),
        ([5, 5], -1, 0),
    ],
)
def test_whoever_holds_less_than_a_share_keeps_it_and_the_others_share_the_rest(
    held: list[int], room: float, each: float
) -> None:
    assert share(held, room) == each


@given(st.lists(st.integers(0, 1000)), st.integers(0, 5000))
def test_with_their_shares_all_fit_and_fill_the_room(held: list[int], room: int) -> None:
    each = share(held, room)
    together = sum(min(one, each) for one in held)
    assert together <= room + 1e-6
    assert each == math.inf or together == pytest.approx(room)
