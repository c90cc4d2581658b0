"""A command line that cannot be read is no verdict: 125 for `git bisect run`, 2 as all other bad usage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
