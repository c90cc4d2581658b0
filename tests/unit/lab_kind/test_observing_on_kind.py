"""`lab.observe` about a lab on kind: files on nodes, read there by a real shell; docker is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from acns.telemetry import flow_json
from acns.telemetry.flows import Flow, Peer, Verdict
from lab.backends.kind import commands, objects, observing, tools
from lab.backends.kind.observing import NodeFile
from lab.errors import EnvironmentFault, InputError
from lab.runtime.observe import Typed
from lab.spec.load import find_topology, load_topology
from lab.spec.plan import Addressing

from .conftest import Desk


def inside(command: list[str]) -> tuple[int, bytes]:
    """As `docker exec` would, here."""
    done = subprocess.run(["/bin/" + command[0], *command[1:]], capture_output=True, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.jsonl"


def new(file: NodeFile) -> list[bytes]:
    return list(file.new_lines())


def test_whole_lines_come_once_also_where_a_line_is_still_being_written(path: Path) -> None:
    file = NodeFile(inside, str(path))
    assert new(file) == []
    path.write_bytes(b"one\ntw")
    assert new(file) == [b"one"]
    assert new(file) == []
    path.write_bytes(b"one\ntwo\n\xc3\xa4\n")
    assert new(file) == [b"two", "ä".encode()]


def test_what_is_left_of_a_file_that_is_rotated_comes_first(path: Path) -> None:
    older = path.with_name("flows.jsonl.1")
    older.write_bytes(b"zero\n")
    path.write_bytes(b"one\n")
    file = NodeFile(inside, str(path))
    assert new(file) == [b"zero", b"one"]
    path.write_bytes(b"one\ntwo\n")
    path.rename(older)
    path.write_bytes(b"three\n")
    assert new(file) == [b"two", b"three"]


def test_flows_of_packets_and_of_names_are_shown_by_time_with_the_pods_names(
    running: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    dropped = Flow(
        2_000_000_000, "node1", Verdict.DROPPED, Peer("10.244.0.10", pod="frontend"), Peer("192.0.2.9")
    )
    topology = load_topology(find_topology("quickstart"))
    (frontend,) = [one for one in Addressing.of(topology).pods if one.key == "default/frontend"]
    asked = {"ts": 1.0, "event": "dns.query", "source": str(frontend.address), "server": "10.96.0.10:53"}
    asked |= {"transport": "udp", "name": "api.example.com.", "type": 1, "verdict": "forward"}
    flows = objects.file_of(topology, "shim", "flow_log_file")
    names = objects.file_of(topology, "resolver", "journal_file")
    for place, text in ((flows, flow_json.line(dropped)), (names, json.dumps(asked) + "\n")):
        running.say(f"docker exec {place}", stdout=f"4711\n{text}")
        running.say(f"docker exec {place}.1", exit_code=44, stdout="")
    found = commands.lab("demo")
    assert found is not None
    assert found.observe(Typed(json=True)) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["time"] for one in shown] == ["1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z"], shown
    assert [one["flow"]["source"]["pod_name"] for one in shown] == ["frontend", "frontend"]


@pytest.fixture
def passing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for docker, on PATH: what is to run on a node runs here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return docker


def test_on_a_node_a_file_is_awaited_that_is_not_there_yet(passing: Path, path: Path) -> None:
    file = NodeFile(observing.inside("node1"), str(path))
    assert new(file) == []
    path.write_bytes(b"one\n")
    assert new(file) == [b"one"]


def test_a_docker_without_an_end_is_told(passing: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passing.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(tools, "PATIENCE_S", 0.2)
    with pytest.raises(EnvironmentFault, match=r"no end within 0.2 s: docker exec node1"):
        new(NodeFile(observing.inside("node1"), str(path)))


def test_a_docker_that_is_not_there_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(EnvironmentFault, match="docker is not on PATH"):
        new(NodeFile(observing.inside("node1"), str(path)))


def test_a_node_that_cannot_be_asked_is_told(running: Desk) -> None:
    running.say("docker exec", "docker-version-not-running")
    found = commands.lab("demo")
    assert found is not None
    with pytest.raises(EnvironmentFault, match="the Docker daemon does not run"):
        list(next(observing.sources(found.lab)).new())


def test_the_agents_write_what_is_read_also_where_a_topology_says_where() -> None:
    topology = load_topology(find_topology("quickstart"))
    for agent, setting in (
        ("shim", "flow_log_file"),
        ("shim", "journal_file"),
        ("resolver", "journal_file"),
    ):
        path = objects.file_of(topology, agent, setting)
        assert path
        assert f"{setting}={path}" in objects.overrides(topology, agent)
    node = topology.nodes[0].model_copy(update={"shim": {"flow_log_file": "/var/lib/acns/mine"}})
    topology = topology.model_copy(update={"nodes": (node,)})
    assert objects.file_of(topology, "shim", "flow_log_file") == "/var/lib/acns/mine"
    assert "flow_log_file=/var/lib/acns/mine" in objects.overrides(topology, "shim")


def test_a_lab_that_keeps_no_flow_log_says_so(running: Desk) -> None:
    found = commands.lab("demo")
    assert found is not None
    node = found.lab.topology.nodes[0].model_copy(update={"shim": {"flow_log_file": ""}})
    found.lab.topology = found.lab.topology.model_copy(update={"nodes": (node,)})
    with pytest.raises(InputError, match="keeps no flow log"):
        list(observing.sources(found.lab))
