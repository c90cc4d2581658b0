"""Every statement of every shipped topology is true: what `lab.check` shows, one test a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from lab.runtime.lab import Lab
from lab.spec.expect import Row
from lab.spec.load import load_topology, shipped_topologies

pytestmark = pytest.mark.root

Table = Callable[[str], list[Row]]

EXPECTED = {path.stem: load_topology(path).expect for path in shipped_topologies()}
ROWS = [(name, number) for name, statements in EXPECTED.items() for number in range(len(statements))]


@pytest.fixture(scope="module")
def table(quickstart: Lab) -> Iterator[Table]:
    """The truth table of a shipped topology; its lab comes up when the first row is asked for."""
    with ExitStack() as labs:

        @cache
        def checked(name: str) -> list[Row]:
            if name == quickstart.topology.name:
                return quickstart.check()
            lab = Lab.up(name, name=f"t{os.getpid()}-{name}")
            labs.callback(lab.down)
            return lab.check()

        yield checked


@pytest.mark.parametrize(
    ("name", "number"), ROWS, ids=[f"{name}: {EXPECTED[name][number]}" for name, number in ROWS]
)
def test_the_lab_does_as_its_topology_says(table: Table, name: str, number: int) -> None:
    row = table(name)[number]
    assert row.ok, row
