"""What an answer taught is told to the shim before the answer leaves: the outcome decides about the answer.

Committed: the answer may go. The shim away, or slower than the bound: the answer goes too, its addresses not
yet open, and the mapping waits in memory to be told in order when the shim is there again. The shim refused
the mapping: the pod gets SERVFAIL, for it must not believe in an address that will never open.

Our shim says with its answer how long the addresses stay, whatever else it learns (`acns.api.kept`). While
that lasts they are `known`: answers with them leave at once, and the shim is told in the background when
their end moves. Another agent promises nothing, and is told every answer.

Later: the writer that commits in the shim's stead takes the place of "goes unprogrammed".
"""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import Final

import grpc
import grpc.aio

from acns.api import codec, kept
from acns.api import fqdndata_pb2 as pb
from acns.api.codec import Mapping
from acns.dns import name as names
from acns.dns.name import Name
from acns.resolver.agent import AgentLink
from acns.resolver.backlog import Backlog
from acns.resolver.known import LEAD_S, Known, Promise
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.turns import Turns
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

RENEWALS_AT_ONCE: Final = 16  # half of the turns are for answers that wait
CALLS_AT_ONCE: Final = 32  # grpc.aio does not get faster beyond, only later
PATIENCE_S: Final = 1.0  # in line while the agent confirms others; pods ask again after 5 s (resolv.conf(5))
REPLAY_TIMEOUT_S: Final = 5.0
REPLAY_RETRY_S: Final = 0.25
# The server's own cancellation counts as its going: a server that stops cancels what it has not answered.
_LOST: Final = frozenset((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED))


class Outcome(StrEnum):
    COMMITTED = "committed"
    LOST = "lost"  # no connection, or it broke
    SLOW = "slow"
    REFUSED = "refused"


