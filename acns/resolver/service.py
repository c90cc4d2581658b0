"""The resolver as a process: what starts when, what readiness means, how it stops.

Its sockets are bound only once there is a policy: before that the kernel, finding no socket, drops redirected
queries, which is better than answering them without knowing who may ask what. They stay bound from then on,
whatever becomes of the shim, and pass on to the next process of this node (`handover`) as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from pathlib import Path
from typing import Any, Final

from acns import heap
from acns.errors import Bug, EnvironmentFault, PeerError
from acns.resolver import transparent
from acns.resolver.agent import AgentLink
from acns.resolver.commits import Commits
from acns.resolver.front import Front, own_listeners
from acns.resolver.handover import Handover, Predecessor, SuccessorGone
from acns.resolver.mapping_log import MappingLog
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.policy_file import PolicyFile
from acns.resolver.privileged import Privileged
from acns.resolver.proxy import Proxy
from acns.resolver.settings import ResolverSettings
from acns.resolver.takeover import Takeover
from acns.resolver.unconfirmed import Unconfirmed
from acns.telemetry import log as logs
from acns.telemetry.http import HealthServer, Readiness
from acns.telemetry.journal import Event, Journal
from acns.telemetry.metrics import CountReading, Reading

log = logs.named(__name__)

DRAIN_S: Final = 0.5
MEET_S: Final = 1.0
"""For the shim's policy stream to open; it may be dead."""
HTTP_TRIES: Final = 20
HTTP_RETRY_S: Final = 0.25
OTHER_DESCRIPTORS: Final = 128  # everything but connections, reply sockets and those that speak as a pod


