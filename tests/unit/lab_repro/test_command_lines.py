"""A command line that cannot be read is no verdict: 125 for `git bisect run`, 2 as all other bad usage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from invoke.parser import argument

from lab.cli import unreadable

ROOT = Path(__file__).parents[3]


def run(*line: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "invoke", *line]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("line", [(), ("x.yaml", "--bogus"), ("x.yaml", "--runs", "many"), ("nosuch.yaml",)])
def test_a_run_that_cannot_be_read_could_not_run(line: tuple[str, ...]) -> None:
    done = run("repro.run", *line)
    assert done.returncode == 125, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", [("repro.save", "x"), ("lab.up", "--bogus"), ("no.such",)])
def test_another_command_that_cannot_be_read_is_bad_usage(line: tuple[str, ...]) -> None:
    done = run(*line)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("repro.run x.yaml --bogus", 125),
        ("--echo -c tasks repro.run --bogus", 125),
        ("repro.save repro.run --bogus", 2),
        ("-c repro.run repro.save --bogus", 2),
        ("", 2),
    ],
)
def test_only_a_run_s_own_line_is_for_bisect(line: str, code: int) -> None:
    assert unreadable.code_of(["invoke", *line.split()]) == code


def test_invoke_is_changed_once_however_often_the_commands_are_made() -> None:
    unreadable.install()
    changed = argument.Argument.set_value
    unreadable.install()
    assert argument.Argument.set_value is changed
