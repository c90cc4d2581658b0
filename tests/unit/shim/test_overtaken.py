"""A shim whose place another has taken writes nothing, and stands by until that one is gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault
from acns.shim import overtaken
from acns.telemetry import sockets
from acns.telemetry.sockets import Generation

WAIT_S = 20.0


@contextlib.contextmanager
def serving(generation: Generation) -> Iterator[socket.socket]:
    with sockets.listen(generation.own) as listener:
        generation.switch()
        yield listener


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Generation]:
    made = Generation(tmp_path / "fqdndata")
    with serving(made):
        yield made


async def test_the_nodes_shim_may_write_until_another_takes_its_place(first: Generation) -> None:
    overtaken.check(first)
    with serving(Generation(first.link)), pytest.raises(EnvironmentFault, match="another shim"):
        overtaken.check(first)


async def test_one_whose_link_is_gone_writes_nothing_and_ends(first: Generation) -> None:
    """Another has been there and has left, or somebody has removed it: resolvers do not find it any more."""
    first.link.unlink()
    with pytest.raises(EnvironmentFault, match="another shim"):
        overtaken.check(first)
    stop = asyncio.Event()
    await asyncio.wait_for(overtaken.until(first, stop), WAIT_S)
    with pytest.raises(EnvironmentFault, match="not found any more"):
        await asyncio.wait_for(overtaken.stand_by(first, stop), WAIT_S)


async def test_it_serves_until_something_else_that_it_is_found_by_is_lost(
    first: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overtaken, "LOOK_S", 0.01)
    lost: list[bool] = []
    ends = asyncio.create_task(overtaken.until(first, asyncio.Event(), lambda: bool(lost)))
    await asyncio.sleep(0)
    assert not ends.done()
    lost.append(True)
    await asyncio.wait_for(ends, WAIT_S)


async def test_it_serves_until_another_takes_its_place(first: Generation) -> None:
    ends = asyncio.create_task(overtaken.until(first, asyncio.Event()))
    await asyncio.sleep(0)
    assert not ends.done()
    with serving(Generation(first.link)):
        await asyncio.wait_for(ends, WAIT_S)


async def test_standing_by_it_ends_with_an_error_when_the_other_is_gone(
    first: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overtaken, "LOOK_S", 0.01)
    with serving(Generation(first.link)):
        standing_by = asyncio.create_task(overtaken.stand_by(first, asyncio.Event()))
        done, _ = await asyncio.wait({standing_by}, timeout=0.1)
        assert not done
    with pytest.raises(EnvironmentFault, match="is gone"):
        await asyncio.wait_for(standing_by, WAIT_S)


async def test_told_to_stop_it_ends_well_whoever_serves(first: Generation) -> None:
    stop = asyncio.Event()
    with serving(Generation(first.link)):
        standing_by = asyncio.create_task(overtaken.stand_by(first, stop))
        await asyncio.sleep(0)
        stop.set()
        await asyncio.wait_for(standing_by, WAIT_S)
    await overtaken.until(first, stop)
