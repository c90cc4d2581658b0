"""What crashed runs leave: whoever is killed, and whenever, `lab.gc` removes all of it and nothing else.

What is nobody's to remove is never told by its name: a lab that lives, one that is being built, a folder that
is no lab's although it lies among them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from lab.backends.order import NO_AGENTS, Agents
from lab.errors import InputError, LabNotFound
from lab.runtime import state
from lab.runtime.ending import Found, gc, known, take_down
from lab.runtime.lab import Lab, list_labs

from ...waiting import until
from . import traces
from .small_labs import tiny

FAKES = Agents("fake_agent", "fake_agent")
NEVER_READY = [{"name": "n1", "shim": {"never_ready": True}}]
MARK = "ACNS_TEST_GC"
UP = """
import sys
from lab.backends.order import Agents
from lab.runtime.lab import Lab
from lab.spec.topology import Topology
topology = Topology.model_validate_json(sys.argv[1])
Lab.up(topology, progress=lambda text: print(text, flush=True), agents=Agents(*sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Lab]:
    """Another lab, called almost like the one that crashes."""
    lab = Lab.up(tiny("one-other"), agents=NO_AGENTS)
    yield lab
    lab.down()


@pytest.fixture(autouse=True)
def untouched(neighbour: Lab) -> Iterator[None]:
    """The neighbour does not notice, and of the other lab there is nothing when a test ends."""

    def snapshot() -> dict[str, object]:
        return {
            "holder": neighbour.folder.record(),
            "processes": [(one.name, one.pid, one.restarts) for one in neighbour.processes()],
            "namespaces": traces.namespaces_of_lab(neighbour),
            "ruleset": traces.generation(neighbour.node("n1")),
            "machine": traces.root_namespace(),
        }

    before = snapshot()
    yield
    assert snapshot() == before
    assert [summary.name for summary in list_labs()] == ["one-other"]


def collected() -> dict[str, str]:
    return {found.name: found.fate for found in gc()}


def start_up(mark: str, agents: Agents = NO_AGENTS, **more: object) -> subprocess.Popen[str]:
    """`Lab.up` in a process of its own, which all that it makes can be told by."""
    argv = [sys.executable, "-c", UP, tiny("one", **more).model_dump_json(), agents.shim, agents.resolver]
    environment = {**os.environ, MARK: mark}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


def nothing_runs(mark: str) -> None:
    """What is killed is dead in the end; the kernel may take its time."""
    until(lambda: not traces.processes_with(f"{MARK}={mark}"), "all processes are gone", 10)


@pytest.mark.parametrize("lines", range(6))
def test_when_the_maker_is_killed(lines: int) -> None:
    """As soon as the folder is there, and after each line of progress; after the last the lab is up."""
    mark = f"maker-{os.getpid()}-{lines}"
    with start_up(mark) as maker:
        assert maker.stdout is not None
        until(lambda: state.folder_of("one").path.exists(), "the folder is there", 20)
        for _ in range(lines):
            maker.stdout.readline()
        maker.kill()
    removed = until(lambda: _not_in_use(collected()), "nobody works on it any more", 10)
    assert removed["one-other"] == "lives"
    if removed.get("one") == "lives":  # it was quicker than the signal
        take_down("one")
    assert not state.folder_of("one").path.exists()
    nothing_runs(mark)


def _not_in_use(found: dict[str, str]) -> dict[str, str]:
    return {} if "in use" in found.values() else found


def kill_holder() -> state.HolderRecord:
    """It dies last of its lab, and is dead only when all have been collected that it was the init of."""
    record = state.folder_of("one").record()
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    return record


def test_when_the_holder_is_killed_while_it_builds() -> None:
    mark = f"holder-{os.getpid()}"
    with start_up(mark, FAKES, nodes=NEVER_READY) as maker:
        shim_log = state.folder_of("one").node("n1") / "shim.log"
        until(shim_log.exists, "the agents are being waited for", 20)
        assert collected()["one"] == "in use"
        with pytest.raises(LabNotFound, match="lab one is still being brought up"):
            Lab.attach("one")
        maker.send_signal(signal.SIGSTOP)  # it cannot clean up
        holder = kill_holder()
        until(lambda: not holder.alive(), "the holder is dead", 10)
        nothing_but(mark, maker.pid)
        maker.kill()
    assert collected() == {"one": "removed", "one-other": "lives"}
    nothing_runs(mark)


def nothing_but(mark: str, *pids: int) -> None:
    def left() -> set[int]:
        return {one.pid for one in traces.processes_with(f"{MARK}={mark}")} - set(pids)

    until(lambda: not left(), "all but these are gone", 10)


def test_when_the_holder_of_a_lab_in_use_is_killed() -> None:
    lab = Lab.up(tiny("one"), agents=FAKES)
    namespaces = traces.namespaces_of_lab(lab)
    with lab.pod("a").popen(["sleep", "1000"]) as command:
        assert collected() == {"one": "lives", "one-other": "lives"}
        kill_holder()
        assert command.wait(10) == -signal.SIGKILL
    until(lambda: not lab.record.alive(), "the holder, which dies last, is dead", 10)
    assert collected() == {"one": "removed", "one-other": "lives"}
    until(lambda: not namespaces & traces.namespaces_of_the_machine(), "its namespaces are gone", 10)


def test_when_the_holder_is_killed_in_the_middle_of_a_change() -> None:
    lab = Lab.up(tiny("one"), agents=FAKES)
    errors: list[BaseException] = []
    changing = in_background(lambda: Lab.up(tiny("one", nodes=NEVER_READY), agents=FAKES), errors)
    settings = state.folder_of("one").node("n1") / "shim.toml"
    until(lambda: "never_ready" in settings.read_text(), "the agent is being changed", 20)
    kill_holder()
    changing.join(30)
    assert errors
    until(lambda: not lab.record.alive(), "the holder is dead", 10)
    assert collected() == {"one": "removed", "one-other": "lives"}


def in_background(function: Callable[[], object], errors: list[BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_pid_that_somebody_else_has_by_now_is_not_killed() -> None:
    lab = Lab.up(tiny("one"), agents=NO_AGENTS)
    state.kill(lab.record)
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        record = state.HolderRecord(innocent.pid, lab.record.start_ticks, lab.record.boot_id, ready=True)
        lab.folder.save_record(record)
        assert collected() == {"one": "removed", "one-other": "lives"}
        assert innocent.poll() is None
        innocent.kill()


def test_a_folder_that_is_no_labs_is_left_alone() -> None:
    folder = state.state_root() / "one"
    folder.mkdir()
    (folder / "precious").write_text("mine\n")
    try:
        assert gc() == [Found("one", "not a lab"), Found("one-other", "lives")]
        assert (folder / "precious").read_text() == "mine\n"
    finally:
        (folder / "precious").unlink()
        folder.rmdir()


def test_a_folder_that_is_no_labs_is_nobodys_to_empty() -> None:
    folder = state.folder_of("notes")
    folder.path.mkdir(parents=True)
    (folder.path / "notes.txt").write_text("precious")
    try:
        with pytest.raises(InputError, match="no lab's"):
            take_down("notes")
        with pytest.raises(InputError, match="no lab's"):
            Lab.up(tiny("notes"), agents=NO_AGENTS)
        assert (folder.path / "notes.txt").read_text() == "precious"
        assert [one.name for one in list_labs()] == ["one-other"]
        assert "notes" not in known()
        with pytest.raises(LabNotFound, match="no lab notes is up"):
            Lab.attach("notes")
    finally:
        shutil.rmtree(folder.path)


def test_what_half_a_take_down_has_left_is_collected() -> None:
    Lab.up(tiny("one"), agents=NO_AGENTS)
    folder = state.folder_of("one")
    record = folder.record()
    assert record is not None
    state.kill(record)
    for path in list(folder.path.iterdir())[:-1]:
        if path != folder.topology_file and path.is_file():
            path.unlink()
    assert Found("one", "removed") in gc()
