"""The holder that starts before it is known what for: it becomes the lab's, or goes."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.order import NO_AGENTS
from lab.runtime import early
from lab.runtime.ending import take_down
from lab.runtime.lab import Lab

from .small_labs import tiny

pytestmark = pytest.mark.root
NAME = "early"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    early.dismiss()
    take_down(NAME)


def started() -> subprocess.Popen[bytes]:
    early.start()
    return early._started[-1][0]


def up() -> Lab:
    return Lab.up(tiny(NAME), agents=NO_AGENTS)


def test_the_one_that_waits_becomes_the_holder_and_logs_into_the_labs_folder() -> None:
    waiting = started()
    lab = up()
    assert Path(f"/proc/{lab.record.pid}/cmdline").read_bytes().split(b"\0")[3:5] == [
        b"--maker",
        str(os.getpid()).encode(),
    ]
    log = lab.folder.holder_log
    assert [os.path.samefile(log, f"/proc/{lab.record.pid}/fd/{number}") for number in (1, 2)] == [True] * 2
    assert waiting.wait(10) == 0  # it has let go of its maker, as any process in between
    assert lab.pod("a").run(["true"]).returncode == 0


def test_one_that_died_while_it_waited_costs_nothing() -> None:
    waiting = started()
    waiting.kill()
    waiting.wait()
    assert up().pod("a").run(["true"]).returncode == 0


def test_where_a_lab_runs_already_none_stays() -> None:
    up()
    waiting = started()
    up()
    assert waiting.returncode is not None


def test_one_whose_maker_goes_away_without_a_word_ends() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    assert early.told(theirs.detach()) is None
