"""Every folder here is a scenario that once showed a bug, and what must come of it now (docs/repro.md).

`invoke repro.save NAME --scenario FILE` makes another; it is collected as soon as it is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.repro import commands, saved, table
from lab.repro.running import order

HERE = Path(__file__).parent


def _cases() -> list[Any]:
    """Those that run in a lab need root."""
    found = []
    for folder in sorted(path.parent for path in HERE.glob(f"*/{saved.EXPECTED}")):
        _, expected = saved.read(folder)
        assert expected is not None
        marks = [pytest.mark.root] if expected.level != "pure" else []
        found.append(pytest.param(folder, id=folder.name, marks=marks))
    return found


@pytest.mark.parametrize("folder", _cases())
def test_what_was_mended_stays_so(folder: Path) -> None:
    scenario, expected = saved.read(folder)
    assert expected is not None
    with commands.running(scenario, expected.level, commands.Typed().agents) as run:
        found = saved.judged(run(order.timing(expected.timing)), expected)
    table.print_table(scenario, found, "expected")
    assert [(one.number, one.outcome) for one in found] == [
        (one.number, one.recorded or one.outcome) for one in found
    ]
