"""Keeps the lab's processes running: start, readiness, restart with back-off, hold.

Lives in the holder. Each process runs in its namespace with a log file of its own; when it dies it is started
again, later each time it dies young, unless an operator holds it down. The holder is PID 1, so it is told of
every death, of adopted orphans too: one reaper waits for all of them and nobody else may call wait(2) there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lab.errors import AcnsError, LabNotFound, ProcessFailed
from lab.kernel import netns
from lab.runtime import readiness
from lab.runtime.events import LabEvent

State = Literal["stopped", "starting", "ready", "not ready", "held"]

READY_TIMEOUT_S = 20.0
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
LIVED_LONG_S = 10.0
"""A process that ran this long did not die of its start: the back-off begins anew."""
GRACE_S = 2.0
"""For a process that is asked to end; then it is killed."""
_POLL_S = 0.02
_WATCH_S = 0.1
_KILL = signal.SIGKILL
_LOG_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `argv` gets the number of the descriptor on which the process may say that it is ready."""

    name: str
    argv: Callable[[int], Sequence[str]]
    namespace: netns.Namespace
    log: Path
    readiness: readiness.Readiness
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_within_s: float = READY_TIMEOUT_S
    successor: tuple[str, ...] | None = None
    """What its command line also has when it is to take over from one that runs; None: it cannot."""
    files: Mapping[Path, str] = field(default_factory=dict)
    """What it reads when it starts: written before, and another content is another program."""

    def is_as(self, other: Program) -> bool:
        """Whether it would do the same as that one: a process of one of them is right for the other."""
        same = replace(self, argv=other.argv) == other
        return same and list(self.argv(-1)) == list(other.argv(-1))


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """`pid` counts in the lab's PID namespace; `pidfd` is the holder's descriptor that names it from
    outside.
    """

    name: str
    state: State
    pid: int | None = None
    pidfd: int | None = None
    restarts: int = 0
    detail: str = ""


Tell = Callable[..., None]
"""`tell(event, process=…)`: something happened to a process."""


def silent(event: LabEvent, /, **fields: object) -> None:
    """For whom nothing needs to be told."""


