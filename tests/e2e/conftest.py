"""Worlds that more than one folder of tests looks at."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.runtime.lab import Lab

from .bypass import bypass_world
from .bypass.bypass_world import World


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    """A guest with a small policy, and everybody who would help it to more."""
    with bypass_world.up() as made:
        yield made


@pytest.fixture(scope="session")
def quickstart() -> Iterator[Lab]:
    """The shipped topology, for all who look at a lab. Who breaks it mends it."""
    running = Lab.up("quickstart", name=f"t{os.getpid()}-quickstart")
    running.wait_settled()
    try:
        yield running
    finally:
        running.down()
