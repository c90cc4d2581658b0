"""A lab whose agents may be killed, hung and replaced; a test leaves it mended."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.runtime.lab import Lab

from ..resolver.conftest import bench, two_pods, world
from . import outage
from .outage import Place

__all__ = ["bench", "own_lab", "place", "two_pods", "world"]

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