class Reaper:
    """Waits for every child of this process; `on_exit` is told the wait status of those that are watched."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[int], None]] = {}

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int, on_exit: Callable[[int], None]) -> None:
        self._watched[pid] = on_exit

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if on_exit := self._watched.pop(pid, None):
                on_exit(os.waitstatus_to_exitcode(status))


class Process:
    """One supervised process and its restarts."""

    def __init__(self, program: Program, reaper: Reaper, tell: Tell = silent) -> None:
        self.program = program
        self._tell = tell
        self.held = False
        self.restarts = -1
        self._reaper = reaper
        self._running: _Run | None = None
        self._successor: _Run | None = None
        """It takes over from the one that runs, and runs when that has ended."""
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._ending = ""
        """How its last life ended, in words; empty while it has not died yet."""
        self._replacing = asyncio.Lock()
        """One successor at a time: a second one would be nobody's."""
        self._write_files()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {program.name}")

    def signal(self, number: int) -> None:
        """Send a signal; a process that is not there is left in peace."""
        if self._running:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._running.pidfd, number)

    async def hold(self, number: int = _KILL) -> None:
        """Kill it and keep it down; returns when it is dead. One that hangs gets to know only SIGKILL."""
        self.held = True
        self._wanted.clear()
        while running := self._running:
            self.signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(running.exited), GRACE_S)
            self.signal(signal.SIGKILL)
            await running.exited
            await asyncio.sleep(0)  # `_live` looks whether there is a successor

    async def upgrade(self) -> None:
        """Have another take its place: one that takes over from it where it can, else one started anew.

        Returns when that is ready. Raises ProcessFailed; one that cannot take over leaves the other alone.
        One that has taken over stays, however long the other needs for what it has in flight.
        """
        async with self._replacing:
            await self._replace(self.program.successor)

    async def _replace(self, takes_over: Sequence[str] | None) -> None:
        """`takes_over`: what the next one's command line also has; None: it can only be started anew."""
        running = self._running
        if takes_over is None or running is None:
            try:
                await self.hold(signal.SIGTERM)
            finally:
                self.release()
            await self.wait_ready()
            return
        successor = self._successor = _Run(self.program, self._reaper, takes_over)
        ends = running.exited, successor.exited
        await asyncio.wait(ends, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not running.exited.done() and not successor.exited.done() and await successor.serves():
            await asyncio.wait(ends, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not running.exited.done():
                self.signal(_KILL)
                await running.exited
        if not running.exited.done():
            self._successor = None
            successor.kill()
            raise self._failure("was not taken over from")
        await self.wait_ready()

    async def become(self, program: Program) -> None:
        """Another program from now on, which takes over as in `upgrade` where it can from this one; one that
        is held starts."""
        async with self._replacing:
            takes_over = program.successor if program.successor == self.program.successor else None
            for path in self.program.files.keys() - program.files.keys():
                path.unlink(missing_ok=True)
            self.program = program
            self._write_files()
            await self._replace(takes_over)

    async def end(self) -> None:
        """For good."""
        await self.hold(signal.SIGTERM)
        self._keeper.cancel()
        for path in self.program.files:
            path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let it run (again), at once."""
        self.held = False
        self._wanted.set()

    async def start_anew(self) -> None:
        """Returns when it is ready; one that runs, and is not, hangs perhaps and is ended first."""
        async with self._replacing:
            await self._replace(None)

    async def status(self) -> ProcessStatus:
        running, name = self._running, self.program.name
        if running is None:
            state: State = "held" if self.held else "stopped"
            return ProcessStatus(name, state, restarts=self.restarts, detail=self._ending)
        lacking = await running.missing()
        state = "ready" if not lacking else "not ready" if running.was_ready else "starting"
        return ProcessStatus(name, state, running.pid, running.pidfd, self.restarts, lacking)

    async def wait_ready(self, timeout_s: float | None = None, *, first_start: bool = False) -> None:
        """Returns when it is ready. Raises ProcessFailed with the end of its log after `timeout_s` (default:
        the program's own), or, at a `first_start`, as soon as it has died."""
        timeout_s = self.program.ready_within_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        lacking = "it does not run"
        while time.monotonic() < deadline:
            if (running := self._running) is not None:
                lacking = await running.missing()
                if not lacking:
                    return
            if first_start and self._ending:
                raise self._failure(self._ending)
            await asyncio.sleep(_POLL_S)
        raise self._failure(f"is not ready after {timeout_s:g} s: {lacking}")

    def _write_files(self) -> None:
        for path, text in self.program.files.items():
            path.write_text(text)

    async def _keep(self) -> None:
        delay_s = FIRST_BACKOFF_S
        while True:
            await self._wanted.wait()
            self.restarts += 1
            started_s = time.monotonic()
            self._ending = await self._live()
            if self.held:
                continue
            lived_long = time.monotonic() - started_s > LIVED_LONG_S
            delay_s = FIRST_BACKOFF_S if lived_long else min(delay_s * 2, MAX_BACKOFF_S)
            await self._pause(delay_s)

    async def _live(self) -> str:
        """Start it and wait for its death; says how that came."""
        try:
            self._running = _Run(self.program, self._reaper)
        except (OSError, AcnsError) as error:
            return f"cannot be started: {error}"
        while True:
            watch = asyncio.create_task(self._watch(self._running))
            code = await self._running.exited
            watch.cancel()
            self._running.close()
            self._running, self._successor = self._successor, None
            self._say(LabEvent.PROCESS_ENDED, how=_exit_words(code), held=self.held)
            if self._running is None:
                return f"ended with {_exit_words(code)}"

    async def _watch(self, running: _Run) -> None:
        """Say that it was started, and when it is ready for the first time."""
        self._say(LabEvent.PROCESS_STARTED, pid=running.pid, restarts=self.restarts)
        while await running.missing():
            await asyncio.sleep(_WATCH_S)
        self._say(LabEvent.PROCESS_READY, pid=running.pid)

    def _say(self, event: LabEvent, **fields: object) -> None:
        self._tell(event, process=self.program.name, **fields)

    async def _pause(self, delay_s: float) -> None:
        """Wait before the next start; an operator's `release` ends the wait."""
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), delay_s)
        if not self.held:
            self._wanted.set()

    def _failure(self, what: str) -> ProcessFailed:
        tail = log_tail(self.program.log)
        shown = "\n".join(f"    {line}" for line in tail) or "    (nothing)"
        return ProcessFailed(
            f"{self.program.name} {what}; the last lines it wrote:\n{shown}",
            hint=f"its log: {self.program.log}",
        )


class _Run:
    """One life of a process: from its start to its death."""

    def __init__(self, program: Program, reaper: Reaper, more: Sequence[str] = ()) -> None:
        """`more`: arguments behind those of the program."""
        self._program = program
        self.was_ready = False
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ready_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)
        try:
            self._popen = _spawn(program, write_end, more)
            self.pid = self._popen.pid
            self.pidfd = _pidfd(self._popen)
        except BaseException:
            os.close(self._ready_end)
            raise
        finally:
            os.close(write_end)
        reaper.watch(self.pid, self._ended)

    async def missing(self) -> str:
        one_shot = isinstance(self._program.readiness, readiness.DescriptorReady)
        if one_shot and self.was_ready:
            return ""
        lacking = await readiness.missing(self._program.readiness, self._program.namespace, self._ready_end)
        self.was_ready = self.was_ready or not lacking
        return lacking

    async def serves(self) -> bool:
        """Whether it is this one, and no other of the same program, that says that it is ready."""
        said = await readiness.process_that_answers(self._program.readiness)
        return said == self.pid

    def kill(self) -> None:
        """For one that is not to live; closed when it is dead."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.exited.add_done_callback(lambda _: self.close())

    def close(self) -> None:
        os.close(self._ready_end)
        os.close(self.pidfd)

    def _ended(self, code: int) -> None:
        self._popen.returncode = code
        self.exited.set_result(code)


class Supervisor:
    """All supervised processes of a lab, by name (`node1/shim`, `default/web`, `internet/dns`)."""

    def __init__(self, reaper: Reaper, tell: Tell = silent) -> None:
        self._reaper = reaper
        self._tell = tell
        self._processes: dict[str, Process] = {}

    async def start(self, programs: Sequence[Program]) -> None:
        """Start them together and wait until all are ready; the first that fails is the error."""
        started = [Process(program, self._reaper, self._tell) for program in programs]
        self._processes.update({process.program.name: process for process in started})
        await _all(process.wait_ready(first_start=True) for process in started)

    async def become(self, programs: Sequence[Program]) -> None:
        """Of programs that are here, these are the new versions; returns when all are ready."""
        await _all(self.get(program.name).become(program) for program in programs)

    async def end(self, names: Iterable[str]) -> None:
        """These go for good."""
        await _all(self._processes.pop(name).end() for name in list(names))

    async def repair(self, names: Iterable[str]) -> None:
        """Bring back those that are down or not ready."""
        for process in map(self.get, names):
            await process.start_anew()

    def programs(self) -> dict[str, Program]:
        """What is supervised, by name."""
        return {name: process.program for name, process in self._processes.items()}

    def get(self, name: str) -> Process:
        try:
            return self._processes[name]
        except KeyError:
            known = ", ".join(self._processes) or "none"
            raise LabNotFound(f"no process {name} in this lab", hint=f"there are: {known}") from None

    async def status(self) -> list[ProcessStatus]:
        return list(await asyncio.gather(*(process.status() for process in self._processes.values())))


def log_tail(path: Path, lines: int = _LOG_TAIL_LINES) -> list[str]:
    """The last lines of a log; reads its end only."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 64 * 1024))
            return stream.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def _spawn(program: Program, ready_fd: int, more: Sequence[str]) -> subprocess.Popen[bytes]:
    with program.log.open("ab") as log:
        return netns.in_namespace(
            program.namespace,
            lambda: subprocess.Popen(
                [*program.argv(ready_fd), *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(program.environment),
                cwd="/",
                pass_fds=(ready_fd,),
                start_new_session=True,
            ),
        )


def _pidfd(process: subprocess.Popen[bytes]) -> int:
    """One that cannot be watched is not to run."""
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        process.kill()
        raise


async def _all(waits: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait for all; the first failure ends the wait and is raised as it is, not in a group."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _exit_words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
