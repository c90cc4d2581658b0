"""Worlds that more than one folder of tests looks at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .bypass import bypass_world
from .bypass.bypass_world import World


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    """A guest with a small policy, and everybody who would help it to more."""
    with bypass_world.up() as made:
        yield made
