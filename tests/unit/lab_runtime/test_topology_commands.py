"""`lab.validate`: all that is wrong, for people and for programs, and the exit code that says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acns.errors import InputError
from lab.runtime.topology_commands import validate

GOOD = "name: t\nnodes: [{name: n1}]\n"
WRONG = "name: t\nnodes: [{name: n1}]\npods: [{name: a, nod: n1}, {name: b, node: n2}]\n"


def test_shipped_topologies_are_right() -> None:
    assert validate(["quickstart", "two-nodes"], as_json=False) == 0


def test_every_problem_is_a_line_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(WRONG)
    assert validate([str(tmp_path)], as_json=False) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{tmp_path}/b.yaml:3:8: 'node' is missing",
        f"{tmp_path}/b.yaml:3:18: unknown field 'nod' (did you mean 'node'?)",
        f"{tmp_path}/b.yaml:3:38: there is no node 'n2' (known here: n1)",
    ]
    assert "2 topologies: 3 errors" in err


def test_problems_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.yaml").write_text(WRONG)
    assert validate([str(tmp_path / "b.yaml")], as_json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == 1
    assert [(one["line"], one["column"], one["hint"]) for one in said["problems"]] == [
        (3, 8, ""), (3, 18, "did you mean 'node'?"), (3, 38, "known here: n1"),
    ]  # fmt: skip


def test_a_file_that_is_not_there_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no topology file"):
        validate([str(tmp_path / "none.yaml")], as_json=False)
