"""What the recorder keeps of places that are gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from lab.capture.recorder import Tape, bounded

SIZE = 1_000


def tape(number: int, *, place: str = "node/n", kept: int = 400, gone: bool = True) -> Tape:
    fields = {
        "interface": "",
        "pod": "",
        "size_bytes": SIZE,
        "ended_s": 1.0 if gone else None,
        "kept_bytes": kept,
    }
    return cast(Tape, SimpleNamespace(number=number, place=place, **fields))


def numbers(tapes: list[Tape]) -> list[int]:
    return [one.number for one in cast(list[SimpleNamespace], tapes)]


def test_a_node_made_anew_again_and_again_keeps_the_latest_until_a_ring_is_full() -> None:
    tapes = [tape(number) for number in range(50)]
    assert numbers(bounded([*tapes, tape(50, gone=False)])) == [47, 48, 49, 50]


def test_another_place_and_what_listens_still_lose_nothing_by_it() -> None:
    tapes = [tape(0, place="node/m"), tape(1, gone=False, kept=9 * SIZE), tape(2), tape(3, kept=SIZE)]
    assert numbers(bounded(tapes)) == [0, 1, 3]


def test_a_full_ring_that_has_ended_is_kept() -> None:
    assert numbers(bounded([tape(0, kept=SIZE + 1)])) == [0]
