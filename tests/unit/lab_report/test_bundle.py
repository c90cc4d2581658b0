"""What a bundle holds of a lab, without a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.report import bundle
from lab.spec.load import find_topology, load_topology


@pytest.mark.parametrize(
    "odd",
    ["\N{NEXT LINE}", "\N{LINE SEPARATOR}", "\ufeff", "\N{GRINNING FACE}", "\x07", "\x1b[1m", "\r\n", "\t"],
)
def test_a_topology_in_a_bundle_is_the_labs_to_the_letter(tmp_path: Path, odd: str) -> None:
    described = load_topology(find_topology("quickstart")).model_copy(update={"description": f"one{odd}two"})
    path = tmp_path / "topology.yaml"
    path.write_bytes(bundle.topology_text(described, []).encode())
    assert load_topology(path).model_copy(update={"name": described.name}) == described.model_copy(
        update={"policies": ()}
    )
