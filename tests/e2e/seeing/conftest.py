"""One `quickstart` for all tests of seeing into a lab. Who breaks it mends it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.runtime.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    running = Lab.up("quickstart", name=f"t{os.getpid()}-seeing")
    running.wait_settled()
    try:
        yield running
    finally:
        running.down()
