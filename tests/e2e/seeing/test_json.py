"""Every command whose result is data prints it as JSON when asked, with a version."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lab.runtime.lab import Lab

from .commands import REPOSITORY, environment, invoke

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    "words",
    [
        ("lab.status",),
        ("lab.check",),
        ("lab.cache",),
        ("lab.ruleset",),
        ("lab.graph",),
        ("lab.capture", "status"),
        ("lab.fault", "clear"),
    ],
    ids=" ".join,
)
def test_a_command_prints_one_object_with_a_version(lab: Lab, words: tuple[str, ...]) -> None:
    done = invoke(lab, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1


@pytest.mark.parametrize("words", [("lab.events",), ("lab.logs", "node1/shim")], ids=" ".join)
def test_what_grows_is_printed_line_by_line_each_with_a_version(lab: Lab, words: tuple[str, ...]) -> None:
    done = invoke(lab, *words, "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    assert {line["version"] for line in lines} == {1}


def test_a_fault_says_what_it_is_and_whether_it_lasts(lab: Lab) -> None:
    done = invoke(lab, "lab.fault", "link", "lossy", "legacy", "--json")
    invoke(lab, "lab.fault", "link", "ok", "legacy")
    assert json.loads(done.stdout) == {
        "version": 1,
        "lab": lab.name,
        "fault": "link lossy legacy --share 0.3",
        "lasts": True,
    }


@pytest.mark.parametrize(
    "words", [("lab.list",), ("lab.doctor",), ("lab.down", "--name", "nowhere")], ids=" ".join
)
def test_so_do_those_that_need_no_lab(lab: Lab, words: tuple[str, ...]) -> None:
    argv = [sys.executable, "-m", "invoke", *words, "--json"]
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=environment(lab), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1


def test_a_log_as_json_has_every_line(lab: Lab) -> None:
    lines = [
        json.loads(line)["line"]
        for line in invoke(lab, "lab.logs", "node1/shim", "--json").stdout.splitlines()
    ]
    assert lines == lab.process("node1/shim").log_file.read_text().splitlines()[: len(lines)]
    assert lines
