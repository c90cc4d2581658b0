"""How a command ends: its exit code says whose fault it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import EnvironmentFault, InputError
from lab.runtime import commands, ending_commands, state


def _denied(path: Path) -> Iterator[Path]:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("x"), 2), (EnvironmentFault("x"), 3), (KeyError("x"), 4)]
)
def test_the_exit_code_says_whose_fault_it_was(error: Exception, code: int) -> None:
    with pytest.raises(SystemExit) as ended, commands.explained_errors():
        raise error
    assert ended.value.code == code


def test_labs_that_we_may_not_look_into_are_an_environment_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setattr(Path, "iterdir", _denied)
    with pytest.raises(EnvironmentFault, match="Permission denied"):
        state.all_folders()


def test_an_empty_name_is_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(InputError):
        ending_commands.down("")


def test_external_programs_of_a_topology_run_only_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("name: t\nnodes: [{name: n1, external: {shim: {command: [sh, -c, 'rm -rf /']}}}]\n")
    monkeypatch.setattr(commands.Lab, "up", lambda *arguments: pytest.fail("it was brought up"))
    with pytest.raises(InputError, match=r"(?s)on n1, as shim: /.*sh -c 'rm -rf /'.*--external"):
        commands.up(str(file), None, as_json=False)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("{kind: shell, script: 'rm -rf /'}", "in pod p: /bin/sh -c 'rm -rf /'"),
        ("{kind: command, command: [rm, -rf, /]}", "in pod p: /[a-z/]*rm -rf /"),
    ],
)
def test_programs_of_pods_run_only_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(f"name: t\nnodes: [{{name: n1}}]\npods: [{{name: p, node: n1, program: {program}}}]\n")
    monkeypatch.setattr(commands.Lab, "up", lambda *arguments: pytest.fail("it was brought up"))
    with pytest.raises(InputError, match=f"(?s){said}.*--external"):
        commands.up(str(file), None, as_json=False)
