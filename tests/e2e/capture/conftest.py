"""One `quickstart` for all tests of captures, and one network namespace with nothing in it but `lo`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.kernel import netns
from lab.kernel.links import Links
from lab.runtime.lab import Lab

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The shipped topology. Tests here may start captures, and stop them again."""
    running = Lab.up("quickstart", name=f"t{os.getpid()}-capture")
    running.wait_settled()
    try:
        yield running
    finally:
        running.down()


@pytest.fixture
def alone() -> Iterator[netns.Namespace]:
    with netns.keeping(netns.make()) as namespace:
        with Links(namespace) as links:
            links.up(1)
        yield namespace
