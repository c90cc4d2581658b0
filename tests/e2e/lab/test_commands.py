"""The commands as a person types them: `invoke lab.…`.

First on a small lab without agents, then (`site`) the way of a newcomer with `quickstart`: up, look around,
try, break, mend, down.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from invoke.parser import Parser

import tasks
from lab.report import next_steps
from lab.runtime import state
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab
from lab.spec.load import find_topology, load_topology

from ...waiting import until

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


def test_exec_as_json_tells_the_code_and_both_outputs(lab: Lab) -> None:
    done = invoke("lab.exec", "a", "--json", "--", "sh", "-c", "printf out; printf '\\377' >&2; exit 9")
    told = {"version": 1, "code": 9, "stdout": "out", "stderr": "\ufffd"}
    assert (json.loads(done.stdout), done.stderr, done.returncode) == (told, "", 9)


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
    heavy = "{'pyroute2', 'pydantic', 'grpc', 'rich', 'acns', 'lab.runtime', 'lab.spec'}"
    script = f"import sys, tasks; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_down_of_what_is_not_there_says_so_and_is_no_error() -> None:
    started_s = time.monotonic()
    done = invoke("lab.down", "--name", "no-such-lab")
    assert done.returncode == 0
    assert "there is no lab no-such-lab" in done.stderr
    assert time.monotonic() - started_s < 5


# --- wrong input ------------------------------------------------------------------------------------------


REFUSING = """
name: refusing
nodes: [{name: n1}]
pods: [{name: a, node: n1}]
policies: [{file: wrong.yaml}]
"""
WRONG_POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: wrong}
spec:
  endpointSelector: {}
  egress:
  - toFQDN: [{matchName: api.example.com}]
"""


def test_up_with_a_policy_that_the_agents_refuse_builds_the_lab_says_so_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "refusing.yaml").write_text(REFUSING)
    (tmp_path / "wrong.yaml").write_text(WRONG_POLICY)
    try:
        done = invoke("lab.up", "--topology", str(tmp_path / "refusing.yaml"))
        assert done.returncode == 1, done.stderr
        assert "wrong.yaml:8:5: unknown field 'toFQDN' (did you mean 'toFQDNs'?)" in done.stdout
        assert "errors in manifests: 1 " in done.stderr
    finally:
        assert invoke("lab.down", "--name", "refusing").returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ("lab.status", "--name", "unknown"),
        ("lab.exec", "--name", "unknown", "a", "--", "true"),
        ("lab.up", "--topology", "unknown"),
        ("lab.up", "--topology", "unknown.yaml"),
        ("lab.up", "--name", "Not A Name"),
        ("lab.down", "--name", "../etc"),
        ("lab.shell", "nobody"),
        ("lab.exec", "a"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_said_with_exit_code_2(lab: Lab, command: tuple[str, ...]) -> None:
    done = invoke(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr


WRONG_TOPOLOGY = """\
name: wrong
nodes:
  - name: node1
pods:
  - {name: app, node: node2}
  - {name: app, node: node1, lables: {app: app}}
services:
  - {name: web, cluster_ip: 10.96.0.300, selector: {}, ports: []}
policies:
  - file: nowhere.yaml
expect:
  - app connect api.example.com:443
"""


def test_up_with_a_wrong_file_prints_every_mistake_with_its_place_and_builds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG_TOPOLOGY)
    done = invoke("lab.up", "--topology", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    places = re.findall(rf"{re.escape(str(path))}:(\d+):\d+: ", done.stderr)
    assert places == ["5", "6", "8", "10", "12"], done.stderr
    assert not state.folder_of("wrong").path.exists()


# --- nobody reads on --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("lab.status",), ("lab.status", "--json"), ("lab.list",), ("lab.doctor",)],
    ids=" ".join,
)
def test_a_reader_that_has_seen_enough_gets_no_traceback(lab: Lab, command: tuple[str, ...]) -> None:
    done = into_a_closed_pipe(*command)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def into_a_closed_pipe(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As `invoke … | head -1` when head is quicker."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    env.pop("PYTHONUNBUFFERED", None)  # the last of the output is then written when the program ends
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, "-m", "invoke", *command],
            cwd=REPOSITORY,
            env=env,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writing)


