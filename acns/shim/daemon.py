"""The Cilium-shim daemon: its parts, their wiring, their life.

Started, it adopts what the kernel has, serves FQDNData and follows the manifests until it is told to end.
Stopped or killed, it leaves the kernel's table, rule and route as they are: the policy stays enforced.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from ipaddress import IPv4Address
from pathlib import Path

from acns import ending, heap, statefile
from acns.api.ledger_file import Terms
from acns.datapath import routes
from acns.datapath.compiler import Compiler
from acns.dns import name as names
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.errors import AcnsError, EnvironmentFault
from acns.fqdn.cache import End, NameCache
from acns.policy.model import Enforcement
from acns.policy.profiles import Profile
from acns.policy.resolve import Resolver
from acns.policy.resolve import problems as cluster_problems
from acns.shim import node_facts, overtaken, preflight, readiness, views
from acns.shim.enforcer import Enforcer
from acns.shim.findings import Findings
from acns.shim.flowlog import FlowLog
from acns.shim.judging import Judging
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.mappings import Mappings
from acns.shim.metrics import ShimMetrics
from acns.shim.planner import Planner
from acns.shim.preflight import ClusterFacts
from acns.shim.publisher import Publisher
from acns.shim.reconciler import Parts, Reconciler
from acns.shim.service import FQDNDataService, Server
from acns.shim.set_watch import SetWatch
from acns.shim.settings import ShimSettings
from acns.shim.snapshot import Snapshots
from acns.shim.sources import choosing
from acns.telemetry import log as logs
from acns.telemetry.http import HealthServer
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

SWITCH_S = 0.001
"""A thread that computes lets answers in after a millisecond; Python's five would be felt in each of them."""


class Daemon:
    """One shim. `run` returns when it is told to end and raises what ends it otherwise."""

    def __init__(self, settings: ShimSettings) -> None:
        state_dir = Path(settings.state_dir)
        statefile.make_folder(state_dir, "state_dir")
        statefile.sweep(state_dir)
        self.settings = settings
        self.journal = Journal(settings.journal_file, "shim")
        self.kernel = Kernel()
        self.learned = _learned(settings, self.kernel, self.journal)
        self.parts = _parts(settings, state_dir, self.kernel, self.learned, self.journal)
        self.reconciler = Reconciler(self.parts)
        counted = ShimMetrics()
        adopting = self.kernel.nft.inventory().exists
        fence = self.kernel.may_write
        self.source = choosing.source_of(settings, counted.registry, adopting=adopting, fence=fence)
        self.judging = Judging(self.source, settings.node, self._look_at_node)
        service = FQDNDataService(self.parts.publisher, self.parts.mappings, counted)
        self.server = Server(service, Path(settings.fqdndata_socket), settings.tcp_listen)
        readiness.register(counted.registry, self.learned, self.reconciler, service)
        state = readiness.Readiness(self.reconciler, service, self.source)
        self.health = HealthServer(settings.http_socket, counted.registry, state, views.of(self.learned))

    async def run(self) -> None:
        for problem in routes.sysctl_problems():
            if not problem.warning:
                raise EnvironmentFault(str(problem))
            log.warning("sysctl", problem=str(problem))
        self._look_at_node()
        heap.prepare()
        sys.setswitchinterval(SWITCH_S)
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        ending.heard_by(stop.set)
        loop.add_reader(self.kernel.wiring.fileno(), self._on_routes)
        self.journal.start()
        self.parts.flows.start()
        try:
            if not await appear(self.server, self.health, stop):
                return
            self.kernel.fence = functools.partial(overtaken.check, self.server.generation)
            self.parts.ledger.read_again()  # from here on the one before writes nothing more
            self.journal.record(Event.SERVICE_STARTED)
            await self._serve(stop)
        finally:
            loop.remove_reader(self.kernel.wiring.fileno())
            await self.server.stop()
            await self.health.stop()
            self.journal.record(Event.SERVICE_STOPPED)
            self.journal.close()
            self.parts.flows.close()
            self.parts.ledger.close()
            self.kernel.close()
        await overtaken.stand_by(self.server.generation, stop)

    def _look_at_node(self, cluster: ClusterFacts | None = None) -> None:
        """Raises EnvironmentFault where policy cannot be enforced."""
        found = preflight.judge(node_facts.gather(), cluster, Profile(self.settings.profile))
        for one in preflight.tolerated(found, self.settings.unsuitable_node):
            log.warning("node", problem=str(one))

    async def _serve(self, stop: asyncio.Event) -> None:
        """Until `stop`, or until another takes this one's place."""
        work = (
            self._observe(),
            self.judging.run(),
            self.reconciler.run(),
            self.reconciler.watch_kernel(),
            SetWatch(self.kernel, self.learned, self.parts.enforcer).run(),
            self.parts.findings.run(),
            self._collect(),
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in work]
                await overtaken.until(self.server.generation, stop, lambda: self.health.is_lost)
                for task in tasks:
                    task.cancel()
        except* AcnsError as failures:
            raise failures.exceptions[0] from failures

    async def _observe(self) -> None:
        judged = self.settings.source == "files"
        async for observed in self.source.watch():
            if not judged:
                await self.judging.first()
                judged = True
            self.reconciler.observe(observed)

    async def _collect(self) -> None:
        """Collections, each one interval after the last (Cilium: the DNS garbage collector job)."""
        while True:
            await asyncio.sleep(self.settings.fqdn_gc_interval_s)
            try:
                async with self.kernel.lock:
                    await self.learned.collect()
            except AcnsError as error:
                log.failure("collection failed", error)
                self.kernel.touched.set()  # what stays without a reason is seen at the next look
                continue
            heap.settle()
            heap.give_back()

    def _on_routes(self) -> None:
        if self.kernel.wiring.has_changed():
            self.reconciler.wake()


