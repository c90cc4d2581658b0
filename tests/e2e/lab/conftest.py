"""Labs for the tests of the lab itself: small ones, in a state folder of this session's own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.order import NO_AGENTS
from lab.runtime import state
from lab.runtime.lab import Lab

from .small_labs import topology

STATEMENTS = ["a resolves api.example.com", "a blocked 198.51.100.10:80", "web connects 10.96.0.20:80"]
FAKES = Path(__file__).parent / "fakes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs root."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session", autouse=True)
def state_root() -> Iterator[Path]:
    """A root of our own under /run: labs of the machine's user are no concern of these tests."""
    if os.geteuid() != 0:
        yield Path("/nonexistent")
        return
    with tempfile.TemporaryDirectory(dir="/run", prefix="acns-t") as folder:
        patch = pytest.MonkeyPatch()
        patch.setenv(state.STATE_ROOT_VARIABLE, f"{folder}/l")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), os.environ.get("PYTHONPATH", "")]))
        yield Path(folder, "l")
        patch.undo()
        assert not Path(folder, "l").exists(), "a lab of these tests is left"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One lab without agents for all tests of a module that do not break it."""
    running = Lab.up(topology("shared", expect=STATEMENTS), agents=NO_AGENTS)
    try:
        yield running
    finally:
        running.down()
