"""A shim that cannot start leaves the one before as it is found."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from acns.errors import EnvironmentFault
from acns.shim import daemon
from acns.shim.metrics import ShimMetrics
from acns.shim.publisher import Publisher
from acns.shim.service import FQDNDataService, Server
from acns.telemetry import metrics
from acns.telemetry.http import HealthServer, Readiness


@asynccontextmanager
async def shim(folder: Path) -> AsyncIterator[tuple[Server, HealthServer]]:
    """What of one is found by others."""
    mappings: Any = None
    server = Server(FQDNDataService(Publisher(), mappings, ShimMetrics()), folder / "fqdndata", "")
    health = HealthServer(str(folder / "http"), metrics.new_registry(), Readiness)
    try:
        yield server, health
    finally:
        await server.stop()
        await health.stop()


async def appear(server: Server, health: HealthServer) -> None:
    assert await daemon.appear(server, health, asyncio.Event())


@pytest.mark.parametrize("no_room_for", ["fqdndata", "http"])
async def test_one_that_cannot_make_a_link_takes_nothing_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_room_for: str
) -> None:
    make = Path.symlink_to

    def full(link: Path, target: str) -> None:
        if target.startswith(no_room_for):
            raise OSError(errno.ENOSPC, "No space left on device")
        make(link, target)

    async with shim(tmp_path) as (server, health):
        await appear(server, health)
        async with shim(tmp_path) as next_one:
            monkeypatch.setattr(Path, "symlink_to", full)
            with pytest.raises(EnvironmentFault, match="No space left on device") as fault:
                await appear(*next_one)
            assert fault.value.hint
        assert not health.is_lost
        assert not server.generation.is_overtaken
    assert list(tmp_path.iterdir()) == []


async def test_one_that_starts_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    async with shim(tmp_path) as first, shim(tmp_path) as second:
        await appear(*first)
        await appear(*second)
        assert first[0].generation.is_overtaken
        assert not second[0].generation.is_overtaken
        assert not first[1].is_lost, "another's pages are in their place"
    assert list(tmp_path.iterdir()) == []


async def test_one_that_is_told_to_end_while_it_starts_takes_nobodys_place_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    told = asyncio.Event()
    told.set()
    async with shim(tmp_path) as first:
        await appear(*first)
        async with shim(tmp_path) as second:
            assert not await daemon.appear(*second, told)
        assert not first[0].generation.is_overtaken
        assert not first[1].is_lost
    assert list(tmp_path.iterdir()) == []