async def appear(server: Server, health: HealthServer, stop: asyncio.Event) -> bool:
    """Take the place of the shim before: last of all, for whatever may fail fails before. False: told to
    stop, this one leaves it there."""
    await server.start()
    await health.listen()
    if stop.is_set():
        return False
    server.generation.prepare()
    health.switch()
    server.generation.switch()
    return True


def _learned(settings: ShimSettings, kernel: Kernel, journal: Journal) -> Learned:
    def ended(name: Name | None, address: bytes, selectors: tuple[FQDNSelector, ...], why: End) -> None:
        journal.record(
            Event.ADDRESS_GONE,
            name=names.to_text(name) if name is not None else "",
            address=str(IPv4Address(address)),
            selectors=[one.key for one in selectors],
            why=why,
        )

    cache = NameCache(
        max_addresses_per_name=settings.max_addresses_per_name,
        max_names=settings.max_names,
        max_addresses=settings.max_addresses,
        idle_grace_s=settings.idle_grace_s,
        ended=ended,
    )
    return Learned(cache, kernel, margin_s=settings.fqdn_gc_interval_s + settings.agent_down_grace_s)


def _parts(
    settings: ShimSettings, state_dir: Path, kernel: Kernel, learned: Learned, journal: Journal
) -> Parts:
    """What a round has to do with."""
    enforcement = Enforcement(settings.enforcement)
    ledger = Ledger(state_dir / "ledger.log", Terms(settings.min_ttl_s, learned.margin_s), kernel.may_write)
    snapshots = Snapshots(ledger)
    flows = FlowLog(settings.flow_log_file, settings.flow_log, settings.node, ledger)
    compiler = Compiler(
        ledger.grants,
        proxy_port=settings.proxy_port,
        query_rate=settings.max_queries_per_second_per_pod,
        transparent=settings.transparent,
        deny_response=settings.deny_response,
        unknown_pods=settings.unknown_pods,
    )
    return Parts(
        kernel=kernel,
        planner=Planner(Resolver(settings.node, enforcement), compiler),
        enforcer=Enforcer(kernel, learned, ledger, snapshots, journal),
        mappings=Mappings(learned, flows, journal, settings.min_ttl_s),
        snapshots=snapshots,
        publisher=Publisher(),
        findings=Findings(journal, lambda cluster: cluster_problems(cluster, enforcement)),
        flows=flows,
        ledger=ledger,
        journal=journal,
    )
