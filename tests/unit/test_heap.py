"""What stays is out of the collector's sight, and what does not is found all the same."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from acns import heap


class Knot:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """As it was, for the tests after these."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_has_settled_is_not_looked_at_again() -> None:
    kept = [Knot() for _ in range(1_000)]
    heap.settle()
    assert not any(isinstance(one, Knot) for one in gc.get_objects())
    assert len(kept) == 1_000 < gc.get_freeze_count()


def test_garbage_of_the_meantime_goes_when_it_settles() -> None:
    heap.prepare()
    seen = weakref.ref(Knot())
    heap.settle()
    assert seen() is None


def test_no_full_collection_comes_between() -> None:
    heap.prepare()
    full: list[object] = []
    gc.callbacks.append(lambda phase, info: full.append(info) if info["generation"] == 2 else None)
    try:
        kept = [[number] for number in range(400_000)]
    finally:
        gc.callbacks.pop()
    assert full == []
    assert len(kept) == 400_000


async def test_cycles_that_were_in_use_when_they_settled_are_found_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heap, "SETTLE_S", 0)
    monkeypatch.setattr(heap, "_WHOLE_EVERY", 3)
    knot = Knot()
    seen = weakref.ref(knot)
    settling = asyncio.create_task(heap.keep_settled())
    try:
        await asyncio.sleep(0)  # settled once, with the knot in use
        del knot
        async with asyncio.timeout(30):
            while seen() is not None:
                await asyncio.sleep(0)
    finally:
        settling.cancel()
