"""The shim's own objects in this process, fed with clusters and watched through their journal.

No server, no folder: what is measured is the way from objects to the kernel, with the steps that the shim's
own stopwatch tells apart. Everything is bound to the network namespace of the thread that makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from acns import heap
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.policy.objects import Object
from acns.shim.daemon import SWITCH_S, Daemon
from acns.shim.settings import ShimSettings
from acns.shim.sources import Observed
from acns.telemetry import log as logs
from acns.telemetry.journal import Event
from lab.bench import inputs
from lab.bench.cluster import NODE
from lab.errors import ProcessFailed
from lab.kernel.links import Links

_FIRST_INDEX = 100
_DEADLINE_S, _TOLD_S = 300.0, 5.0
_PEEK_S = 0.002


@dataclass(frozen=True, slots=True)
class Round:
    """One commit of the shim's: from the observation to the kernel, and the steps on the way."""

    took_ms: float
    laps_ms: Mapping[str, float]


class JournalReader:
    """The commits that a shim's journal tells of, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def commits(self) -> Iterator[dict[str, Any]]:
        """Those since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if line.endswith(b"\n"):
                    self._offset += len(line)
                    if (entry := json.loads(line))["event"] == Event.POLICY_COMMITTED:
                        yield entry

    def rounds(self) -> list[Round]:
        """The same, as rounds."""
        return [Round(entry["took_ms"], _until_committed(entry["laps_ms"])) for entry in self.commits()]


def _until_committed(laps_ms: Mapping[str, float]) -> dict[str, float]:
    """Without what a round does when the kernel has its change."""
    names = list(laps_ms)
    kept = names[: names.index("kernel") + 1] if "kernel" in laps_ms else names
    return {name: laps_ms[name] for name in kept}


class Shim:
    """A shim of this process's; use `running`."""

    def __init__(self, folder: Path) -> None:
        settings = settings_of(folder)
        Path(settings.manifests).mkdir(parents=True)
        logs.configure("shim", settings.log_file, settings.log_level)
        self.daemon = Daemon(settings)
        self._journal = JournalReader(Path(settings.journal_file))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Shim]:
        parts = self.daemon.parts
        heap.prepare()  # as the daemon's own `run`
        sys.setswitchinterval(SWITCH_S)
        self.daemon.journal.start()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (self.daemon.reconciler.run(), parts.findings.run())]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
        self.daemon.journal.close()
        parts.ledger.close()
        self.daemon.kernel.close()

    def know(self, selectors: frozenset[FQDNSelector], answers: Iterable[tuple[Name, list[bytes]]]) -> None:
        """As if pods had looked these names up: sets that are still to be made start with the addresses."""
        cache, now = self.daemon.learned.cache, time.time()
        cache.set_selectors(selectors)
        for name, addresses in answers:
            cache.learn(name, addresses, inputs.TTL_S, now)

    async def round(self, objects: Iterable[Object]) -> Round:
        """Show the shim these objects; returns when the kernel has them and the shim is at rest."""
        reconciler, findings = self.daemon.reconciler, self.daemon.parts.findings
        before = reconciler.outcome
        reconciler.observe(Observed(tuple(objects), ()))
        await self._wait(lambda: reconciler.outcome is not before and not findings.pending, _DEADLINE_S)
        told: deque[Round] = deque()

        def is_told() -> bool:
            told.extend(self._journal.rounds())
            return bool(told)

        # Not of a change that changes nothing.
        await self._wait(is_told, _TOLD_S)
        return told.popleft()

    async def _wait(self, condition: Callable[[], bool], deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        while not condition():
            if self.daemon.reconciler.failure or time.monotonic() > end:
                raise ProcessFailed(
                    f"the shim has not committed: {self.daemon.reconciler.failure or 'time is up'}"
                )
            await asyncio.sleep(_PEEK_S)


def settings_of(folder: Path) -> ShimSettings:
    """A shim that has all its files in `folder`."""
    return ShimSettings(
        node=NODE,
        manifests=str(folder / "manifests"),
        state_dir=str(folder / "state"),
        fqdndata_socket=str(folder / "fqdndata"),
        http_socket=str(folder / "http"),
        profile=inputs.PROFILE.value,
        journal_file=str(folder / "journal"),
        log_file=str(folder / "log"),
    )


class StandIns:
    """Interfaces that the node's routes to its pods lead to, where no pod is needed behind them: bridges
    without ports, half the price of a veth pair (this kernel may have no `dummy`)."""

    def __init__(self) -> None:
        self._indices: dict[IPv4Address, int] = {}

    def add(self, addresses: Iterable[IPv4Address]) -> None:
        """One for each address, with its route, in the calling thread's network namespace."""
        with Links() as links:
            for address in addresses:
                index = _FIRST_INDEX + len(self._indices)
                self._indices[address] = index
                links.bridge(f"pod{index}", index)
                links.pod_route(f"{address}/32", index)
