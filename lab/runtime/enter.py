"""Run commands inside a lab from outside.

The holder's descriptors (`/proc/HOLDER/fd/N`) are opened here, and a command is started by a thread that has
entered those namespaces and the lab's PID namespace: it is a direct child of the caller (its exit code, its
signals, its pipes) and dies with the lab all the same. `nsenter` does the same for people at a shell.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import HolderGone, LabNotFound
from lab.kernel import netns
from lab.runtime import state

_started: list[subprocess.Popen[Any]] = []
"""What this process has started in labs and has not yet seen end."""


def own(process: subprocess.Popen[Any]) -> None:
    """One more to be collected here when it ends."""
    _started.append(process)


def collect() -> None:
    """Collect what has ended of the processes started here: a lab cannot end before they are collected."""
    _started[:] = [process for process in _started if process.poll() is None]


def all_ended() -> bool:
    """Whether nothing that this process has started in labs is left; what has ended is collected."""
    collect()
    return not _started


@dataclass(frozen=True, slots=True)
class Place:
    """One node, pod or the Internet of a running lab, seen from outside."""

    name: str
    record: state.HolderRecord
    environment: Mapping[str, str]

    def open(self) -> netns.Namespace:
        """Descriptors of this place's namespaces; the caller closes them. Raises HolderGone, LabNotFound."""
        if self.name not in self.record.namespaces:
            raise self._not_there()
        numbers = self.record.namespaces[self.name]
        holder = f"/proc/{self.record.pid}"
        paths = [f"{holder}/fd/{number}" for number in (numbers.net, numbers.mnt, numbers.uts)]
        opened: list[int] = []
        try:
            for path in (*paths, f"{holder}/ns/pid"):
                opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            if not self.record.alive():
                raise FileNotFoundError
            if stat.S_ISCHR(os.fstat(opened[0]).st_mode):
                raise self._not_there()
        except (OSError, LabNotFound) as error:
            netns.Namespace(*opened, *[-1] * (4 - len(opened))).close()
            if isinstance(error, LabNotFound):
                raise
            raise HolderGone(
                "the lab is gone: its holder has died", hint="invoke lab.up builds it again"
            ) from error
        return netns.Namespace(*opened)

    def _not_there(self) -> LabNotFound:
        return LabNotFound(
            f"{self.name} is not in the lab (any more)", hint="invoke lab.status shows what is"
        )

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """`subprocess.Popen` inside this place; `options` are its own. The working directory is /."""
        environment = {**self.environment, **(options.pop("env", None) or {})}
        with netns.keeping(self.open()) as inside:
            process = netns.in_namespace(
                inside, lambda: subprocess.Popen(list(argv), env=environment, **{"cwd": "/", **options})
            )
        collect()
        own(process)
        return process

    def run(
        self, argv: Sequence[str], timeout_s: float = 10.0, *, input: str | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """The finished command, its output as text; TimeoutExpired when it hangs (it is killed then)."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        piped = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with self.popen(argv, **{**piped, **options}) as process:
            try:
                output, errors = process.communicate(input, timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)

    def nsenter(self) -> list[str]:
        """The command prefix with which a person at a shell gets to the same place."""
        numbers = self.record.namespaces[self.name]
        holder = f"/proc/{self.record.pid}"
        return [
            "nsenter",
            f"--net={holder}/fd/{numbers.net}",
            f"--mount={holder}/fd/{numbers.mnt}",
            f"--uts={holder}/fd/{numbers.uts}",
            f"--pid={holder}/ns/pid",
            "--",
        ]
