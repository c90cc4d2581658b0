"""One world for all tests here: a test leaves its policy as it found it."""

from __future__ import annotations

import pytest

from .bypass_world import World


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.clear()
    return shared_world
