"""Supervised processes: killed, held, restarted, asked for readiness; commands run inside the lab."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.order import Agents
from lab.errors import LabNotFound, ProcessFailed
from lab.runtime.lab import Lab

from ...waiting import until
from .small_labs import topology


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab whose agents only say that they are ready."""
    running = Lab.up(topology("processes"), agents=Agents("fake_agent", "fake_agent"))
    try:
        yield running
    finally:
        running.down()


def test_a_killed_agent_is_started_again(lab: Lab) -> None:
    shim = lab.node("n1").shim
    before, restarts = shim.pid, shim.restarts
    shim.kill(signal.SIGKILL)
    until(lambda: shim.pid not in (None, before), "a new process")
    shim.wait_ready()
    assert shim.restarts == restarts + 1
    assert shim.http_get("/readyz").status == 200


def test_an_agent_that_is_held_stays_down_until_it_is_started(lab: Lab) -> None:
    resolver = lab.node("n1").resolver
    pid = resolver.pid
    resolver.hold()
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    until_s = time.monotonic() + 0.3  # longer than the first back-off
    while time.monotonic() < until_s:
        assert (resolver.pid, resolver.status().state) == (None, "held")
    resolver.start()
    resolver.wait_ready()
    assert resolver.status().state == "ready"


def test_a_process_that_keeps_dying_is_started_ever_later(lab: Lab) -> None:
    web = lab.process("internet/web")
    starts = []
    for _ in range(3):
        before = web.pid
        killed_s = time.monotonic()
        web.kill()
        until(lambda before=before: web.pid not in (None, before), "a new process")
        starts.append(time.monotonic() - killed_s)
    # 0.2 s, 0.4 s, 0.8 s, and the time that a start takes.
    assert starts[2] - starts[0] > 0.3, starts
    web.wait_ready()


def test_the_pid_is_the_machines(lab: Lab) -> None:
    pid = lab.node("n2").shim.pid
    assert b"fake_agent" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_an_agent_that_is_not_ready_says_why(lab: Lab) -> None:
    shim = lab.node("n2").shim
    unready = lab.folder.node("n2") / "shim.toml.unready"
    unready.touch()
    try:
        assert shim.status().state == "not ready"
        with pytest.raises(ProcessFailed, match="pod default/a has no interface yet"):
            shim.wait_ready(timeout_s=0.2)
        with pytest.raises(ProcessFailed, match="n2/shim"):
            lab.wait_settled(timeout_s=0.2)
    finally:
        unready.unlink()
    lab.wait_settled()


def test_status_tells_what_the_shims_say_of_their_pods(lab: Lab) -> None:
    status = lab.status()
    pods = {pod.name: pod for pod in status.pods}
    assert (pods["a"].identity, pods["a"].enforced) == (12345, "egress")
    assert (pods["web"].identity, pods["web"].program) == (None, "web (ready)")
    assert [agent.health for node in status.nodes for agent in node.agents] == ["ready"] * 4
    assert status.nodes[0].agents[0].pid == lab.node("n1").shim.pid


def test_an_unknown_process_is_an_error_that_lists_the_known_ones(lab: Lab) -> None:
    with pytest.raises(LabNotFound) as caught:
        lab.process("n1/unknown").hold()
    assert "n1/shim" in caught.value.hint


def test_a_commands_exit_code_output_and_input_are_the_callers(lab: Lab) -> None:
    done = lab.pod("a").run(["sh", "-c", "cat; echo err >&2; exit 7"], input="in")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "err\n")


def test_a_command_that_hangs_is_killed_at_its_time_out(lab: Lab) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        lab.pod("a").run(["sleep", "60"], timeout_s=0.2)
    assert "sleep" not in lab.pod("a").run(["ps", "-A"]).stdout


def test_no_proxy_of_the_caller_reaches_a_pod(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    assert "proxy" not in lab.pod("a").run(["env"]).stdout


def test_clients_in_pods_trust_the_labs_web_servers(lab: Lab) -> None:
    argv = ["curl", "-sS", "--resolve", "api.example.com:443:198.51.100.10", "https://api.example.com/"]
    done = lab.pod("a").run(argv)
    assert "sni: api.example.com" in done.stdout, done.stderr


def test_nsenter_gets_a_person_to_the_same_place(lab: Lab) -> None:
    done = subprocess.run([*lab.pod("a").place.nsenter(), "hostname"], capture_output=True, text=True)
    assert done.stdout == "a\n"


def test_a_descriptor_of_a_pods_namespace_is_the_callers_to_close(lab: Lab) -> None:
    descriptor = lab.pod("a").netns_fd()
    try:
        assert os.fstat(descriptor).st_ino != os.stat("/proc/self/ns/net").st_ino
        inside = lab.pod("a").run(["stat", "-Lc", "%i", "/proc/self/ns/net"]).stdout.strip()
        assert inside == str(os.fstat(descriptor).st_ino)
    finally:
        os.close(descriptor)


def test_orphans_left_by_a_command_are_collected_by_the_holder(lab: Lab) -> None:
    lab.pod("a").run(["sh", "-c", "(sleep 0.05 &) ; exit 0"])
    until(lambda: "defunct" not in lab.pod("a").run(["ps", "-A"]).stdout, "no zombie")


def test_manifests_reach_every_node_and_leave_again(lab: Lab) -> None:
    lab.write_manifest("more.yaml", "kind: X\n")
    folders = [node.manifests for node in lab.nodes]
    assert [(folder / "more.yaml").read_text() for folder in folders] == ["kind: X\n"] * 2
    lab.remove_manifest("more.yaml")
    assert not any((folder / "more.yaml").exists() for folder in folders)
