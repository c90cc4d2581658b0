"""A lab whose agents may be killed, hung and replaced; a test leaves it mended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runtime.lab import Lab

from ..resolver.resolver_world import Bench, ScriptedAgent, World
from . import outage
from .outage import Place

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    lab = Lab.up("quickstart", name=f"t{os.getpid()}-failover")
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def place(own_lab: Lab) -> Iterator[Place]:
    with outage.places(own_lab) as made:
        yield made


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.end()


@pytest.fixture
def bench(world: World, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(world, ScriptedAgent(tmp_path / "fqdndata.sock"), tmp_path)
    yield made
    made.end()
