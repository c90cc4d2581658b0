"""From Kubernetes objects to the kernel and the policy stream: the shim's one loop.

Each round takes the newest objects, resolves them for this node, compiles the ruleset, saves the numbers it
uses, commits the difference in one transaction and only then publishes the snapshot: a name that the resolver
lets through already has its set. A round that fails changes nothing and is tried again. The first round after
a start adopts what the kernel has: learned addresses and their remaining time stay.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.datapath import ruleset
from acns.errors import AcnsError, InputError, Problem
from acns.policy.cluster import Cluster
from acns.policy.model import Endpoint, NodePolicy
from acns.policy.resolve import problems as cluster_problems
from acns.policy.resolve import resolve
from acns.shim import snapshot
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.mappings import Mappings
from acns.shim.publisher import Publisher
from acns.shim.sources import Observed
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last successful round: what is enforced, from what, and which pods wait for their interface."""

    policy: NodePolicy
    waiting: tuple[str, ...]
    problems: tuple[Problem, ...]
    versions: Mapping[str, str]


class Reconciler:
    """Call `observe` and `routes_changed` from anywhere in the loop; `run` does the work."""

    def __init__(
        self,
        node: str,
        proxy_port: int,
        kernel: Kernel,
        learned: Learned,
        ledger: Ledger,
        mappings: Mappings,
        publisher: Publisher,
        journal: Journal,
    ) -> None:
        self.node = node
        self.proxy_port = proxy_port
        self.kernel = kernel
        self.learned = learned
        self.ledger = ledger
        self.mappings = mappings
        self.publisher = publisher
        self.journal = journal
        self.outcome: Outcome | None = None
        self.failure: str = ""
        self._observed: Observed | None = None
        self._wake = asyncio.Event()

    def observe(self, observed: Observed) -> None:
        """New objects: the next round uses them."""
        self._observed = observed
        self._wake.set()

    def routes_changed(self) -> None:
        """A pod's interface may have come or gone."""
        self._wake.set()

    async def run(self) -> None:
        """Rounds, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._observed is None:
                continue
            try:
                await self._round(self._observed)
                self.failure = ""
            except AcnsError as error:
                self.failure = str(error)
                log.failure("policy not committed", error)
                if not isinstance(error, InputError):  # input that was mended is observed
                    asyncio.get_running_loop().call_later(RETRY_S, self._wake.set)

    async def _round(self, observed: Observed) -> None:
        started = time.monotonic()
        if not observed.complete:
            raise InputError(
                observed.problems, hint="mend them first: the rules in the kernel stay until then"
            )
        # In a thread: it may take longer than an answer waits for its commit.
        policy, problems = await asyncio.to_thread(self._resolved, observed)
        interfaces = self.kernel.interfaces(one.endpoint.address for one in policy.endpoints)
        async with self.kernel.lock:
            changed = await self._commit(policy, dict(interfaces))
        self.mappings.use(policy)
        await self.publisher.publish(snapshot.policy_state(policy, self.ledger, str(uuid.uuid4())))
        self._report(policy, set(interfaces), problems, observed.versions)
        if changed:
            took_ms = round((time.monotonic() - started) * 1000, 1)
            log.info("policy committed", endpoints=len(policy.endpoints), took_ms=took_ms)
            self.journal.record(Event.POLICY_COMMITTED, endpoints=len(policy.endpoints), took_ms=took_ms)

    def _resolved(self, observed: Observed) -> tuple[NodePolicy, tuple[Problem, ...]]:
        cluster = Cluster.of(observed.objects)
        return resolve(cluster, self.node), (*observed.problems, *cluster_problems(cluster))

    async def _commit(self, policy: NodePolicy, interfaces: dict[IPv4Address, str]) -> bool:
        """Bring the kernel to `policy`; whether anything had to change. The caller holds the lock."""
        inventory = await self.kernel.inventory()
        self.kernel.routes.ensure_proxy_route()
        before, selectors = self.learned.in_kernel, policy.fqdn_selectors()
        self.learned.cache.set_selectors(selectors)
        if self.outcome is None:
            self.ledger.grants.adopt(
                inventory.grants
            )  # live connections carry them, whatever became of the ledger
            adopted = self.learned.adopt(selectors, inventory.sets)
            log.info("kernel state adopted", existed=inventory.exists, addresses=adopted)
        try:
            wanted = ruleset.compile_ruleset(
                policy,
                interfaces,
                self.ledger.grants,
                self.learned.timeouts(selectors - before),
                proxy_port=self.proxy_port,
            )
            snapshot.policy_state(policy, self.ledger, "")  # numbers it needs are taken before they are saved
            self.ledger.save(ruleset.describe(wanted))
            transaction = ruleset.transaction(inventory, wanted)
            if transaction:
                await self.kernel.apply(transaction)
        except BaseException:
            self.learned.write(self.learned.cache.set_selectors(before))
            raise
        self.learned.in_kernel = selectors
        return bool(transaction)

    def _report(
        self,
        policy: NodePolicy,
        wired: set[IPv4Address],
        problems: tuple[Problem, ...],
        versions: Mapping[str, str],
    ) -> None:
        """Remember the outcome; say what is new in the problems."""
        known = set(self.outcome.problems) if self.outcome else set()
        for problem in problems:
            if problem not in known:
                (log.warning if problem.warning else log.error)("manifest problem", problem=str(problem))
        errors = [problem for problem in problems if not problem.warning and problem not in known]
        if errors:
            self.journal.record(Event.POLICY_REFUSED, problems=[str(problem) for problem in errors])
        waiting = tuple(one.endpoint.key for one in policy.endpoints if one.endpoint.address not in wired)
        self.outcome = Outcome(policy, waiting, problems, versions)

    def identity_of(self, endpoint: Endpoint) -> int:
        """The numeric identity of an endpoint."""
        return snapshot.identity_number(endpoint.identity, self.ledger)
