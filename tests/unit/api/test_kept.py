"""The word about how long an agent keeps what it was told."""

from __future__ import annotations

import pytest

from acns.api import kept


@pytest.mark.parametrize(("said", "heard"), [(300.0, 300.0), (1.9, 1.0), (0.9, 0.0), (0.0, 0.0), (-5.0, 0.0)])
def test_whole_seconds_arrive_and_less_than_one_is_nothing(said: float, heard: float) -> None:
    assert kept.from_metadata(kept.to_metadata(said)) == heard


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        (),
        (("other", "7"),),
        ((kept.KEY, "-7"),),
        ((kept.KEY, "x"),),
        ((kept.KEY, b"7"),),
        ((kept.KEY, "٣"),),
    ],
)
def test_what_is_not_said_or_not_understood_promises_nothing(metadata: object) -> None:
    assert kept.from_metadata(metadata) == 0.0  # type: ignore[arg-type]
