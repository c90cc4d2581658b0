"""One world for the module, one resolver and agent for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .resolver_world import Bench, ScriptedAgent, World
from .two_pods import add_pod


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.end()


@pytest.fixture(scope="module")
def two_pods(world: World) -> World:
    add_pod(world)
    return world


@pytest.fixture
def bench(world: World, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(world, ScriptedAgent(tmp_path / "fqdndata.sock"), tmp_path)
    yield made
    made.end()
