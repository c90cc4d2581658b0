"""Bringing the kernel to a plan: numbers and ids to the ledger, then one transaction.

What the kernel holds is compared with what was left in it. Where somebody else has changed our table, the
same transaction that brings the plan mends that too, and it is reported. The first plan after a start adopts
what an earlier run has left: grants, learned addresses and their remaining time stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from acns.datapath import selectors, sets
from acns.datapath.model import Inventory, Ruleset
from acns.datapath.ruleset import transaction
from acns.dns.pattern import FQDNSelector
from acns.errors import AcnsError
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.planner import Plan
from acns.shim.retiming import Margins
from acns.shim.snapshot import Snapshots
from acns.shim.stopwatch import Stopwatch
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

_SHOWN = 20


class Enforcer:
    """`drifts`: how often somebody else's change had to be mended."""

    def __init__(
        self,
        kernel: Kernel,
        learned: Learned,
        ledger: Ledger,
        snapshots: Snapshots,
        journal: Journal,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now`: by which the kernel's timeouts run."""
        self.drifts = 0
        self._kernel = kernel
        self._learned = learned
        self._ledger = ledger
        self._snapshots = snapshots
        self._journal = journal
        self._now = now
        self._left: Inventory | None = None
        """None: a transaction failed, and it is not known what it left."""
        self._enforced: Ruleset | None = None
        nothing = frozenset[FQDNSelector]()
        self._named: tuple[frozenset[FQDNSelector], Set[str], frozenset[FQDNSelector]] = (
            nothing,
            frozenset(),
            nothing,
        )
        """A plan's selectors, the ids that its rules name, and which of these selectors they are."""

    @property
    def has_enforced(self) -> bool:
        """Whether a plan was brought to the kernel, and what an earlier run has left was adopted."""
        return self._enforced is not None

    async def adopt_grants(self) -> None:
        """Before the first plan: live connections carry grants, whatever became of the ledger."""
        async with self._kernel.lock:
            inventory = await self._kernel.inventory()
        self._ledger.grants.adopt(inventory.grants)

    async def enforce(self, plan: Plan, watch: Stopwatch) -> bool:
        """Returns when the kernel enforces `plan`: whether anything had to change."""
        async with self._kernel.lock:
            self._kernel.fence()
            watch.lap("wait")
            inventory = await self._kernel.inventory()
            await self._look_at(inventory, plan)
            watch.lap("inventory")
            return await self._commit(plan, inventory, watch)

    async def _look_at(self, inventory: Inventory, plan: Plan) -> None:
        """What was found where it is not as it was left: adopt it, or see what has drifted."""
        if self._enforced is None:
            self._learned.cache.set_selectors(plan.selectors)
            margins = Margins(self._ledger, self._now)
            adopted = await asyncio.to_thread(self._learned.adopt, plan.selectors, margins)
            log.info("kernel state adopted", existed=inventory.exists, addresses=adopted)
        elif inventory is not self._left:
            if selectors.LEARNED not in inventory.sets:
                self._learned.lost()
            drift = transaction(inventory, self._enforced)
            if drift and self._left is not None:
                self.report(drift.splitlines())

    async def _commit(self, plan: Plan, inventory: Inventory, watch: Stopwatch) -> bool:
        before = self._learned.cache.selectors
        standing = self._standing(plan)
        try:
            gone = {one: len(self._learned.cache.elements(one)) for one in before - plan.selectors}
            unnamed = self._learned.in_kernel - standing
            closed = {one: frozenset(self._learned.cache.elements(one)) for one in unnamed}
            if plan.selectors is not before:
                self._learned.cache.set_selectors(plan.selectors)
            wanted = _filled(plan.ruleset, self._learned.timeouts(standing - self._learned.in_kernel))
            watch.lap("learned")
            text = transaction(inventory, wanted)
            watch.lap("transaction")
            self._snapshots.prepare(plan.policy)
            watch.lap("snapshot")
            self._ledger.save(wanted.descriptions)
            watch.lap("ledger")
            if text:
                inventory = await self._kernel.commit(text, wanted)
                watch.lap("kernel")
        except AcnsError:
            self._left = None
            self._learned.write(self._learned.cache.set_selectors(before))
            raise
        for selector, count in gone.items():
            why = "no policy has the selector any more"
            self._journal.record(Event.ADDRESS_GONE, selector=selector.key, count=count, why=why)
        self._learned.in_kernel = standing
        await self._tidy(closed)
        self._enforced = plan.ruleset
        self._left = inventory
        return bool(text)

    def _standing(self, plan: Plan) -> frozenset[FQDNSelector]:
        """The selectors that rules name: an endpoint without an interface has some, and no rules."""
        of, named, standing = self._named
        if of is not plan.selectors or named != plan.ruleset.selectors:
            of, named = plan.selectors, plan.ruleset.selectors
            standing = frozenset(one for one in of if selectors.selector_id(one) in named)
            self._named = of, named, standing
        return standing

    async def _tidy(self, closed: Mapping[FQDNSelector, frozenset[bytes]]) -> None:
        """What these selectors had opened is closed, since no rule names them any more; now it goes, too."""
        left = self._learned.leftover
        again = (selectors.selector_id(one) for one in self._learned.in_kernel) if left else ()
        came_back = [id_ for id_ in again if left.pop(id_, None)]
        self._learned.leave(closed)
        try:
            await self._learned.tidy()
        except AcnsError as error:
            log.failure("addresses of selectors that are gone not taken out yet", error)
            self._kernel.touched.set()
        if came_back or (closed and not self._learned.knows_all):  # the kernel may have more than is known
            self._kernel.touched.set()

    def report(self, changes: Sequence[str]) -> None:
        """Somebody else had changed what these lines mend."""
        self.drifts += 1
        shown = [line[:200] for line in changes[:_SHOWN]]
        log.warning("kernel drift repaired", changes=len(changes), first=shown)
        self._journal.record(Event.KERNEL_DRIFT, changes=len(changes), first=shown)


def _filled(ruleset: Ruleset, learned: sets.Learned) -> Ruleset:
    """The ruleset with what is known of selectors that are new in it: those start full."""
    return replace(ruleset, learned=sets.by_id(learned)) if learned else ruleset
