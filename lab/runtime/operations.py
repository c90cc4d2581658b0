"""What the holder does when asked over the control socket: one method per request."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any, Protocol

from lab.backends.netns import NetnsLab
from lab.backends.order import Order
from lab.kernel.netns import Namespace
from lab.runtime.control import Handler
from lab.runtime.events import EventLog, LabEvent
from lab.runtime.progress import Progress
from lab.runtime.state import Descriptors, LabFolder
from lab.runtime.supervise import Supervisor
from lab.spec.topology import InternetName

Arguments = dict[str, Any]


class LetGo(Protocol):
    """The lab is complete; with `is_tied` it goes on dying with its maker."""

    def __call__(self, *, is_tied: bool) -> None: ...


class Operations:
    """The requests a holder answers. `let_go` gives up the lock, and the tie to the lab's maker."""

    def __init__(self, folder: LabFolder, supervisor: Supervisor, let_go: LetGo, events: EventLog) -> None:
        self.committed = False
        self._folder = folder
        self._supervisor = supervisor
        self._let_go = let_go
        self._events = events
        self._lab = NetnsLab(folder, supervisor)
        # Two commands that change the lab's files or processes take turns.
        self._changing = asyncio.Lock()

    def handlers(self) -> dict[str, Handler]:
        """By the name of the request."""
        return {
            "build": self._build,
            "commit": self._commit,
            "plan": self._plan,
            "converge": self._converge,
            "status": self._status,
            "process_status": self._process_status,
            "signal": self._signal,
            "hold": self._hold,
            "upgrade": self._upgrade,
            "start": self._start,
            "wait_ready": self._wait_ready,
            "write_manifest": self._write_manifest,
            "remove_manifest": self._remove_manifest,
            "set_names": self._set_names,
        }

    async def _build(self, arguments: Arguments, progress: Progress) -> None:
        async with self._changing:
            await self._lab.build(Order.from_json(arguments["order"]), progress)

    async def _commit(self, arguments: Arguments, progress: Progress) -> None:
        """The lab is complete: record what it holds, then stand alone, unless it is tied to its maker."""
        self._record(self._lab.order.digest)
        self.committed = True
        self._events.record(LabEvent.LAB_BUILT, topology=self._lab.order.topology.name)
        self._let_go(is_tied=arguments["is_tied"])

    async def _plan(self, arguments: Arguments, progress: Progress) -> list[str]:
        async with self._changing:
            order, ends_faults = Order.from_json(arguments["order"]), arguments["ends_faults"]
            return await self._lab.plan(order, ends_faults=ends_faults)

    async def _converge(self, arguments: Arguments, progress: Progress) -> int:
        """How many changes were told of. What is written down is what is there, also after a failure."""
        order = Order.from_json(arguments["order"])
        digest = ""

        def tell(change: str) -> None:
            self._events.record(LabEvent.LAB_CHANGED, change=change)
            progress(change)

        async with self._changing:
            try:
                told = await self._lab.converge(order, tell)
                digest = order.digest
            finally:
                self._record(digest)
            self._folder.save_order(order.to_json())
        return told

    def _record(self, digest: str) -> None:
        old = self._folder.record()
        assert old is not None
        there = self._lab.network.namespaces
        new = replace(
            old,
            ready=True,
            digest=digest,
            authority=self._lab.authority,
            namespaces={place: _numbers(namespace) for place, namespace in there.items()},
        )
        if new != old:
            self._folder.save_record(new)

    async def _status(self, arguments: Arguments, progress: Progress) -> list[Arguments]:
        return [asdict(status) for status in await self._supervisor.status()]

    async def _process_status(self, arguments: Arguments, progress: Progress) -> Arguments:
        return asdict(await self._supervisor.get(arguments["process"]).status())

    async def _signal(self, arguments: Arguments, progress: Progress) -> None:
        self._supervisor.get(arguments["process"]).signal(arguments["number"])

    async def _hold(self, arguments: Arguments, progress: Progress) -> None:
        await self._supervisor.get(arguments["process"]).hold(arguments["number"])

    async def _upgrade(self, arguments: Arguments, progress: Progress) -> None:
        await self._supervisor.get(arguments["process"]).upgrade()

    async def _start(self, arguments: Arguments, progress: Progress) -> None:
        self._supervisor.get(arguments["process"]).release()

    async def _wait_ready(self, arguments: Arguments, progress: Progress) -> None:
        await self._supervisor.get(arguments["process"]).wait_ready(arguments["within_s"])

    async def _write_manifest(self, arguments: Arguments, progress: Progress) -> None:
        async with self._changing:
            self._lab.write_manifest(arguments["filename"], arguments["text"])
        self._events.record(LabEvent.MANIFEST_WRITTEN, file=arguments["filename"])

    async def _remove_manifest(self, arguments: Arguments, progress: Progress) -> None:
        async with self._changing:
            self._lab.remove_manifest(arguments["filename"])
        self._events.record(LabEvent.MANIFEST_REMOVED, file=arguments["filename"])

    async def _set_names(self, arguments: Arguments, progress: Progress) -> None:
        names = {name: InternetName.model_validate(value) for name, value in arguments["names"].items()}
        async with self._changing:
            await asyncio.to_thread(self._lab.set_names, names)
        self._events.record(LabEvent.NAMES_CHANGED, names=sorted(names))


def _numbers(namespace: Namespace) -> Descriptors:
    return Descriptors(namespace.net, namespace.mnt, namespace.uts)
