"""From Kubernetes objects to the kernel and the policy stream: the shim's one loop.

Each round takes the newest objects, plans what they mean for this node, brings the kernel there and only then
publishes the snapshot: a name that the resolver lets through already has its rules. A round that fails
changes nothing and is tried again. What is not needed for that comes after it: the snapshot's making, the
look for problems between objects, tidying the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from acns import heap, leisure
from acns.datapath.routes import Links
from acns.errors import AcnsError, InputError
from acns.policy.model import NodePolicy
from acns.shim.enforcer import Enforcer
from acns.shim.findings import Findings
from acns.shim.flowlog import FlowLog
from acns.shim.kernel import Kernel
from acns.shim.ledger import Ledger
from acns.shim.mappings import Mappings
from acns.shim.planner import Plan, Planner
from acns.shim.publisher import Publisher
from acns.shim.snapshot import Snapshots
from acns.shim.sources import Observed
from acns.shim.stopwatch import Stopwatch
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

RETRY_S = 1.0
WATCH_S = 1.0
"""How often a look is taken whether somebody else changes the kernel: tens of microseconds each."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last successful round: what is enforced, from what, and which pods wait for their interface."""

    policy: NodePolicy
    waiting: tuple[str, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parts:
    """Whom a round has to do with, in the order of their turns."""

    kernel: Kernel
    planner: Planner
    enforcer: Enforcer
    mappings: Mappings
    snapshots: Snapshots
    publisher: Publisher
    findings: Findings
    flows: FlowLog
    ledger: Ledger
    journal: Journal


class Reconciler:
    """Call `observe` and `wake` from anywhere in the loop; `run` and `watch_kernel` do the work."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.outcome: Outcome | None = None
        self.failure: str = ""
        self._observed: Observed | None = None
        self._done: tuple[Observed, Links] | None = None
        self._wake = asyncio.Event()
        self._watch = Stopwatch()

    def observe(self, observed: Observed) -> None:
        """New objects: the next round uses them."""
        self._observed = observed
        self.parts.findings.take(observed.problems)
        self.wake()

    def wake(self) -> None:
        """A pod's interface may have come or gone, or the kernel's rules have been changed."""
        if not self._wake.is_set():
            self._watch = Stopwatch()
        self._wake.set()

    async def run(self) -> None:
        """Rounds, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._observed is None:
                continue
            try:
                await self._round(self._observed, self._watch)
                self.failure = ""
            except AcnsError as error:
                self.failure = str(error)
                log.failure("policy not committed", error)
                if not isinstance(error, InputError):  # input that was mended is observed
                    asyncio.get_running_loop().call_later(RETRY_S, self.wake)

    async def watch_kernel(self) -> None:
        """Notice what somebody else commits, for ever: it may have been our table."""
        while True:
            await asyncio.sleep(WATCH_S)
            async with self.parts.kernel.lock:
                touched = self.outcome is not None and not self.parts.kernel.is_as_left()
            if touched:
                self.wake()

    async def _round(self, observed: Observed, watch: Stopwatch) -> None:
        if not observed.complete:
            raise InputError(
                observed.problems, hint="mend them first: the rules in the kernel stay until then"
            )
        watch.lap("loop")
        links = self.parts.kernel.wiring.links()
        watch.lap("links")
        if self._is_done(observed, links):
            return
        first = self.outcome is None
        if first:
            await self.parts.enforcer.adopt_grants()
        with leisure.uncollected() if first else contextlib.nullcontext():
            plan = await asyncio.to_thread(self.parts.planner.plan, observed.objects, links, watch)
            changed = await self.parts.enforcer.enforce(plan, watch)
        took_ms = watch.took_ms
        await self._hand_over(plan, links)
        watch.lap("publish")
        self.outcome = _outcome(plan, links, observed)
        self._done = observed, links
        if changed:
            self._report(plan, took_ms, watch)
        await self._tidy_up(plan, first)

    async def _hand_over(self, plan: Plan, links: Links) -> None:
        """Tell everybody who goes by it what the kernel enforces now."""
        self.parts.mappings.use(plan.policy)
        self.parts.flows.use(plan, links.interfaces)
        await self.parts.publisher.publish(self.parts.snapshots.state())

    def _is_done(self, observed: Observed, links: Links) -> bool:
        """Whether the last round came to its end with the same input, and the kernel still has it."""
        if self._done is None or self._done[0] is not observed or self._done[1] is not links:
            return False
        return self.parts.kernel.is_as_left()

    def _report(self, plan: Plan, took_ms: float, watch: Stopwatch) -> None:
        fields = {"endpoints": len(plan.policy.endpoints), "took_ms": took_ms, "laps_ms": watch.laps_ms}
        log.info("policy committed", **fields)
        self.parts.journal.record(Event.POLICY_COMMITTED, **fields)

    async def _tidy_up(self, plan: Plan, first: bool) -> None:
        """What nobody waits for."""
        self.parts.findings.look_at(plan.cluster)
        if self.parts.ledger.has_grown:
            await asyncio.to_thread(self.parts.ledger.compact)
        if first:
            heap.settle()
            heap.give_back()


def _outcome(plan: Plan, links: Links, observed: Observed) -> Outcome:
    endpoints = (one.endpoint for one in plan.policy.endpoints)
    waiting = tuple(one.key for one in endpoints if one.address not in links.interfaces)
    return Outcome(plan.policy, waiting, observed.versions)
