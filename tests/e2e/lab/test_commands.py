"""The commands as a person types them: `invoke lab.…`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab.runtime.lab import Lab

REPOSITORY = Path(__file__).parents[3]


def invoke(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "invoke", *arguments]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(argv, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=60)


def test_exec_passes_words_as_they_are_and_the_exit_code_through(lab: Lab) -> None:
    done = invoke(
        "lab.exec", "a", "--", "sh", "-c", 'printf "%s|" "$@"; exit 9', "sh", "two words", "--name", "*"
    )
    assert (done.stdout, done.returncode) == ("two words|--name|*|", 9)


def test_exec_reports_death_by_signal_and_missing_commands_as_a_shell_does(lab: Lab) -> None:
    assert invoke("lab.exec", "a", "--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL
    assert invoke("lab.exec", "a", "--", "no-such-command").returncode == 127


def test_exec_reaches_nodes_and_the_internet_too(lab: Lab) -> None:
    assert invoke("lab.exec", "n2", "--", "hostname").stdout == "n2\n"
    assert invoke("lab.exec", "internet", "--", "hostname").stdout == "internet\n"


def test_an_error_is_a_message_with_a_hint_and_its_exit_code_and_no_traceback(lab: Lab) -> None:
    done = invoke("lab.exec", "nobody", "--", "true")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no pod nobody in lab shared\n  hint: pods: default/a")
    assert "Traceback" not in done.stderr
    assert "Traceback" in invoke("lab.exec", "nobody", "--", "true", ACNS_DEBUG="1").stderr


def test_status_and_list_are_json_when_asked(lab: Lab) -> None:
    status = json.loads(invoke("lab.status", "--json").stdout)
    assert "version" in status
    listed = json.loads(invoke("lab.list", "--json").stdout)
    assert [(one["name"], one["state"]) for one in listed["labs"]] == [("shared", "up")]


def test_check_exits_1_where_the_table_disagrees_and_0_where_it_agrees(lab: Lab) -> None:
    done = invoke("lab.check", "--json")
    assert (done.returncode, json.loads(done.stdout)["agrees"]) == (1, False)
    assert [row["ok"] for row in json.loads(done.stdout)["rows"]] == [True, False, True]


def test_logs_prints_a_processes_log_and_lists_what_there_is(lab: Lab) -> None:
    assert invoke("lab.logs", "internet/dns").returncode == 0
    assert invoke("lab.logs", "dns").returncode == 0
    done = invoke("lab.logs", "n1/shim")
    assert done.returncode == 2
    assert "internet/dns" in done.stderr


def test_a_shell_runs_where_it_was_asked_to(lab: Lab) -> None:
    argv = [sys.executable, "-m", "invoke", "lab.shell", "web"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=env, input="hostname\nexit 5\n", capture_output=True, text=True, timeout=20
    )
    assert (done.stdout, done.returncode) == ("web\n", 5)


def test_doctor_says_that_this_machine_will_do() -> None:
    done = invoke("lab.doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert "version" in json.loads(done.stdout)


def test_listing_the_commands_imports_nothing_heavy() -> None:
    heavy = "{'pyroute2', 'pydantic', 'grpc', 'rich', 'lab'}"
    script = f"import sys, tasks; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_down_of_what_is_not_there_says_so_and_is_no_error() -> None:
    started_s = time.monotonic()
    done = invoke("lab.down", "--name", "no-such-lab")
    assert done.returncode == 0
    assert "there is no lab no-such-lab" in done.stderr
    assert time.monotonic() - started_s < 5
