"""Labs for the tests of the agent pair, shared to stay fast: a test leaves its lab as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.runtime.lab import Lab

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def quickstart() -> Iterator[Lab]:
    """The shipped topology, up for the whole session. Tests here kill nothing and change no policy."""
    with_name = f"t{os.getpid()}-quickstart"
    lab = Lab.up("quickstart", name=with_name)
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def own_quickstart() -> Iterator[Lab]:
    """A lab of the module's own, for tests that kill agents or change policies, and mend it again."""
    lab = Lab.up("quickstart", name=f"t{os.getpid()}-own")
    try:
        yield lab
    finally:
        lab.down()
