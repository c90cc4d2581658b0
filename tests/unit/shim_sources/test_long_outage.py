"""An API server that is away for an hour, and comes back with another history; under a virtual clock."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from acns.policy.profiles import Profile
from acns.shim.sources.kubernetes import wire
from acns.shim.sources.kubernetes.failures import Failed, Trouble
from acns.shim.sources.kubernetes.feeds import Feed, State
from acns.shim.sources.kubernetes.reflector import Reflector
from acns.shim.sources.kubernetes.resources import PODS, Resource
from acns.shim.sources.kubernetes.shelf import Shelf
from acns.shim.sources.memory import Memory
from tests.unit.shim_sources.observing import pod

HOUR_S = 3_600.0
OUTAGE = range(100, 100 + int(HOUR_S))


class VirtualLoop(asyncio.SelectorEventLoop):
    """Waits for nobody: its clock goes to the next moment at which something is due."""

    now_s = 0.0

    def __init__(self) -> None:
        waiting = selectors.DefaultSelector()
        select = waiting.select

        def at_once(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            self.now_s += timeout or 0.0
            return select(0)

        waiting.select = at_once  # type: ignore[method-assign]
        super().__init__(waiting)

    def time(self) -> float:
        return self.now_s


class FakeAPI:
    """Has the pod `old` until the outage and `new` after it, when it knows no version from before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.tries: list[float] = []

    def _is_away(self) -> bool:
        return int(self._clock()) in OUTAGE

    async def page(self, resource: Resource, rest: str = "") -> wire.Page:
        if self._is_away():
            self.tries.append(self._clock())
            raise Failed(Trouble.UNREACHABLE, "connection refused")
        name, version = ("old", "7") if self._clock() < OUTAGE.start else ("new", "9000")
        return wire.Page((json.dumps(pod(name)).encode(),), version, "")

    async def watch(self, resource: Resource, version: str, timeout_s: int) -> AsyncGenerator[bytes, None]:
        if self._is_away():
            self.tries.append(self._clock())
            raise Failed(Trouble.UNREACHABLE, "connection refused")
        if version == "7" and self._clock() > OUTAGE.start:
            raise Failed(Trouble.GONE, "too old resource version")
        yield b""
        bookmark = {"kind": "Pod", "metadata": {"resourceVersion": version}}
        yield json.dumps({"type": "BOOKMARK", "object": bookmark}).encode()
        await asyncio.sleep(min(float(timeout_s), max(1.0, OUTAGE.start - self._clock())))


class Following:
    """A reflector at work."""

    def __init__(self, loop: VirtualLoop, folder: Path) -> None:
        self.api = FakeAPI(loop.time)
        self.shelf = Shelf(PODS, Profile.ACNS, Memory(folder / "memory"))
        self.feed = Feed(PODS, clock=loop.time)
        self.shown: list[tuple[float, list[str]]] = []
        changed = lambda: self.shown.append((loop.time(), self.names()))  # noqa: E731
        self.reflector = Reflector([PODS], self.api, self.shelf, self.feed, changed)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        return [one.name for one in self.shelf.values()]


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    async def here(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", here)  # threads live by another clock
    loop = VirtualLoop()
    yield loop
    loop.close()


def run(loop: VirtualLoop, work: Coroutine[Any, Any, None]) -> None:
    loop.run_until_complete(work)


def test_for_an_hour_the_last_state_counts_and_then_the_new_one_comes_in_one_step(
    virtual: VirtualLoop, tmp_path: Path
) -> None:
    async def hour() -> None:
        following = Following(virtual, tmp_path)
        task = asyncio.create_task(following.reflector.run())
        await asyncio.sleep(OUTAGE.start + HOUR_S / 2)
        assert following.names() == ["old"]
        assert following.feed.state is State.BROKEN
        assert following.feed.listed, "which is what says that the last state is enforced"
        assert "connection refused" in following.feed.why
        await asyncio.sleep(HOUR_S)
        task.cancel()
        assert following.feed.state is State.FOLLOWED
        assert [names for _, names in following.shown] == [["old"], ["new"]], "at no time nothing"
        back_s = following.shown[-1][0] - OUTAGE.stop
        assert 0 <= back_s <= 31, "the longest wait, and a moment"
        # A wait is drawn from the upper half of thirty seconds: an hour has 120 to 240, and a few short ones.
        assert 115 < len(following.api.tries) < 260

    run(virtual, hour())
