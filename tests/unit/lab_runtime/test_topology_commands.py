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


POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a}

spec:
  endpointSelector: {}
  egress:
    - toFQDN: []
"""
IN_A_BLOCK = "name: t\nnodes: [{name: n1}]\npolicies:\n  - inline: |\n" + "".join(
    f"      {line}".rstrip() + "\n" for line in POLICY.splitlines()
)
IN_QUOTES = f"name: t\nnodes: [{{name: n1}}]\npolicies:\n  - inline: {json.dumps(POLICY)}\n"
FIELD = "unknown field 'toFQDN' (did you mean 'toFQDNs'?)"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(IN_A_BLOCK, f"12:13: {FIELD}", id="in a block"),
        pytest.param(
            IN_A_BLOCK.replace("inline: |", "inline: |+"), f"12:13: {FIELD}", id="all its ends kept"
        ),
        pytest.param(IN_QUOTES, f"4:5: in line 8 of it: {FIELD}", id="in quotes"),
        pytest.param(IN_A_BLOCK.replace("inline: |", "inline: >"), "4:5: in line ", id="folded"),
    ],
)
def test_what_is_wrong_with_an_inline_policy_is_told_at_its_place_in_the_topology(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, place: str
) -> None:
    (tmp_path / "t.yaml").write_text(text)
    assert validate([str(tmp_path / "t.yaml")], as_json=False) == 1
    assert f"{tmp_path}/t.yaml:{place}" in capsys.readouterr().out


def test_an_inline_policy_of_the_base_is_wrong_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.yaml").write_text(IN_A_BLOCK)
    (tmp_path / "over.yaml").write_text("name: over\nbase: base.yaml\n")
    assert validate([str(tmp_path / "over.yaml")], as_json=False) == 1
    assert capsys.readouterr().out == f"{tmp_path}/base.yaml:12:13: {FIELD}\n"


def test_a_refusal_that_a_statement_expects_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(POLICY)
    file = tmp_path / "t.yaml"
    file.write_text(GOOD + "policies: [{file: wrong.yaml}]\n")
    assert validate([str(file)], as_json=False) == 1
    file.write_text(file.read_text() + "expect: [policy wrong.yaml refused unknown field]\n")
    assert validate([str(file)], as_json=False) == 0
    file.write_text(file.read_text().replace("unknown field", "not supported"))
    assert validate([str(file)], as_json=False) == 1


def test_a_file_that_cannot_be_read_does_not_hide_what_is_wrong_with_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_bytes(b"name: \xe9\n")
    (tmp_path / "b.yaml").write_text(WRONG)
    assert validate([str(tmp_path)], as_json=True) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [(Path(one["path"]).name, one["line"], one["column"]) for one in problems[:2]] == [
        ("a.yaml", 1, 7),
        ("b.yaml", 3, 8),
    ]


def test_no_name_is_no_folder() -> None:
    with pytest.raises(InputError, match="there is no topology ''"):
        validate([""], as_json=False)