class Commits:
    """Tells mappings to the shim and remembers those it could not tell."""

    def __init__(
        self, link: AgentLink, timeout_s: float, limit: int, metrics: ResolverMetrics, journal: Journal
    ) -> None:
        self.backlog = Backlog(limit)
        self.known = Known()
        self._link = link
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._journal = journal
        self._waiting = asyncio.Event()
        self._log_refused = logs.Seldom()
        self._turns = Turns(CALLS_AT_ONCE, PATIENCE_S)
        self._answered_at = float("-inf")
        self._sent_away = Outcome.SLOW
        self._renewing: set[Name] = set()
        link.on_connected = self.known.forget_all

    @property
    def reachable(self) -> bool:
        """Whether a call is worth waiting for."""
        return self._link.stub is not None

    def held_from(self, promise: Promise) -> float:
        """From when on answers with these addresses wait for the shim's word again."""
        return promise.kept_until - LEAD_S

    def may_renew(self, name: Name) -> bool:
        """Whether to `renew` now: not while that is under way, nor too many at once."""
        return name not in self._renewing and len(self._renewing) < RENEWALS_AT_ONCE

    async def renew(self, mapping: Mapping) -> None:
        """Tell the shim of a later end, while answers go on leaving. Without its word they wait again."""
        self._renewing.add(mapping.name)
        try:
            if await self.commit(mapping) is not Outcome.COMMITTED:
                self.known.forget(mapping.name)
        finally:
            self._renewing.discard(mapping.name)

    async def commit(self, mapping: Mapping) -> Outcome:
        """Tell the shim. What is not told now is told later, by `run`.

        A shim that confirms nothing holds this up for the bound, `timeout_s`. One that confirms, while more
        is to be told than it can take, is waited for in line: an answer should not leave too early for a
        burst of ours.
        """
        learned_at = time.monotonic()
        outcome = await self._in_turn(mapping)
        took_s = time.monotonic() - learned_at
        if outcome is Outcome.COMMITTED:
            self._metrics.mappings.add("committed")
            self._metrics.commit_time.observe(took_s)
        elif outcome is Outcome.REFUSED:
            self._metrics.mappings.add("refused")
            self._metrics.mapping_errors.add("mapping_sync_request")
        else:
            self._queue(mapping, learned_at, outcome)
        self._note(Event.MAPPING_SENT, mapping, outcome=outcome, took_ms=round(took_s * 1000, 3))
        return outcome

    def keep(self, mapping: Mapping) -> None:
        """The shim is away: tell it later."""
        self._queue(mapping, time.monotonic(), Outcome.LOST)

    def _queue(self, mapping: Mapping, learned_at: float, why: Outcome) -> None:
        if why is Outcome.SLOW:
            self._metrics.update_timeout.add()
            self._metrics.mapping_errors.add("timeout")
        else:
            self._metrics.mapping_errors.add("mapping_sync_connection")
        before = self.backlog.overflowed
        self.backlog.add(mapping, learned_at)
        self._metrics.mappings.add("queued")
        if self.backlog.overflowed > before:
            self._metrics.mappings.add("overflowed")
        self._waiting.set()
        self._note(Event.MAPPING_QUEUED, mapping, why=why)

    # --- telling again --------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: tell what waits, oldest first, whenever the shim is there."""
        while True:
            await self._waiting.wait()
            await self._link.connected.wait()
            if not await self._replay_first():
                await asyncio.sleep(REPLAY_RETRY_S)

    async def _replay_first(self) -> bool:
        """Whether to go on at once."""
        expired = self.backlog.expired
        found = self.backlog.first(time.monotonic())
        self._metrics.mappings.add("expired", by=self.backlog.expired - expired)
        if found is None:
            self._waiting.clear()
            return True
        waiting, mapping = found
        outcome = await self._call(mapping, REPLAY_TIMEOUT_S)
        if outcome in (Outcome.LOST, Outcome.SLOW):
            return False
        self.backlog.done(waiting)
        self._metrics.mappings.add("replayed" if outcome is Outcome.COMMITTED else "refused")
        self._note(Event.MAPPING_REPLAYED, mapping, outcome=outcome)
        return True

    # --- turns ---------------------------------------------------------------------------------------

    async def _in_turn(self, mapping: Mapping) -> Outcome:
        if not await self._turns.take():
            return self._sent_away
        asked_at = time.monotonic()
        try:
            outcome = await self._call(mapping, self._timeout_s)
            self._judge_agent(outcome, asked_at)
            return outcome
        finally:
            self._turns.give()

    def _judge_agent(self, outcome: Outcome, asked_at: float) -> None:
        """One that is gone, or confirmed nothing in all the time a call waited, holds up nobody."""
        if outcome in (Outcome.COMMITTED, Outcome.REFUSED):
            self._answered_at = time.monotonic()
        elif outcome is Outcome.LOST or self._answered_at < asked_at:
            self._sent_away = outcome
            self._turns.send_all_away()

    # --- the call -------------------------------------------------------------------------------------

    async def _call(self, mapping: Mapping, timeout_s: float) -> Outcome:
        stub = self._link.stub
        if stub is None:
            return Outcome.LOST
        told_at = time.monotonic()
        call = stub.UpdateMappingRequest(codec.mapping_to_wire(mapping), timeout=timeout_s)
        try:
            response = await call
            kept_s = kept.from_metadata(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            return self._failure(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            return Outcome.LOST  # the channel was closed under the call
        if response.response != pb.RESPONSE_CODE_NO_ERROR:
            return self._refused(codec.code_name(response.response))
        if stub is self._link.stub and kept_s > 0:
            promise = Promise(told_at + min(kept_s, mapping.ttl_s), told_at + mapping.ttl_s)
            self.known.promised(mapping.name, mapping.addresses, promise, told_at)
        return Outcome.COMMITTED

    def _failure(self, error: grpc.aio.AioRpcError) -> Outcome:
        if error.code() in _LOST:
            return Outcome.LOST
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Outcome.SLOW
        return self._refused(error.code().name, error.details())

    def _refused(self, code: str, details: str | None = None) -> Outcome:
        if self._log_refused():
            log.warning("mapping refused by the agent", code=code, details=details)
        return Outcome.REFUSED

    def _note(self, event: Event, mapping: Mapping, **fields: object) -> None:
        if self._journal.on:
            self._journal.record(
                event,
                name=names.to_text(mapping.name),
                addresses=[codec.address_to_wire(address).decode() for address in mapping.addresses],
                ttl=mapping.ttl_s,
                **fields,
            )
