"""Two worlds: that of the bypass tests, looked at from the other side (what may be known is known), and one
where addresses are collected all the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..bypass.conftest import world
from . import scene as scenes
from .scene import Scene

__all__ = ["scene", "shared_scene", "world"]


@pytest.fixture(scope="session")
def shared_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scenes.up(tmp_path_factory.mktemp("names") / "journal.jsonl") as made:
        yield made


@pytest.fixture
def scene(shared_scene: Scene) -> Scene:
    shared_scene.clear()
    return shared_scene