# --- a newcomer's way ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """A state folder with nothing but the lab that `invoke lab.up` brought up there, and what it printed."""

    root: Path
    first_up: subprocess.CompletedProcess[str]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(REPOSITORY), state.STATE_ROOT_VARIABLE: str(self.root)}

    def invoke(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return invoke(*arguments, **self.environment)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(dir="/run", prefix="acns-t") as folder:
        root = Path(folder, "l")
        made = Site(root, invoke("lab.up", **{state.STATE_ROOT_VARIABLE: str(root)}))
        try:
            yield made
        finally:
            made.invoke("lab.down", "--name", "quickstart")
        assert not root.exists()


def test_up_shows_progress_then_status_truth_table_and_tour(site: Site) -> None:
    assert site.first_up.returncode == 0, site.first_up.stderr
    assert "lab quickstart is up (" in site.first_up.stderr
    shown = [
        site.first_up.stdout.find(text)
        for text in ("lab quickstart (topology quickstart)", "statements, all true\n", "\nTry:\n")
    ]
    assert -1 < shown[0] < shown[1] < shown[2]


def test_a_second_up_says_that_nothing_changed_and_shows_the_tables_again(site: Site) -> None:
    done = site.invoke("lab.up", "--json")
    assert done.stderr == "lab quickstart is up already and as it should be: nothing changed\n"
    assert (done.returncode, json.loads(done.stdout)["truth"]["agrees"]) == (0, True)


def test_status_shows_who_is_enforced_and_how_the_agents_are(site: Site) -> None:
    status = json.loads(site.invoke("lab.status", "--json").stdout)
    assert [agent["health"] for agent in status["nodes"][0]["agents"]] == ["ready", "ready"]
    enforced = {pod["name"]: pod["enforced"] for pod in status["pods"]}
    assert enforced["frontend"] == enforced["batch"] == "egress"
    assert enforced["legacy"] == enforced["web"] == "none"
    assert all(isinstance(pod["identity"], int) for pod in status["pods"])


def test_a_clients_own_exit_code_tells_what_the_policy_did(site: Site) -> None:
    allowed = site.invoke("lab.exec", "frontend", "--", "curl", "-sS", "https://api.example.com/")
    assert (allowed.returncode, "host: api.example.com" in allowed.stdout) == (0, True), allowed.stderr
    denied = site.invoke("lab.exec", "frontend", "--", "curl", "-sS", "https://evil.example.org/")
    assert (denied.returncode, denied.stdout) == (6, "")  # curl: could not resolve host


def test_check_exits_1_while_a_policy_is_missing_and_up_brings_it_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, str(site.root))
    node = Lab.attach("quickstart").nodes[0]
    (node.manifests / "frontend.yaml").unlink()
    until(lambda: not is_enforced(node, "default/frontend"), "the pod is free", 10)
    done = site.invoke("lab.check", "--json")
    wrong = {(row["pod"], row["name"]) for row in json.loads(done.stdout)["rows"] if not row["ok"]}
    assert (done.returncode, ("frontend", "evil.example.org") in wrong) == (1, True)
    assert {pod for pod, _ in wrong} == {"frontend"}
    mended = site.invoke("lab.up")
    assert "manifest frontend.yaml restored\n" in mended.stderr
    assert mended.returncode == 0, mended.stdout


def is_enforced(node: NodeHandle, pod: str) -> bool:
    return bool(node.shim.http_get("/readyz").json()["endpoints"][pod]["enforced"] != "none")


def test_logs_of_an_agent_are_json_lines(site: Site) -> None:
    lines = site.invoke("lab.logs", "node1/shim").stdout.splitlines()
    assert "policy committed" in {json.loads(line)["event"] for line in lines}


def test_following_a_log_shows_what_is_added_until_the_reader_goes(site: Site) -> None:
    log = site.root / "quickstart/nodes/node1/resolver.log"
    with subprocess.Popen(
        [sys.executable, "-m", "invoke", "lab.logs", "--follow", "node1/resolver"],
        cwd=REPOSITORY,
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert json.loads(following.stdout.readline())["event"] == "started"
        with log.open("a") as agent:
            agent.write("added\n")
        while following.stdout.readline() != "added\n":
            pass
        following.send_signal(signal.SIGINT)
        assert (following.wait(10), following.stderr.read()) == (0, "")


def test_list_shows_the_lab_its_state_and_its_topology(site: Site) -> None:
    assert site.invoke("lab.list").stdout == "quickstart\tup\tquickstart\n"


def test_doctor_names_each_feature_and_gives_a_verdict(site: Site) -> None:
    done = site.invoke("lab.doctor")
    assert done.returncode == 0, done.stdout
    assert "nft tproxy" in done.stdout
    assert "labs run here" in done.stdout


def test_the_commands_of_the_tour_show_what_they_promise(site: Site) -> None:
    curl, dig, blocked = (
        line for line in tour_lines(site.first_up.stdout) if line.startswith("invoke lab.exec")
    )
    assert "host: api.example.com" in site.invoke(*shlex.split(curl)[1:]).stdout
    assert "status: REFUSED" in site.invoke(*shlex.split(dig)[1:]).stdout
    assert site.invoke(*shlex.split(blocked)[1:]).returncode == 28, "curl's code for a time-out"


def tour_lines(output: str) -> list[str]:
    """The commands that the tour offers."""
    return re.findall(r"^  (invoke .+)$", output, re.MULTILINE)


@pytest.mark.parametrize("name", ["quickstart", "mine"])
def test_the_tours_commands_are_spelled_as_the_tasks_want_them(name: str) -> None:
    out = io.StringIO()
    next_steps.print_tour(load_topology(find_topology("quickstart")), name, out)
    lines = tour_lines(out.getvalue())
    assert len(lines) == 6
    for line in lines:
        Parser(tasks.namespace.to_contexts()).parse_argv(shlex.split(line)[1:])
    assert [("--name mine" in line) for line in lines] == [name == "mine"] * 6


def test_every_command_about_one_lab_takes_its_name_by_the_same_option() -> None:
    without = {"lab.doctor", "lab.list", "lab.gc", "lab.validate", "lab.schema"}
    for context in tasks.namespace.to_contexts():
        name = context.name or ""
        if name.startswith("lab."):
            assert ("--name" in context.flags) == (name not in without), name


def test_progress_that_nobody_reads_does_not_stop_up(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "quiet.yaml"
    path.write_text("name: quiet\nnodes: [{name: node1}]\npods: [{name: a, node: node1}]\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "lab.up", "--topology", str(path)],
        cwd=REPOSITORY,
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stdout.startswith("lab quiet (topology quiet)\n")) == (0, True)
    assert site.invoke("lab.down", "--name", "quiet").returncode == 0


def test_a_log_that_nobody_reads_on_ends_without_a_word(site: Site) -> None:
    done = into_a_closed_pipe("lab.logs", "node1/shim", **site.environment)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_down_says_that_nothing_is_left_and_is_right(site: Site) -> None:
    done = site.invoke("lab.down")
    assert (done.returncode, done.stderr) == (0, "lab quickstart is down: nothing of it is left\n")
    assert not site.root.exists()
    again = site.invoke("lab.down")
    assert (again.returncode, again.stderr) == (0, "no lab is there: nothing to take down\n")
