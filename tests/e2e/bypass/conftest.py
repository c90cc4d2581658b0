"""One world for all tests here: a test leaves its policy as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import bypass_world
from .bypass_world import World


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    with bypass_world.up() as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.clear()
    return shared_world
