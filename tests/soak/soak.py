"""One soak: a lab, a storm, traffic, edits of policies, and the judge of it all."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.errors import AcnsError
from lab.runtime.faults import commands
from lab.runtime.faults.model import AgentFault
from lab.runtime.faults.storm import Step, storm
from lab.runtime.lab import Lab

from . import agents, downloads, leftovers, plan, world
from .agents import Agents, Storm
from .clients import Clients
from .judge import DELAY_S, Judge
from .model import Mapping, Model
from .overflows import Overflows
from .tally import Tally, Violation
from .taps import Taps

CALM_S = 4.0
"""Nothing begins any more so long before the end."""
LATE_S = 0.05
WEATHER_S = 30.0
"""Of the storm, and then of its agents' part alone."""
LOOK_S, MAPPINGS_S = 0.1, 3.0
DRAIN_S = 7.5
"""The last query is given up, and then judged."""
SETTLE_S = 15.0


def _only_agents(step: Step) -> bool:
    """Every other half minute nothing but the agents is hit: what links and DNS servers do excuses most."""
    return any(int(at_s // WEATHER_S) % 2 for at_s in (step.at_s, step.until_s))


@dataclass(slots=True)
class Soak:
    """`seconds` of traffic."""

    lab: Lab
    seed: int
    seconds: float
    on_violation: Callable[[Violation], None]
    tally: Tally = field(init=False)
    model: Model = field(init=False)
    judge: Judge = field(init=False)
    agents: Agents = field(init=False)
    _storm: Storm = field(init=False)
    _overflows: Overflows = field(init=False)
    _selectors: dict[str, set[str]] = field(default_factory=lambda: {pod: set() for pod in world.PODS})
    _worst: dict[str, int] = field(default_factory=dict)
    _late_ms: int = 0

    def __post_init__(self) -> None:
        owners = {str(one): name for name, value in world.lasting_names().items() for one in value.a}
        self.model = Model(owners)
        self.tally = Tally(self.seed, self.model.weather.all, on_violation=self.on_violation)
        self.judge = Judge(self.model, self.tally)

    async def run(self) -> Tally:
        for pod in world.PODS:
            await self._write(pod)
        await asyncio.to_thread(self.lab.wait_settled)
        self._storm = Storm(self.model.weather, self.tally, time.monotonic() + self.seconds - CALM_S)
        self.agents = Agents(self.lab, self._storm)
        self._overflows = Overflows(self.lab, self.model.weather, self.tally)
        clients, taps = Clients(self.lab, self.judge), Taps(self.lab, self.judge)
        await clients.open()
        await self._publish(0)
        before = self.agents.costs()
        processes = leftovers.processes()
        self.tally.started = time.monotonic()
        background = [
            asyncio.create_task(one)
            for one in (self._watch(), self._judging(taps), self._mappings(), self._edits(), self._faults())
        ]
        background += self._downloads(clients)
        try:
            await self._traffic(clients, background)
            await asyncio.sleep(DRAIN_S)
        finally:
            self._storm.until = 0.0
            for task in background:
                task.cancel()
            results = await asyncio.gather(*background, return_exceptions=True)
            await clients.close()
            taps.take()
            taps.close()
        self.judge.judge_until(math.inf)
        for result in results:
            if isinstance(result, Exception):
                raise result
        await self._end(taps, before, processes)
        return self.tally

    def _downloads(self, clients: Clients) -> list[asyncio.Task[None]]:
        wanted = [(pod, world.known(pod)[0]) for pod in world.PODS]
        wanted += [(pod, name) for pod, name in zip(world.PODS, world.KEPT, strict=True)]
        return [
            asyncio.create_task(downloads.keep(clients, self.judge, pod, name, self.seed))
            for pod, name in wanted
        ]

    # --- traffic ------------------------------------------------------------------------------------------

    async def _traffic(self, clients: Clients, background: list[asyncio.Task[None]]) -> None:
        """What is late makes the rest late, and what there is no time for is left out: caught up with, it
        would come in bursts, which DNS servers have no room for."""
        begun = self.tally.started
        upcoming = asyncio.create_task(self._publish(0))
        for number in range(math.ceil(self.seconds / plan.EPOCH_S)):
            epoch = await upcoming
            upcoming = asyncio.create_task(self._publish(number + 1))
            for event in epoch.events:
                now = time.monotonic()
                if now > self.tally.started + self.seconds:
                    return
                await asyncio.sleep(max(0.0, begun + event.at_s - now))
                begun = max(begun, time.monotonic() - event.at_s - LATE_S)
                clients.do(event)
            self.model.forget(time.monotonic())
            self._check_alive(background)

    @staticmethod
    def _check_alive(background: list[asyncio.Task[None]]) -> None:
        """A part of the soak that has failed ends it."""
        for task in background:
            if task.done() and (error := task.exception()):
                raise error

    async def _publish(self, number: int) -> plan.Epoch:
        """The epoch, whose names exist when this returns."""
        epoch = plan.epoch(self.seed, number)
        self.model.publish({str(one): name for name, value in epoch.names.items() for one in value.a})
        before = plan.epoch(self.seed, number - 1).names if number else {}
        names = {**world.lasting_names(), **before, **epoch.names}
        await asyncio.to_thread(self.lab.set_names, names)
        return epoch

    # --- edits --------------------------------------------------------------------------------------------

    async def _edits(self) -> None:
        for edit in plan.edits(self.seed, self.seconds - 5.0):
            await asyncio.sleep(max(0.0, self.tally.started + edit.at_s - time.monotonic()))
            now = time.monotonic()
            change = self.model.policies.edit(edit.pod, edit.selector, edit.present, now)
            self.tally.edits.append((now, str(edit)))
            self._selectors[edit.pod] ^= {edit.selector}
            await self._write(edit.pod, extra=edit.selector == world.EXTRA)
            written = time.monotonic()
            while self.agents.current_at < written:
                await asyncio.sleep(0.05)
            change.settled = time.monotonic()
            self.tally.counts["edits of policies"] += 1

    async def _write(self, pod: str, *, extra: bool = False) -> None:
        selectors = self._selectors[pod]
        if not extra:
            wanted = [world.own(pod), *sorted(selectors - {world.EXTRA})]
            text = world.policy_text(pod, wanted)
            await asyncio.to_thread(self.lab.write_manifest, world.base_file(pod), text)
        elif world.EXTRA in selectors:
            text = world.policy_text(pod, [world.EXTRA], f"{pod}-extra")
            await asyncio.to_thread(self.lab.write_manifest, world.extra_file(pod), text)
        else:
            await asyncio.to_thread(self.lab.remove_manifest, world.extra_file(pod))

    # --- watching -----------------------------------------------------------------------------------------

    async def _faults(self) -> None:
        drawn = storm(self.seed, self.seconds - 1.0, commands.targets(self.lab))
        steps = [one for one in drawn if isinstance(one.fault, AgentFault) or not _only_agents(one)]
        with contextlib.suppress(agents.StormOver):
            await asyncio.to_thread(commands.run, self.lab, steps, self._storm.observe)

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self.agents.look)
            await asyncio.to_thread(self._overflows.look)
            slept_at = time.monotonic()
            await asyncio.sleep(LOOK_S)
            self._late_ms = max(self._late_ms, round((time.monotonic() - slept_at - LOOK_S) * 1000))

    async def _judging(self, taps: Taps) -> None:
        while True:
            until = time.monotonic()
            taps.take()
            self.judge.judge_until(until - DELAY_S)
            await asyncio.sleep(LOOK_S)

    async def _mappings(self) -> None:
        while True:
            await asyncio.sleep(MAPPINGS_S)
            await self._look_for_mappings()
            with contextlib.suppress(OSError):
                for what, size in (await asyncio.to_thread(self.agents.costs)).items():
                    self._worst[what] = max(size, self._worst.get(what, 0))

    async def _look_for_mappings(self) -> None:
        """What was told and still holds is in the kernel, and known to a shim that has been told all."""
        start = time.monotonic()
        await asyncio.to_thread(self.agents.look)
        well_since = self.agents.well_since
        sets = await asyncio.to_thread(self.agents.kernel)
        cached = await asyncio.to_thread(self.agents.cache) if well_since else None
        await asyncio.to_thread(self.agents.look)
        end = time.monotonic()
        living = list(self.model.living(start - 0.1, end + 0.5))
        self.tally.counts["mappings looked up in the kernel"] += len(living)
        for one in living:
            if not agents.opened(sets, one.name, one.address):
                self._lost(one, start, "is not in the kernel")
        disturbed = self.model.weather.around(start, end, "shim", "resolver")
        if cached is None or disturbed or self.agents.well_since != well_since:
            return
        self.tally.counts["mappings looked up in the shim"] += len(living)
        for one in living:
            if cached.isdisjoint({(one.name, one.address), ("", one.address)}):
                self._lost(one, start, "is not known to the shim")

    def _lost(self, told: Mapping, at: float, how: str) -> None:
        since_s, left_s = at - told.at, told.until - at
        what = f"{told.name} {told.address} {how} {since_s:.2f} s after its answer, with {left_s:.2f} s left"
        self.tally.violated("lost mappings", told.pod, what, at)

    # --- the end ------------------------------------------------------------------------------------------

    async def _end(self, taps: Taps, before: dict[str, int], processes: list[str]) -> None:
        """Well again, and nothing left behind."""
        now = time.monotonic()
        if missed := taps.missed:
            self.tally.violated("leaks", "-", f"the taps missed {missed} frames: nothing is proven", now)
        try:
            await asyncio.to_thread(self.lab.wait_settled, SETTLE_S)
        except AcnsError as error:
            self.tally.violated("lost mappings", "-", f"the agents do not settle: {error}", now)
        if more := await asyncio.to_thread(leftovers.more_processes, processes):
            self.tally.violated("leaks", "-", more, now)
        self._weigh(before, await asyncio.to_thread(self.agents.costs), now)

    def _weigh(self, before: dict[str, int], after: dict[str, int], now: float) -> None:
        figures = self.tally.figures
        figures["the machine had this program wait"] = f"{self._late_ms} ms at most"
        for what, size in after.items():
            worst = max(size, self._worst.get(what, 0))
            figures[what] = f"{before.get(what, 0)} to {size}, at most {worst}"
        for what in leftovers.grown(before, self._worst, after):
            self.tally.violated("leaks", "-", f"{what}: {figures[what]}", now)
