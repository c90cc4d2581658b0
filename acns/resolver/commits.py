"""What an answer taught is told to the shim before the answer leaves: the outcome decides about the answer.

Committed: the answer may go. The shim away, hung, or slower than the bound: the mapping is kept, on disk too,
to be told in order when the shim is there again, and the addresses are committed in its stead (`takeover`);
then the answer may go. Where takeover is off, the answer goes with its addresses not yet open, as the real
service does it. The shim refused the mapping, or nobody could commit it: the pod gets SERVFAIL, for it must
not believe in an address that will not open.

Our shim says with its answer how long the addresses stay, whatever else it learns (`acns.api.kept`). While
that lasts they are `known`: answers with them leave at once, and the shim is told in the background when
their end moves. Another agent promises nothing, and is told every answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import grpc.aio

from acns import clock
from acns.api import answered, codec, kept, ledger_file
from acns.api import fqdndata_pb2 as pb
from acns.api.answered import Answered
from acns.api.codec import Mapping
from acns.dns import name as names
from acns.errors import AcnsError, cut
from acns.fqdn.cache import PROMISED_AT_MOST_S
from acns.resolver.agent import AgentLink
from acns.resolver.known import LEAD_S, UNKNOWN, Known, Promise
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.renewals import Renewals
from acns.resolver.takeover import Takeover
from acns.resolver.turns import Turns
from acns.resolver.unconfirmed import Unconfirmed
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

CALLS_AT_ONCE: Final = 16  # grpc.aio hardly gets faster beyond, only later: too late for the bound of a call
PATIENCE_S: Final = 2.0  # in line while the agent confirms others; pods ask again after 5 s (resolv.conf(5))
REPLAY_TIMEOUT_S: Final = 5.0
REPLAY_RETRY_S: Final = 0.25
REPLAY_TRIES: Final = 20  # of a mapping that the shim cannot commit; the next ones wait meanwhile
# The server's own cancellation counts as its going: a server that stops cancels what it has not answered.
_LOST: Final = frozenset((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED))


class Outcome(StrEnum):
    COMMITTED = "committed"
    LOST = "lost"  # no connection, or it broke
    SLOW = "slow"
    REFUSED = "refused"
    TAKEN_OVER = "taken-over"  # lost or slow, and committed in the shim's stead
    FAILED = "failed"  # nobody could commit it: not the shim, or it was lost or slow, and not the writer


class _Said(NamedTuple):
    """What came of a call, and what the shim promised of its addresses."""

    outcome: Outcome
    promise: Promise = UNKNOWN


PROGRAMMED: Final = (Outcome.COMMITTED, Outcome.TAKEN_OVER)
WITHOUT_ANSWER: Final = (Outcome.REFUSED, Outcome.FAILED)
"""After these the pod gets SERVFAIL."""


class Commits:
    """Tells mappings to the shim and remembers those it could not tell. `takeover` None: it is off."""

    def __init__(
        self,
        link: AgentLink,
        timeout_s: float,
        unconfirmed: Unconfirmed,
        takeover: Takeover | None,
        metrics: ResolverMetrics,
        journal: Journal,
        shim_ledger: Path | None = None,
    ) -> None:
        """`shim_ledger`: says what the shim raises shorter TTLs to; None: it raises none."""
        self.unconfirmed = unconfirmed
        self.known = Known()
        self._takeover = takeover
        self._shim_ledger = shim_ledger
        self._least_ttl_s: float | None = None
        """Of the shim that is connected; None before it was looked up."""
        self._hangs = False
        """Whether the shim stood still when it was last asked; then nobody waits for it until it answers."""
        self._link = link
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._journal = journal
        self._waiting = asyncio.Event()
        self._log_refused = logs.Seldom()
        self._turns = Turns(CALLS_AT_ONCE, PATIENCE_S)
        self._answered_at = float("-inf")
        self._sent_away = Outcome.SLOW
        self._failures = 0
        """How often in a row the shim could not commit what is told again."""
        self.renewals = Renewals()
        self.let_through: Callable[[], None] = lambda: None
        """Lets datagrams go between, in the midst of much work that comes in one piece."""
        link.on_connected = self._connected

    @property
    def worth_waiting(self) -> bool:
        """Whether anybody is there who may commit."""
        return self._takeover is not None or (self._link.stub is not None and not self._hangs)

    def _connected(self) -> None:
        self.known.forget_all()
        self._hangs = False
        self._least_ttl_s = None
        if self._takeover is not None:
            self._takeover.shim_is_back()

    def held_from(self, promise: Promise) -> float:
        """From when on answers with these addresses wait for the shim's word again."""
        return promise.kept_until - LEAD_S

    async def renew(self, worker: int) -> None:
        """Tell the shim of later ends, while answers go on leaving. Without its word they wait again.

        `worker`: from `renewals.add`.
        """
        try:
            while (renewal := self.renewals.take(worker)) is not None:
                await self._renew(*renewal)
        except Exception:
            self.renewals.drop(worker)
            raise

    async def _renew(self, mapping: Mapping, learned_at: float) -> None:
        promise = self.known.promise(mapping.name, mapping.addresses)
        if learned_at < promise.sure_until(mapping.ttl_s):
            return  # told meanwhile
        if await self.commit(mapping, learned_at) not in PROGRAMMED:
            self.known.forget(mapping.name)

    async def commit(self, mapping: Mapping, learned_at: float) -> Outcome:
        """Tell the shim of an answer that came at `learned_at`. What is not told now is told later, by `run`.

        A shim that confirms nothing holds this up for the bound, `timeout_s`. One that confirms, while more
        is to be told than it can take, is waited for in line: an answer should not leave too early for a
        burst of ours.
        """
        began_at = time.monotonic()
        outcome = Outcome.SLOW if self._hangs else await self._in_turn(mapping, learned_at)
        took_s = time.monotonic() - began_at
        if outcome is Outcome.COMMITTED:
            self._metrics.mappings.add("committed")
            self._metrics.commit_time.observe(took_s)
        elif outcome in WITHOUT_ANSWER:
            self._metrics.mappings.add("refused" if outcome is Outcome.REFUSED else "failed")
            self._metrics.mapping_errors.add("mapping_sync_request")
        self._note(Event.MAPPING_SENT, mapping, outcome=outcome, took_ms=round(took_s * 1000, 3))
        if outcome in (Outcome.LOST, Outcome.SLOW):
            return await self._without_the_shim(mapping, learned_at, outcome)
        return outcome

    def keep(self, mapping: Mapping) -> None:
        """The shim is away: tell it later."""
        self._keep(mapping, time.monotonic(), Outcome.SLOW if self._hangs else Outcome.LOST)

    async def _without_the_shim(self, mapping: Mapping, learned_at: float, why: Outcome) -> Outcome:
        """First onto the disk: what the kernel has without the shim's knowledge must not be forgotten."""
        self._keep(mapping, learned_at, why)
        self.let_through()
        if self._takeover is None:
            return why
        told_at = time.monotonic()
        if not await self._takeover.commit(mapping, told_at - learned_at):
            self._metrics.mappings.add("failed")
            return Outcome.FAILED
        expires_at = learned_at + mapping.ttl_s
        promise = Promise(min(expires_at, told_at + PROMISED_AT_MOST_S), expires_at)
        self.known.promised(mapping.name, mapping.addresses, promise)
        self._metrics.mappings.add("taken_over")
        return Outcome.TAKEN_OVER

    def _keep(self, mapping: Mapping, learned_at: float, why: Outcome) -> None:
        if why is Outcome.SLOW:
            self._metrics.update_timeout.add()
            self._metrics.mapping_errors.add("mapping_sync_request")  # as Cilium counts DeadlineExceeded
        else:
            self._metrics.mapping_errors.add("mapping_sync_connection")
        before = self.unconfirmed.waiting.overflowed
        if self.unconfirmed.add(mapping, learned_at):
            self._metrics.mappings.add("queued")
        self._metrics.mappings.add("overflowed", by=self.unconfirmed.waiting.overflowed - before)
        self._waiting.set()
        self._note(Event.MAPPING_QUEUED, mapping, why=why)

    def leave(self) -> None:
        """This process ends: what answers that have left taught, and nobody was told, is for the next one."""
        for mapping, learned_at in self.renewals.untold():
            self.unconfirmed.add(mapping, learned_at)

    async def take_up_orphans(self) -> None:
        """What a process that has ended since could not tell is told from here."""
        await self.unconfirmed.adopt()
        if len(self.unconfirmed):
            self._waiting.set()

    # --- telling again --------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: tell what waits, oldest first, whenever the shim is there."""
        if len(self.unconfirmed):
            self._waiting.set()
        while True:
            await self._waiting.wait()
            await self._link.connected.wait()
            if not await self._replay_first():
                await asyncio.sleep(REPLAY_RETRY_S)

    async def _replay_first(self) -> bool:
        """Whether to go on at once."""
        backlog = self.unconfirmed.waiting
        expired = backlog.expired
        if self._least_ttl_s is None:
            self._least_ttl_s = await asyncio.to_thread(_least_ttl_s, self._shim_ledger)
        found = backlog.first(time.monotonic(), self._least_ttl_s)
        self._metrics.mappings.add("expired", by=backlog.expired - expired)
        if found is None:
            self._waiting.clear()
            self._hangs = False  # nothing is left to ask it with: the next answer does
            self.unconfirmed.all_told()
            return True
        waiting, mapping = found
        when = Answered(clock.to_epoch(waiting.learned_at), waiting.mapping.ttl_s)
        outcome, promise = await self._call(mapping, when, waiting.expires_at, REPLAY_TIMEOUT_S)
        if outcome in (Outcome.LOST, Outcome.SLOW) or self._is_worth_another_try(outcome):
            return False
        self.known.said(mapping.name, mapping.addresses, promise)
        self.unconfirmed.done(waiting)
        self._metrics.mappings.add("replayed" if outcome is Outcome.COMMITTED else outcome.value)
        self._note(Event.MAPPING_REPLAYED, mapping, outcome=outcome)
        return True

    def _is_worth_another_try(self, outcome: Outcome) -> bool:
        """Whether the shim could not commit what it was told, and may be able to: not for ever."""
        self._failures = (self._failures + 1) % REPLAY_TRIES if outcome is Outcome.FAILED else 0
        return self._failures > 0

    # --- turns ---------------------------------------------------------------------------------------

    async def _in_turn(self, mapping: Mapping, learned_at: float) -> Outcome:
        if not await self._turns.take(mapping.source):
            return self._sent_away
        asked_at = time.monotonic()
        try:
            when = Answered(clock.to_epoch(learned_at), mapping.ttl_s)
            outcome, promise = await self._call(mapping, when, learned_at + mapping.ttl_s, self._timeout_s)
            self._judge_agent(outcome, asked_at)
            if promise is not UNKNOWN:
                self.known.promised(mapping.name, mapping.addresses, promise)
            return outcome
        finally:
            self._turns.give()

    def _judge_agent(self, outcome: Outcome, asked_at: float) -> None:
        """One that is gone, or confirmed nothing in all the time a call waited, holds up nobody."""
        if outcome not in (Outcome.LOST, Outcome.SLOW):
            self._answered_at = time.monotonic()
        elif outcome is Outcome.LOST or self._answered_at < asked_at:
            self._hangs = outcome is Outcome.SLOW
            self._sent_away = outcome
            self._turns.send_all_away()

    # --- the call -------------------------------------------------------------------------------------

    async def _call(self, mapping: Mapping, when: Answered, expires_at: float, timeout_s: float) -> _Said:
        """`expires_at`: where the answer's TTL ends."""
        stub = self._link.stub
        if stub is None:
            return _Said(Outcome.LOST)
        told_at = time.monotonic()
        call = stub.UpdateMappingRequest(
            codec.mapping_to_wire(mapping), timeout=timeout_s, metadata=answered.to_metadata(when)
        )
        # Each call of a burst costs the loop some 100 µs more when its turn comes.
        asyncio.get_running_loop().call_soon(self.let_through)
        try:
            response: pb.UpdateMappingResponse | None = await call
            kept_s = kept.from_metadata(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            return _Said(self._failure(error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            return _Said(Outcome.LOST)  # the channel was closed under the call
        self._hangs = False
        if response is None:  # gRPC could not decode it: an error of the agent, as INTERNAL is elsewhere
            return _Said(self._refused("not decoded"))
        if response.response != pb.RESPONSE_CODE_NO_ERROR:
            refused = self._refused(codec.code_name(response.response))
            failed = response.response == pb.RESPONSE_CODE_SERVER_FAILURE
            return _Said(Outcome.FAILED if failed else refused)
        if stub is self._link.stub and kept_s > 0:
            return _Said(Outcome.COMMITTED, Promise(min(told_at + kept_s, expires_at), expires_at))
        return _Said(Outcome.COMMITTED)

    def _failure(self, error: grpc.aio.AioRpcError) -> Outcome:
        if error.code() in _LOST:
            return Outcome.LOST
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Outcome.SLOW
        self._hangs = False
        return self._refused(error.code().name, error.details())

    def _refused(self, code: str, details: str | None = None) -> Outcome:
        if self._log_refused():
            log.warning("mapping refused by the agent", code=code, details=details and cut(details))
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


def _least_ttl_s(shim_ledger: Path | None) -> float:
    """No more than the answer's where nobody says so: another agent has no ledger."""
    if shim_ledger is None:
        return 0.0
    try:
        return ledger_file.read(shim_ledger).terms.min_ttl_s
    except AcnsError:
        return 0.0
