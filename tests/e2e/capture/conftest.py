"""The `quickstart` that all share, and one network namespace with nothing in it but `lo`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from lab.kernel import netns
from lab.kernel.links import Links
from lab.runtime.lab import Lab

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def lab(quickstart: Lab) -> Lab:
    """Tests here may start captures, and stop them again."""
    return quickstart


@contextlib.contextmanager
def _with_its_loopback() -> Iterator[netns.Namespace]:
    with netns.keeping(netns.make()) as namespace:
        with Links(namespace) as links:
            links.up(1)
        yield namespace


@pytest.fixture
def alone() -> Iterator[netns.Namespace]:
    with _with_its_loopback() as namespace:
        yield namespace


@pytest.fixture
def anew() -> Iterator[netns.Namespace]:
    """The same node, made again."""
    with _with_its_loopback() as namespace:
        yield namespace
