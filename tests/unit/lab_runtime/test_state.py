"""The folder of a lab: ownership, lock, and what is never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault, InputError
from lab.runtime import state
from lab.runtime.state import Descriptors, HolderRecord, LabFolder


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, str(tmp_path / "labs"))
    return tmp_path / "labs"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def record_of(process: subprocess.Popen[bytes]) -> HolderRecord:
    ticks = state.start_ticks(process.pid)
    assert ticks is not None
    return HolderRecord(process.pid, ticks, state.boot_id())


def test_a_record_comes_back_as_it_was_written(root: Path) -> None:
    folder = state.folder_of("one")
    folder.path.mkdir(parents=True)
    record = HolderRecord(7, 8, "boot", True, "digest", 9.5, "ca.pem", {"node/n1": Descriptors(3, 4, 5)})
    folder.save_record(record)
    assert folder.record() == record


def test_a_damaged_record_counts_as_none(root: Path) -> None:
    folder = state.folder_of("one")
    folder.path.mkdir(parents=True)
    folder.save_record(HolderRecord(7, 8, "boot"))
    folder.record_file.write_text(folder.record_file.read_text().replace('"pid": 7', '"pid": 1'))
    assert folder.record() is None


def test_a_holder_that_lives_is_killed_and_is_dead_afterwards(sleeper: subprocess.Popen[bytes]) -> None:
    record = record_of(sleeper)
    assert record.alive()
    assert state.kill(record)
    assert sleeper.wait(5) == -signal.SIGKILL
    assert not record.alive()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_a_process_that_merely_has_the_holders_pid_is_left_alone(
    sleeper: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    record = replace(record_of(sleeper), **change)  # type: ignore[arg-type]
    assert not record.alive()
    assert not state.kill(record)
    assert sleeper.poll() is None


def test_the_start_time_is_read_right_whatever_a_command_is_called() -> None:
    own = state.start_ticks(os.getpid())
    assert own == state.start_ticks("self")
    assert state.start_ticks(2**22 + 1) is None


def test_removing_a_lab_empties_even_the_root(root: Path) -> None:
    folder = state.folder_of("one")
    with state.locked(folder):
        (folder.path / "sub").mkdir()
        (folder.path / "sub" / "file").write_text("x")
        (folder.path / "link").symlink_to(Path("/etc"))
        state.remove(folder)
    assert not root.exists()
    assert Path("/etc/passwd").exists()


def test_another_labs_folder_keeps_the_root(root: Path) -> None:
    state.folder_of("two").path.mkdir(parents=True)
    with state.locked(state.folder_of("one")) as _:
        state.remove(state.folder_of("one"))
    assert [folder.name for folder in state.all_folders()] == ["two"]


def test_two_commands_on_one_lab_take_turns_and_the_second_gets_a_folder_that_exists(root: Path) -> None:
    folder, waiting, second_in = state.folder_of("one"), threading.Event(), threading.Event()

    def second() -> None:
        with state.locked(folder, waiting.set):
            assert folder.path.is_dir()
            second_in.set()

    thread = threading.Thread(target=second)
    with state.locked(folder):
        thread.start()
        assert waiting.wait(5)
        assert not second_in.is_set()
        state.remove(folder)  # what the first leaves is not what the second waited for
    thread.join(5)
    assert second_in.is_set()


def test_a_lab_that_another_command_never_lets_go_of_is_an_error_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "LOCK_TIMEOUT_S", 0.05)
    folder = state.folder_of("one")
    with state.locked(folder):
        with pytest.raises(EnvironmentFault, match="another command"), state.locked(folder):
            pass
        state.remove(folder)


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, "/" + "x" * 60)
    with pytest.raises(InputError, match="too long"):
        state.folder_of("y" * 40)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../etc", "Lab", "-a", "x" * 64])
def test_a_name_that_could_leave_the_root_or_break_a_path_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a lab"):
        state.folder_of(name)


def test_the_longest_names_fit_the_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(state.STATE_ROOT_VARIABLE)
    folder = state.folder_of("l" * 63)
    assert len(os.fsencode(folder.socket(199, "fqdndata"))) <= state.MAX_SOCKET_PATH_BYTES
    assert folder == LabFolder(Path("/run/acns-lab") / ("l" * 63))


@pytest.mark.parametrize("root", ["/proc/nowhere", "/etc/hostname"])
def test_a_root_that_cannot_be_one_is_said(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, root)
    with pytest.raises(EnvironmentFault, match="cannot use"), state.locked(state.folder_of("x")):
        pass
    if root == "/etc/hostname":
        with pytest.raises(EnvironmentFault, match="cannot use"):
            state.all_folders()


def test_the_root_of_a_user_namespace_is_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(state.STATE_ROOT_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setattr(state.os, "geteuid", lambda: 0)
    for uid_map, root in (("0 0 4294967295", "/run/acns-lab"), ("0 1000 1", "/run/user/1000/acns-lab")):
        monkeypatch.setattr(state.Path, "read_text", lambda _, text=uid_map: f"{text}\n")
        assert str(state.state_root()) == root
