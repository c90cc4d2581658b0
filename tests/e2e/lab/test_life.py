"""Up, again, changed, broken, killed, down: what is left alone, what is mended, and that nothing stays
behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.order import NO_AGENTS, Agents
from lab.errors import HolderGone, LabNotFound, ProcessFailed
from lab.kernel import netns
from lab.runtime import state
from lab.runtime.lab import Lab, list_labs, take_down

from ...waiting import until
from .small_labs import tiny as topology

UP = """
import sys
from lab.backends.order import Agents
from lab.runtime.lab import Lab
from lab.spec.topology import Topology
topology = Topology.model_validate_json(sys.argv[1])
Lab.up(topology, progress=lambda text: print(text, flush=True), agents=Agents(*sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test ends without a lab, and proves that its processes are gone."""
    yield
    for summary in list_labs():
        take_down(summary.name)
    assert list_labs() == []
    assert processes_of_labs() == set()


def processes_of_labs() -> set[int]:
    """Processes in other PID namespaces with these tests' state root in their environment."""
    own = os.readlink("/proc/self/ns/pid")
    mark = f"{state.STATE_ROOT_VARIABLE}={state.state_root()}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            elsewhere = entry.name.isdigit() and os.readlink(entry / "ns/pid") != own
            if elsewhere and mark in (entry / "environ").read_bytes():
                found.add(int(entry.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def start_up(name: str, agents: tuple[str, str] = ("", ""), **more: object) -> subprocess.Popen[str]:
    """`Lab.up` in a process of its own."""
    argv = [sys.executable, "-c", UP, topology(name, **more).model_dump_json(), *agents]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def up(name: str, lines: list[str], **more: object) -> Lab:
    return Lab.up(topology(name, **more), progress=lines.append, agents=NO_AGENTS)


def test_a_second_up_changes_nothing_and_says_so() -> None:
    lines: list[str] = []
    first = up("one", [])
    pids = [status.pid for status in first.processes()]
    second = up("one", lines)
    assert second.record == first.record
    assert [status.pid for status in second.processes()] == pids
    assert lines == ["lab one is up already and as it should be: nothing changed"]


def test_up_brings_back_a_process_that_is_held_down_and_files_that_were_changed() -> None:
    lines: list[str] = []
    lab = up("one", [])
    wanted = (lab.folder.manifests("n1") / "pods.yaml").read_text()
    lab.process("internet/web").hold()
    lab.write_manifest("pods.yaml", "changed: true\n")
    lab.write_manifest("extra.yaml", "extra: true\n")
    again = up("one", lines)
    assert again.record == lab.record
    assert lines == [
        "manifest pods.yaml restored",
        "manifest extra.yaml removed",
        "internet/web was held: started",
    ]
    assert (lab.folder.manifests("n1") / "pods.yaml").read_text() == wanted
    assert not (lab.folder.manifests("n1") / "extra.yaml").exists()
    assert {status.state for status in again.processes()} == {"ready"}


def test_a_lab_that_other_code_has_made_is_said_and_rebuilt() -> None:
    lines: list[str] = []
    first = up("one", [])
    order = json.loads(first.folder.topology_file.read_text())
    first.folder.topology_file.write_text(json.dumps({**order, "format": order["format"] - 1}))
    with pytest.raises(LabNotFound, match="another version"):
        Lab.attach("one")
    second = up("one", lines)
    assert lines[0] == "lab one was made by another version of the lab: rebuilding it"
    assert second.record.pid != first.record.pid
    assert not first.record.alive()


def test_up_removes_what_a_dead_holder_left_and_builds_anew() -> None:
    lines: list[str] = []
    first = up("one", [])
    state.kill(first.record)
    assert [summary.state for summary in list_labs()] == ["broken"]
    second = up("one", lines)
    assert lines[0] == "removing what an unfinished or dead lab one left"
    assert second.record.alive()


def test_the_death_of_the_holder_ends_every_process_and_command_of_the_lab() -> None:
    lab = up("one", [])
    command = lab.pod("a").popen(["sleep", "60"])
    os.kill(lab.record.pid, signal.SIGKILL)
    assert command.wait(5) == -signal.SIGKILL
    until(lambda: not processes_of_labs(), "all processes are gone")
    with pytest.raises(HolderGone):
        lab.processes()
    with pytest.raises(HolderGone):
        lab.pod("a").run(["true"])


def test_down_ends_commands_that_still_run_and_needs_neither_topology_nor_patience() -> None:
    lab = up("one", [])
    command = lab.pod("a").popen(["sleep", "60"])
    lab.folder.topology_file.unlink()
    started_s = time.monotonic()
    assert take_down("one")
    assert time.monotonic() - started_s < 1
    assert command.wait(1) == -signal.SIGKILL
    assert not lab.folder.path.exists()
    assert not take_down("one")


def test_the_namespaces_are_gone_after_down() -> None:
    lab = up("one", [])
    with netns.keeping(lab.pod("a").place.open()) as inside:
        inode = os.fstat(inside.net).st_ino
    lab.down()
    listed = subprocess.run(["lsns", "-t", "net", "-n", "-o", "NS"], capture_output=True, text=True).stdout
    assert str(inode) not in listed.split()


def test_killing_up_at_any_moment_and_then_down_leaves_nothing() -> None:
    """The moments: when the folder is there, and after each line of progress."""
    neighbour = up("one-other", [])
    for lines in range(7):
        kill_up_after("one", lines)
        take_down("one")
        assert not state.folder_of("one").path.exists()
        assert [summary.name for summary in list_labs()] == ["one-other"]
        assert processes_of_labs() <= {neighbour.record.pid, *pids_of(neighbour)}
    assert {status.state for status in neighbour.processes()} == {"ready"}


def kill_up_after(name: str, lines: int) -> None:
    with start_up(name) as process:
        assert process.stdout is not None
        until(lambda: state.folder_of(name).path.exists(), "the folder is there", 10)
        for _ in range(lines):
            process.stdout.readline()
        process.kill()


def test_killing_up_in_the_middle_of_a_long_step_ends_what_it_made_at_once() -> None:
    slow = [{"name": "n1", "shim": {"never_ready": True}}]
    with start_up("one", agents=("fake_agent", "fake_agent"), nodes=slow) as process:
        folder = state.folder_of("one")
        until(lambda: (folder.node("n1") / "shim.log").exists(), "the agents are being waited for", 20)
        record = folder.record()
        assert record is not None
        assert record.alive()
        process.kill()
    until(lambda: not record.alive(), "the holder is dead", 1)


def pids_of(lab: Lab) -> set[int]:
    return {pid for status in lab.processes() if (pid := lab.process(status.name).pid)}


def test_killing_up_when_it_is_done_leaves_the_lab_up() -> None:
    process = start_up("one")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    lab = Lab.attach("one")
    assert lab.record.alive()
    assert {status.state for status in lab.processes()} == {"ready"}


def test_two_ups_at_once_make_one_lab() -> None:
    both = [start_up("one"), start_up("one")]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    built, waited = sorted((output for output, _ in outputs), key=len, reverse=True)
    assert "lab one is up (" in built
    assert "nothing changed" in waited
    assert [summary.name for summary in list_labs()] == ["one"]


def test_two_labs_live_side_by_side_and_one_goes_without_the_other() -> None:
    one, other = up("one", []), up("one-other", [])
    assert one.pod("a").address == other.pod("a").address
    one.down()
    assert [(summary.name, summary.state) for summary in list_labs()] == [("one-other", "up")]
    answer = other.pod("a").run(["curl", "-sS", "http://198.51.100.10/"])
    assert "server: 198.51.100.10:80" in answer.stdout, answer.stderr


def test_attach_finds_the_only_lab_and_asks_where_there_are_several() -> None:
    with pytest.raises(LabNotFound, match="no lab is up"):
        Lab.attach()
    up("one", [])
    assert Lab.attach().name == "one"
    assert Lab.attach().topology == topology("one")
    up("two", [])
    with pytest.raises(LabNotFound, match="several"):
        Lab.attach()
    assert Lab.attach("two").name == "two"
    with pytest.raises(LabNotFound, match="no lab three"):
        Lab.attach("three")


def test_an_agent_that_does_not_come_up_fails_up_with_the_end_of_its_log_and_leaves_nothing() -> None:
    nodes = [{"name": "n1", "shim": {"fail": True}}]
    with pytest.raises(ProcessFailed) as caught:
        Lab.up(topology("one", nodes=nodes), agents=Agents("fake_agent", "fake_agent"))
    assert "n1/shim ended with exit code 3" in caught.value.message
    assert "cannot bind: something is wrong here" in caught.value.message
    assert caught.value.hint == "its log went with the lab, which is taken down again"
    assert list_labs() == []


def test_interrupting_up_leaves_nothing() -> None:
    process = start_up("one")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert list_labs() == []


def test_a_lab_that_is_being_built_is_waited_for_by_down() -> None:
    process = start_up("one")
    assert process.stdout is not None
    process.stdout.readline()
    thread = threading.Thread(target=take_down, args=["one"])
    thread.start()
    _, errors = process.communicate(timeout=60)
    thread.join(10)
    assert process.returncode == 0, errors
    assert list_labs() == []


def test_without_the_privilege_up_says_what_is_missing_and_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(dir="/run", prefix="acns-t") as folder:
        argv = [
            "setpriv",
            "--bounding-set",
            "-sys_admin",
            sys.executable,
            "-c",
            UP,
            topology("one").model_dump_json(),
        ]
        environment = {**os.environ, state.STATE_ROOT_VARIABLE: f"{folder}/l"}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)
        assert "EnvironmentFault: cannot make namespaces" in done.stderr
        assert "hint: run as root" in done.stderr
        assert not Path(folder, "l").exists()


def test_the_state_on_disk_is_for_its_owner_only() -> None:
    lab = up("one", [])
    assert lab.folder.path.stat().st_mode & 0o777 == 0o700
    assert lab.folder.control_socket.stat().st_mode & 0o777 == 0o600
    assert json.loads(lab.folder.record_file.read_text())["payload"]["pid"] == lab.record.pid
