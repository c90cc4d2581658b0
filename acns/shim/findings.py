"""What is wrong with the manifests: reported behind the commits, never in their way.

Each file's own problems come with the objects. What is wrong between objects takes a look at the whole
cluster, tens of times longer than a change of policy may take; so it is looked for after the commit, in a
thread, for the newest cluster only, and not again while the cluster is the same. Changes that come one after
another are let pass: a look begins when nothing has changed for as long as the last look took.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from acns.errors import Problem
from acns.policy.cluster import Cluster
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)


class Findings:
    """`judge` says what is wrong in a cluster, slowly. `run` does the looking."""

    def __init__(self, journal: Journal, judge: Callable[[Cluster], Iterable[Problem]]) -> None:
        self._journal = journal
        self._judge = judge
        self._cluster: Cluster | None = None
        self._judged: Cluster | None = None
        self._of_files: tuple[Problem, ...] = ()
        self._between: tuple[Problem, ...] = ()
        self._wake = asyncio.Event()
        self._took_s = 0.0

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The files' own, then those between objects."""
        return (*self._of_files, *self._between)

    @property
    def pending(self) -> bool:
        """Whether the newest cluster has not been looked at yet."""
        return self._cluster is not self._judged

    def take(self, of_files: tuple[Problem, ...]) -> None:
        """This is wrong in the newest files."""
        self._report(of_files, self._of_files)
        self._of_files = of_files

    def look_at(self, cluster: Cluster) -> None:
        """This is the newest cluster."""
        # Objects that have not changed are the same ones, so the comparison is quick. A cluster that is over
        # is let go: its pods may all be others by now.
        if cluster != self._cluster:
            self._cluster, self._judged = cluster, None
        if self.pending:
            self._wake.set()

    async def run(self) -> None:
        """Look at the newest cluster, for ever."""
        while True:
            await self._quiet()
            cluster = self._cluster
            if cluster is None:
                continue
            started_s = time.monotonic()
            between = tuple(await asyncio.to_thread(self._judge, cluster))
            self._took_s = time.monotonic() - started_s
            self._report(between, self._between)
            self._between, self._judged = between, cluster if cluster is self._cluster else None

    async def _quiet(self) -> None:
        """Something has come, and nothing more since for a while."""
        await self._wake.wait()
        with contextlib.suppress(TimeoutError):
            while True:
                self._wake.clear()
                async with asyncio.timeout(self._took_s):
                    await self._wake.wait()

    def _report(self, problems: tuple[Problem, ...], before: tuple[Problem, ...]) -> None:
        """Say what is new."""
        known = set(before)
        new = [problem for problem in problems if problem not in known]
        for problem in new:
            (log.warning if problem.warning else log.error)("manifest problem", problem=str(problem))
        if errors := [str(problem) for problem in new if not problem.warning]:
            self._journal.record(Event.POLICY_REFUSED, problems=errors)