class Service:
    """One resolver. To be made and run on one event loop."""

    def __init__(self, settings: ResolverSettings, privileged: Privileged, *, succeeds: bool = False) -> None:
        """`succeeds`: another resolver serves here, and is to hand over to this one."""
        self.settings = settings
        self.privileged = privileged
        self.metrics = ResolverMetrics()
        self.journal = Journal(settings.journal_file, "resolver")
        folder = Path(settings.state_dir) if settings.state_dir else None
        kept = PolicyFile(folder / "policy.json") if folder else None
        self.link = AgentLink(settings.fqdndata, self.metrics, self.journal, kept)
        writer = privileged.writer
        self.commits = Commits(
            self.link,
            settings.commit_timeout_ms / 1000,
            Unconfirmed(settings.replay_limit, MappingLog(folder) if folder else None),
            Takeover(writer, Path(settings.shim_ledger)) if writer else None,
            self.metrics,
            self.journal,
            Path(settings.shim_ledger),
        )
        self.proxy = Proxy(settings, self.link, self.commits, self.metrics, self.journal)
        self.bound = False
        self._succeeds = succeeds
        self._handover = Handover(settings.handover_socket)
        self._http = HealthServer(settings.http_socket, self.metrics.registry, self.readiness)
        self._stop = asyncio.Event()
        self._log_bug = logs.Seldom()
        self._gauges()

    def stop(self) -> None:
        """Ask for an end; `run` returns soon after."""
        self._stop.set()

    def readiness(self) -> Readiness:
        reasons = []
        if self.link.table is None:
            reasons.append(
                "no policy snapshot yet" + (f" ({self.link.refused})" if self.link.refused else "")
            )
        if not self.bound:
            reasons.append("sockets not bound")
        return Readiness(
            tuple(reasons),
            {
                "pid": os.getpid(),
                "agent_connected": self.link.connected.is_set(),
                "snapshot_refused": self.link.refused,
                "endpoints": len({rule.endpoint_id for rule in self.link.table.rules})
                if self.link.table
                else 0,
                "mappings_waiting": len(self.commits.unconfirmed),
                "queries_in_flight": self.proxy.in_flight,
            },
        )

    async def run(self) -> None:
        """Serve until `stop`, or until a successor has taken over. Raises AcnsError where it cannot start, or
        a bug's exception."""
        asyncio.get_running_loop().set_exception_handler(self._unexpected)
        self._raise_descriptor_limit()
        self.commits.unconfirmed.open()
        self.journal.start()
        try:
            if not self._succeeds:  # a predecessor answers there until it hands over
                await self._http.start()
            log.info("started", fqdndata=self.settings.fqdndata, listen_port=self.settings.listen_port)
            self.journal.record(Event.SERVICE_STARTED)
            await self._until_stopped()
        finally:
            await self._http.stop()
            self.commits.leave()
            self.commits.unconfirmed.close()
            self.privileged.close()
            self._handover.close()
            self.journal.record(Event.SERVICE_STOPPED)
            self.journal.close()
            log.info("stopped")

    async def _until_stopped(self) -> None:
        """All parts run together; the end of one that should not end is an error."""
        writer = self.privileged.writer
        parts: list[asyncio.Task[Any]] = [
            asyncio.create_task(part, name=name)
            for name, part in (
                ("agent", self.link.run()),
                ("commits", self.commits.run()),
                ("serve", self._serve()),
                ("disk", self.commits.unconfirmed.run()),
                ("heap", heap.keep_settled()),
                *((("writer", writer.run()),) if writer else ()),
            )
        ]
        restoring = asyncio.create_task(self.link.restore())
        stopping: asyncio.Task[Any] = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*parts, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The front first: it drains, and for that the shim or the writer is needed.
            for task in (parts[2], parts[1], parts[0], *parts[3:], restoring, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
        for task in done - {stopping}:
            task.result()
            if not self._stop.is_set():
                raise Bug(f"part '{task.get_name()}' ended by itself")

    # --- serving ----------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        await self.link.has_table.wait()
        await self._can_commit()
        predecessor = Predecessor.at(self.settings.handover_socket) if self._succeeds else None
        listeners = await predecessor.listeners() if predecessor else None
        if predecessor and listeners:
            await self.link.catch_up(predecessor.policy)
        front = Front(
            self.settings, self.proxy, listeners or own_listeners(self.settings, self.privileged.queries)
        )
        try:
            if self._succeeds:
                await self._http.start()
            self.bound = True
            log.info("serving", listen_port=self.settings.listen_port)
            if predecessor:
                await self._succeed(predecessor, front)
            self._handover.start()
            while not await self._handed_over(front):
                await self._serve_on(front)
            self.stop()
        finally:
            self.bound = False
            await front.drain(DRAIN_S)
            front.close()

    async def _handed_over(self, front: Front) -> bool:
        """Wait for a successor: whether it has everything, and all that was taken on here is answered."""
        await self._handover.asked.wait()
        self.bound = False
        await self._http.stop()
        giving, gone = asyncio.create_task(self._give(front)), asyncio.create_task(self._handover.gone.wait())
        try:
            await asyncio.wait((giving, gone), return_when=asyncio.FIRST_COMPLETED)
            if giving.done() and not self._handover.gone.is_set():
                await giving
                return True
            log.error("the successor has ended before it had everything: serving on")
        except SuccessorGone as error:
            log.failure("serving on", error)
        finally:
            for task in (giving, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, SuccessorGone):
                    await task
        return False

    async def _give(self, front: Front) -> None:
        await front.hand_over(self._handover, self.link.kept)
        await front.answered(self.settings.upstream_timeout_ms / 1000 + DRAIN_S)
        log.info("handed over")

    async def _serve_on(self, front: Front) -> None:
        """As if nobody had asked; and with what the successor could not tell the shim. The policy on disk may
        be gone: a successor that cannot read it sets it aside."""
        self._handover.take_back()
        front.take_back()
        self.link.keep()
        await self.commits.take_up_orphans()
        self.bound = True
        await self._show_state_again()

    async def _show_state_again(self) -> None:
        """A port of ours may be the successor's for another moment."""
        for _ in range(HTTP_TRIES):
            try:
                await self._http.start()
            except EnvironmentFault as error:
                log.failure("the pages of its state are not there", error)
                await asyncio.sleep(HTTP_RETRY_S)
            else:
                return

    async def _can_commit(self) -> None:
        """The writer is there; before a predecessor ends, the shim has had time to be met, too.

        Whoever serves before that has nobody to commit the first answers: their pods would get SERVFAIL.
        """
        if self.privileged.writer:
            await self.privileged.writer.ready.wait()
        if self._succeeds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MEET_S):
                    await self.link.connected.wait()

    async def _succeed(self, predecessor: Predecessor, front: Front) -> None:
        """Go on with what the predecessor gives; when it has ended, with what it could not tell the shim."""
        try:
            await predecessor.take_over(front.adopt, self._lost)
        except PeerError:  # it serves on: what was taken on here is still answered
            await front.drain(self.settings.upstream_timeout_ms / 1000)
            raise
        await self.commits.take_up_orphans()
        log.info("taken over")

    def _lost(self) -> None:
        """A pod's connection that there is no descriptor for."""
        self.metrics.tcp_refused.add("descriptors")

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed: one packet is lost, the loop goes on. Logged at most once a second."""
        self.metrics.bugs.add()
        if self._log_bug():
            error = context.get("exception") or Bug(str(context.get("message")))
            log.failure("unexpected error, please report", error, context=str(context.get("message")))

    def _raise_descriptor_limit(self) -> None:
        """Have the descriptors that the settings promise, as far as the hard limit goes."""
        needed = _descriptors(self.settings)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
        if hard < needed:
            log.warning("fewer descriptors than the settings allow for", needed=needed, hard_limit=hard)

    def _gauges(self) -> None:
        registry = self.metrics.registry
        for name, documentation, read in (
            ("acns_dns_in_flight", "Queries being worked on.", lambda: self.proxy.in_flight),
            (
                "acns_mappings_waiting",
                "Mappings that the shim has not confirmed yet.",
                lambda: len(self.commits.unconfirmed),
            ),
            ("acns_agent_connected", "1 while the shim's policy stream is open.", self.link.connected.is_set),
        ):
            Reading(name, documentation, read, registry=registry)
        CountReading(
            "acns_journal_dropped",
            "Journal lines lost because the disk was slow.",
            lambda: self.journal.dropped,
            registry=registry,
        )


def _descriptors(settings: ResolverSettings) -> int:
    """As many as may be open at once. A query that is asked as its pod may need a socket of its own."""
    needed = 2 * settings.max_tcp_connections + settings.reply_sockets + OTHER_DESCRIPTORS
    if settings.transparent:
        needed += settings.max_in_flight + transparent.MOST_LINGERING + transparent.SPARE_DESCRIPTORS
    return needed
