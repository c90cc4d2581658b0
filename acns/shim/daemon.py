"""The Cilium-shim daemon: its parts, their wiring, their life.

Started, it adopts what the kernel has, serves FQDNData and follows the manifests until SIGTERM. Stopped or
killed, it leaves the kernel's table, rule and route as they are: the policy stays enforced.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from acns.datapath import routes
from acns.errors import AcnsError, EnvironmentFault
from acns.fqdn.cache import NameCache
from acns.policy.profiles import Profile
from acns.shim import readiness
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.mappings import Mappings
from acns.shim.publisher import Publisher
from acns.shim.reconciler import Reconciler
from acns.shim.service import FQDNDataService, Server
from acns.shim.settings import ShimSettings
from acns.shim.sources.files import FolderSource
from acns.telemetry import log as logs
from acns.telemetry import metrics
from acns.telemetry.http import HealthServer
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)


class Daemon:
    """One shim. `run` returns after SIGTERM or SIGINT and raises what ends it otherwise."""

    def __init__(self, settings: ShimSettings) -> None:
        state_dir = Path(settings.state_dir)
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.settings = settings
        self.journal = Journal(settings.journal_file, "shim")
        self.kernel = Kernel()
        self.learned = Learned(
            NameCache(
                max_addresses_per_name=settings.max_addresses_per_name, idle_grace_s=settings.idle_grace_s
            ),
            self.kernel,
            margin_s=settings.fqdn_gc_interval_s + settings.agent_down_grace_s,
        )
        self.mappings = Mappings(self.learned, self.journal, settings.min_ttl_s)
        self.publisher = Publisher()
        ledger = Ledger(state_dir / "ledger.json")
        self.reconciler = Reconciler(
            settings.node,
            settings.proxy_port,
            self.kernel,
            self.learned,
            ledger,
            self.mappings,
            self.publisher,
            self.journal,
        )
        self.source = FolderSource(
            Path(settings.manifests),
            Profile(settings.profile),
            state_dir / "manifests.json",
            settings.settle_ms / 1000,
            adopting=self.kernel.nft.inventory().exists,
        )
        self.service = FQDNDataService(self.publisher, self.mappings)
        self.server = Server(self.service, Path(settings.fqdndata_socket), settings.tcp_listen)
        registry = metrics.new_registry()
        readiness.register(registry, self.learned, self.reconciler, self.service)
        state = readiness.Readiness(self.reconciler, self.service)
        self.health = HealthServer(settings.http_socket, registry, state)

    async def run(self) -> None:
        for problem in routes.sysctl_problems():
            if not problem.warning:
                raise EnvironmentFault(str(problem))
            log.warning("sysctl", problem=str(problem))
        loop = asyncio.get_running_loop()
        loop.add_reader(self.kernel.routes.fileno(), self._on_routes)
        self.journal.start()
        await self.health.start()
        await self.server.start()
        self.journal.record(Event.SERVICE_STARTED)
        try:
            await self._serve()
        finally:
            loop.remove_reader(self.kernel.routes.fileno())
            await self.server.stop()
            await self.health.stop()
            self.journal.record(Event.SERVICE_STOPPED)
            self.journal.close()
            self.kernel.close()

    async def _serve(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        parts = (self._observe(), self.reconciler.run(), self._collect())
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in parts]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        except* AcnsError as failures:
            raise failures.exceptions[0] from failures

    async def _observe(self) -> None:
        async for observed in self.source.watch():
            self.reconciler.observe(observed)

    async def _collect(self) -> None:
        """Collections, each one interval after the last (Cilium: the DNS garbage collector job)."""
        while True:
            await asyncio.sleep(self.settings.fqdn_gc_interval_s)
            try:
                async with self.kernel.lock:
                    gone = (await self.learned.collect()).delete
            except AcnsError as error:  # what is kept too long does no harm: the next one gets it
                log.failure("collection failed", error)
                continue
            for selector, addresses in gone.items():
                self.journal.record(
                    Event.ADDRESS_GONE, selector=selector.key, count=len(addresses), why="expired"
                )

    def _on_routes(self) -> None:
        if self.kernel.routes.drain():
            self.reconciler.routes_changed()
