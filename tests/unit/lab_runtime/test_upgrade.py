"""An upgrade by the supervisor: who is let live when it takes long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from lab.errors import ProcessFailed
from lab.kernel.netns import Namespace
from lab.runtime import supervise
from lab.runtime.readiness import HttpReady
from lab.runtime.supervise import Process, Program, Reaper


class FakeRun:
    """Not a process: it ends when the test or the supervisor says so."""

    made: list[FakeRun]
    successor_serves = False

    def __init__(self, program: Program, reaper: Reaper, more: tuple[str, ...] = ()) -> None:
        self.is_successor = bool(more)
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.killed = False
        self.pid = self.pidfd = 0
        self.was_ready = True
        self.made.append(self)

    async def missing(self) -> str:
        return ""

    async def serves(self) -> bool:
        return self.is_successor and self.successor_serves

    def kill(self) -> None:
        self.killed = True
        if not self.exited.done():
            self.exited.set_result(-9)

    def close(self) -> None: ...


@pytest.fixture
async def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    monkeypatch.setattr(supervise, "_Run", FakeRun)
    monkeypatch.setattr(supervise, "READY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(Process, "signal", lambda self, number: self._running and self._running.kill())
    FakeRun.made = []
    program = Program(
        "n1/resolver",
        lambda _: [],
        Namespace(-1),
        tmp_path / "log",
        HttpReady(tmp_path / "http"),
        successor=("--takeover",),
    )
    made = Process(program, cast(Reaper, None))
    await asyncio.sleep(0)
    return made


async def test_one_that_cannot_take_over_leaves_the_other_alone(process: Process) -> None:
    with pytest.raises(ProcessFailed, match="was not taken over from"):
        await process.upgrade()
    before, successor = FakeRun.made
    assert (before.killed, successor.killed) == (False, True)


async def test_one_that_has_taken_over_stays_while_the_other_drains(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRun, "successor_serves", True)
    asyncio.get_running_loop().call_later(0.08, lambda: FakeRun.made[0].exited.set_result(0))
    await process.upgrade()
    before, successor = FakeRun.made
    assert (before.killed, successor.killed) == (False, False)


async def test_one_that_has_been_taken_over_from_does_not_stay_for_ever(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRun, "successor_serves", True)
    await process.upgrade()
    before, successor = FakeRun.made
    assert (before.killed, successor.killed) == (True, False)


async def test_of_two_upgrades_at_once_the_second_waits_for_the_first(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRun, "successor_serves", True)
    await asyncio.gather(process.upgrade(), process.upgrade())
    first, second, third = FakeRun.made
    assert (first.killed, second.killed, third.killed) == (True, True, False)


async def test_an_agent_that_another_kind_of_program_replaces_does_not_hand_over(process: Process) -> None:
    await process.become(replace(process.program, successor=None))
    before, after = FakeRun.made
    assert before.killed
    assert not after.is_successor


async def test_one_that_runs_and_is_not_ready_is_ended_before_it_is_started_anew(process: Process) -> None:
    await process.start_anew()
    before, after = FakeRun.made
    assert before.killed
    assert not after.is_successor


def test_a_program_that_cannot_be_started_costs_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "no-program").write_text("")
    program = Program(
        "n1/x",
        lambda _: [str(tmp_path / "no-program")],
        Namespace(-1),
        tmp_path / "log",
        HttpReady(tmp_path / "http"),
    )

    async def tried() -> None:
        for _ in range(5):
            with pytest.raises(OSError, match="no-program"):
                supervise._Run(program, Reaper())

    before = len(list(Path("/proc/self/fd").iterdir()))
    asyncio.run(tried())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
