"""What `repro.run`, `repro.save` and `repro.import` say to scripts: exit codes, JSON, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.errors import InputError
from lab.repro import commands, saved
from lab.repro.commands import Typed
from lab.repro.scenario import load

from .scenes import ask, scenario

API = "198.51.100.1"
CAPTURE = Path(__file__).parents[2] / "data/captures/dnscap/dns.pcap"


def file(folder: Path, outcome: str) -> str:
    scene = scenario(
        ask("api.example.com", API), {"at_ms": 5, "connect": f"{API}:443", "after": 1, "outcome": outcome}
    )
    load.save(scene, folder / "x.yaml")
    return str(folder / "x.yaml")


PURE = Typed("pure")


def test_the_same_as_recorded_is_0(tmp_path: Path) -> None:
    assert commands.run(file(tmp_path, "established"), PURE) == 0


def test_different_is_1_and_the_step_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(file(tmp_path, "silent"), PURE) == 1
    assert "diverged at step 2: recorded was 'silent', found 'established'" in capsys.readouterr().err


@pytest.mark.parametrize("typed", [PURE, Typed("pure", timing="soon"), Typed("pure", runs=0)])
def test_what_could_not_run_is_125(tmp_path: Path, typed: Typed) -> None:
    path = file(tmp_path, "silent") if typed != PURE else str(tmp_path / "none.yaml")
    with pytest.raises(SystemExit) as raised:
        commands.run(path, typed)
    assert raised.value.code == 125


def test_other_agents_need_a_lab(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        commands.run(file(tmp_path, "silent"), Typed("pure", resolver="some.module"))
    assert raised.value.code == 125


def test_runs_give_a_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(file(tmp_path, "silent"), Typed("pure", runs=3)) == 1
    assert "0 of 3 runs the same as recorded: 100% diverged" in capsys.readouterr().out


def test_json_has_a_version_and_a_row_per_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(file(tmp_path, "silent"), Typed("pure", json=True)) == 1
    value = json.loads(capsys.readouterr().out)
    assert (value["version"], value["same"], value["diverged_at"]) == (1, 0, [2])
    assert [row["agrees"] for row in value["steps"]] == [True, False]


def test_shrunk_as_json_is_the_scenario_with_what_matters_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output, typed = file(tmp_path, "established"), str(tmp_path / "small"), Typed("pure", json=True)
    assert commands.shrink(path, typed, step=2, output=output) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["file"], told["step"]) == (1, output, 2)
    assert told["scenario"] == load.as_value(load.load(tmp_path / "small"))


def test_a_scenario_that_expects_nothing_could_not_run(tmp_path: Path) -> None:
    silent = load.load(Path(file(tmp_path, "silent")))
    for steps in ((), tuple(step.model_copy(update={"outcome": ""}) for step in silent.steps)):
        load.save(silent.model_copy(update={"steps": steps}), tmp_path / "x.yaml")
        with pytest.raises(SystemExit) as raised:
            commands.run(str(tmp_path / "x.yaml"), PURE)
        assert raised.value.code == 125


def test_what_is_shrunk_expects_of_other_steps_only_what_comes_of_them(tmp_path: Path) -> None:
    """The records of the first go, as nothing that is dropped needs them; what came of it goes with them."""
    told = {**ask("api.example.com", API), "outcome": f"NOERROR {API}"}
    dropped = {"at_ms": 5, "connect": "198.51.100.7:443", "after": 1, "outcome": "silent"}
    path, output = tmp_path / "x.yaml", tmp_path / "small.yaml"
    load.save(scenario(told, dropped), path)
    for typed in (PURE, Typed("pure", timing="causal")):
        assert commands.run(str(path), typed) == 0
        assert commands.shrink(str(path), typed, step=2, output=str(output)) == 0
        assert commands.run(str(output), typed) == 0


def test_a_regression_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path, where = file(tmp_path, "silent"), {"as_recorded": True, "folder": str(tmp_path)}
    assert commands.save("kept", path, PURE, **where) == 0  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is there already"):
        commands.save("kept", path, PURE, **where)  # type: ignore[arg-type]
    assert commands.save("kept", path, PURE, again=True, **where) == 0  # type: ignore[arg-type]


def test_saved_as_json_says_where_it_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for outcome, differs_at in (("silent", 2), ("established", None)):
        path, typed = file(tmp_path, outcome), Typed("pure", json=True)
        assert commands.save(outcome, path, typed, as_recorded=False, folder=str(tmp_path)) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"version": 1, "folder": str(tmp_path / outcome), "differs_at": differs_at}


def test_imported_as_json_is_the_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for output in ("", str(tmp_path / "made.yaml")):
        assert commands.import_(str(CAPTURE), commands.Said(output=output, name="made", json=True)) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["version"], told["file"]) == (1, output or None)
    assert told["scenario"] == load.as_value(load.load(tmp_path / "made.yaml"))


def test_a_saved_scenario_is_judged_by_what_it_expects(tmp_path: Path) -> None:
    path = file(tmp_path, "silent")
    assert commands.save("mine", path, PURE, as_recorded=False, folder=str(tmp_path)) == 0
    assert commands.run(str(tmp_path / "mine"), Typed()) == 0
    assert commands.save("bug", path, PURE, as_recorded=True, folder=str(tmp_path)) == 0
    assert commands.run(str(tmp_path / "bug"), Typed()) == 1


def test_a_saved_scenario_must_expect_something_of_each_step(tmp_path: Path) -> None:
    commands.save("mine", file(tmp_path, "silent"), PURE, as_recorded=False, folder=str(tmp_path))
    expected = tmp_path / "mine" / saved.EXPECTED
    expected.write_text(expected.read_text().replace("- established\n", ""))
    with pytest.raises(SystemExit) as raised:
        commands.run(str(tmp_path / "mine"), Typed())
    assert raised.value.code == 125


ODD = "4500001400070000403e000000000000" + "c6336401"


def odd_file(folder: Path, *steps: dict[str, Any]) -> str:
    load.save(scenario(*steps, {"wire": [ODD], "outcome": "silent held"}), folder / "odd.yaml")
    return str(folder / "odd.yaml")


def test_where_nothing_that_counts_is_played_it_could_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = odd_file(tmp_path, ask("api.example.com", API))
    commands.save("odd", path, PURE, as_recorded=True, folder=str(tmp_path))
    for one in (path, str(tmp_path / "odd")):
        with pytest.raises(SystemExit) as raised:
            commands.run(one, PURE)
        assert raised.value.code == 125
        assert "--wire" in capsys.readouterr().err


@pytest.mark.parametrize("as_recorded", [True, False])
def test_what_is_not_played_counts_for_nothing_in_a_saved_scenario(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_recorded: bool
) -> None:
    path = odd_file(tmp_path, ask("api.example.com", API, outcome=f"NOERROR {API}"))
    commands.save("odd", path, PURE, as_recorded=as_recorded, folder=str(tmp_path))
    assert commands.run(str(tmp_path / "odd"), PURE) == 0
    assert "in all 1 steps; 1 not played" in capsys.readouterr().err
    assert "not played" not in (tmp_path / "odd" / saved.EXPECTED).read_text()


@pytest.mark.parametrize("name", ["../x", "X", "", "a/b", "a b"])
def test_a_regression_has_a_plain_name(tmp_path: Path, name: str) -> None:
    from acns.errors import InputError

    with pytest.raises(InputError):
        commands.save(name, file(tmp_path, "silent"), PURE, as_recorded=True)


def test_shrinking_says_what_matters_and_writes_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.yaml"
    path = file(tmp_path, "established")
    assert commands.shrink(path, PURE, step=2, output=str(out)) == 0
    assert "what matters is step 2" in capsys.readouterr().err
    assert [step.kind for step in load.load(out).steps] == ["ask", "connect"], "what opened the address"
