"""How long a download may stand still, and no longer."""

from __future__ import annotations

import pytest

from ...soak.downloads import STALL_S, excused_until


def test_without_a_fault_it_may_not_stand_still() -> None:
    assert excused_until(100.0, 100.0, []) == 100.0 + STALL_S


def test_a_fault_may_draw_it_out_by_as_long_as_it_lasted() -> None:
    assert excused_until(100.0, 100.0, [(99.0, 103.0)]) == 103.0 + 4.0 + STALL_S


def test_a_fault_that_begins_when_it_must_go_on_again_excuses_nothing() -> None:
    assert excused_until(100.0, 100.0, [(106.0, 108.0)]) == 100.0 + STALL_S


@pytest.mark.parametrize("begins", [104.9, 101.0])
def test_one_fault_after_the_other_adds_up(begins: float) -> None:
    assert excused_until(100.0, 100.0, [(99.0, 101.0), (begins, 106.0)]) == 106.0 + 6.0 + STALL_S


def test_what_was_heard_in_a_fault_may_not_have_been_acknowledged() -> None:
    """Seen on bare Linux: links down for 3.5 and 3.3 s, a second between them, and 32 % of loss when the
    seventh try came, 12.6 s after the first. 77 of 150 downloads then waited for the eighth, 13 s later."""
    assert excused_until(112.6, 100.0, [(112.3, 113.5)]) == 113.5 + 13.5 + STALL_S
