"""One query on its way, from its taking on to its end, and what all queries share.

What it keeps true: an answer leaves for the pod only when the kernel has what it teaches, because the agent
has just confirmed it or has promised to keep it, or by the two exceptions that `commits` names; a query gives
its place in the budget back once, however it ends.
"""

from __future__ import annotations

import asyncio
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from acns.api.codec import Mapping
from acns.dns import message
from acns.dns import name as names
from acns.dns.message import Learned
from acns.fqdn import gate
from acns.resolver.agent import AgentLink
from acns.resolver.budget import InFlight
from acns.resolver.commits import WITHOUT_ANSWER, Commits, Outcome
from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import Server
from acns.resolver.judged import KNOWN, Answer, Case, Judgements
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.new_names import NewNames
from acns.resolver.overload import Budgeted, Overload
from acns.telemetry.journal import Event, Journal
from acns.telemetry.metrics import Cell

_REASONS = {Outcome.REFUSED: "refused by the agent", Outcome.FAILED: "nobody could commit it"}
_OUTCOMES = {Outcome.COMMITTED: "learned", Outcome.TAKEN_OVER: "taken-over"}

Reply = Callable[[bytes | None], None]
"""Answers a pod; None: there is no answer, but the query is done."""


@dataclass(slots=True)
class Context:
    """What every query works with."""

    link: AgentLink
    commits: Commits
    budget: InFlight
    metrics: ResolverMetrics
    journal: Journal
    silent_is_servfail: bool
    new_names: NewNames
    overload: Overload
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Run beside everything else; asyncio itself keeps no reference to a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            task.get_loop().call_exception_handler({"message": "a commit failed", "exception": error})


@dataclass(frozen=True, slots=True)
class Asked:
    """A query as it came in: who asked whom, over what."""

    packet: bytes
    source: bytes
    server: Server
    transport: str


class Transport:
    """What the queries of one transport share: judgements, and counts by what became of them."""

    def __init__(self, name: str, judgements: Judgements, context: Context) -> None:
        self.name = name
        self.judgements = judgements
        self.context = context
        self.forwarded, self.over_budget, self.joined = (
            self.verdict(verdict) for verdict in ("forward", "over-budget", "joined")
        )
        self.took = context.metrics.upstream_time.observe
        self.passed = self.outcome(KNOWN)

    def policy(self) -> object:
        """What cases have as theirs that the policy in force has let go."""
        table, judgements = self.context.link.table, self.judgements
        if table is not judgements.table and table is not None:
            judgements.use(table)
        return judgements.policy

    def allows(self, case: Case) -> bool:
        """Whether the policy in force lets a query go on that it or an earlier one has let go."""
        return case.policy is self.policy() or self.judgements.allow(case)

    def verdict(self, verdict: str) -> Cell:
        return self.context.metrics.queries.cell(self.name, verdict)

    def outcome(self, outcome: str) -> Cell:
        return self.context.metrics.answers.cell(self.name, outcome)


class Query(ABC):
    """A query that the gate lets through, when it needs more than to be passed on. It is a `Flight`."""

    __slots__ = ("asked_at", "case", "done", "packet", "transport")

    def __init__(self, transport: Transport, case: Case, packet: bytes, asked_at: float) -> None:
        self.transport = transport
        self.case = case
        self.packet = packet
        self.asked_at = asked_at
        self.done = False

    @property
    def server(self) -> Server:
        return self.case.asker.server

    @abstractmethod
    def deliver(self, packet: bytes | None) -> None:
        """To the pod; None: nothing, but the query is done."""

    @property
    def kept_id(self) -> int | None:
        return kept_id(self.case, self.packet)

    # --- what upstream tells --------------------------------------------------------------------------

    def answered(self, packet: bytes) -> bool:
        journal = self.transport.context.journal
        journal.burst()
        counts = self.answered_by(packet[ID_BYTES:], time.monotonic())
        journal.nudge()
        return counts

    def answered_by(self, rest: bytes, now: float) -> bool:
        """The same, for who reads many at one time: behind the ID, within a burst of the journal's. A bug on
        the way ends the query, and is raised."""
        try:
            return self._answered_by(rest, now)
        except Exception:
            self.failed("a bug of ours")
            raise

    def _answered_by(self, rest: bytes, now: float) -> bool:
        question, context = self.case.question, self.transport.context
        answer = question.last
        if answer is None or rest != question.last_rest:
            answer = self.transport.judgements.answer(question, rest)
        elif (
            now < answer.sure_until
            and answer.epoch == context.commits.known.epoch
            and not self.case.was_counted
            and self.case.policy is self.transport.policy()
        ):
            self.transport.took(now - self.asked_at)
            self._finish(answer, KNOWN)
            return True
        if answer.ignored is not None:
            self._ignore(answer.ignored.value)
            return False
        is_allowed = self.transport.allows(self.case)
        if is_allowed and answer.unusable is not None:
            self.failed(answer.unusable.value)
            return True
        context.metrics.upstream_time.observe(now - self.asked_at)
        if not is_allowed:
            self.revoked()
        elif answer.learned is None:
            context.new_names.is_empty(self.case)
            self._finish(answer, "plain")
        else:
            self._teach(answer, answer.learned, now)
        return True

    def failed(self, reason: str) -> None:
        self.transport.context.metrics.upstream_error.observe(time.monotonic() - self.asked_at)
        self._end(self._servfail(), "servfail", reason=reason)

    def silent(self) -> None:
        context = self.transport.context
        context.metrics.upstream_timeout.observe(time.monotonic() - self.asked_at)
        self._end(self._servfail() if context.silent_is_servfail else None, "silent")

    def revoked(self) -> None:
        """Its policy has changed meanwhile: it is answered as if it came now."""
        self._end(gate.denied(self.packet, self.transport.judgements.settings).packet, "revoked")

    def abandoned(self) -> None:
        """The pod's connection is gone, and with it the use of an answer."""
        self._end(None, "abandoned")

    # --- the answer's way -----------------------------------------------------------------------------

    def _teach(self, answer: Answer, learned: Learned, now: float) -> None:
        """Some of its addresses are to be told to the agent: before it leaves, or soon after."""
        context = self.transport.context
        commits, mapping = context.commits, self._mapping(learned)
        promise = commits.known.promise(mapping.name, mapping.addresses)
        sure_until = promise.sure_until(mapping.ttl_s)
        if now >= commits.held_from(promise) or (now >= sure_until and not commits.renewals.has_room):
            if not commits.worth_waiting:
                commits.keep(mapping)
                self._finish(answer, "unprogrammed")
            else:
                self._hold(answer, mapping, now)
            return
        answer.sure_until, answer.epoch = sure_until, commits.known.epoch
        context.new_names.is_open(self.case, self.packet)
        if now >= sure_until and (worker := commits.renewals.add(mapping, now)) is not None:
            context.start(commits.renew(worker))
        self._finish(answer, KNOWN)

    def _hold(self, answer: Answer, mapping: Mapping, now: float) -> None:
        """Until its addresses are committed, as far as its pod's budgets go."""
        context, lane, octets = self.transport.context, self.case.lane, len(answer.rest)
        if not context.budget.take_large(lane, octets):
            self._over_budget(Budgeted.IN_FLIGHT, mapping)
        elif context.new_names.commit(self.case, self.packet, now):
            context.start(self._commit(answer, mapping))
        else:
            context.budget.give_large(lane, octets)
            self._over_budget(Budgeted.NEW_NAMES, mapping)

    def _over_budget(self, kind: Budgeted, mapping: Mapping) -> None:
        overload, transport = self.transport.context.overload, self.transport.name
        overload.note(self.case.asker.source, transport, kind)
        self._end(overload.reply(self.packet, transport), "over-budget", mapping)

    async def _commit(self, answer: Answer, mapping: Mapping) -> None:
        """The answer waits here until the kernel has its addresses."""
        context = self.transport.context
        try:
            context.commits.let_through()
            outcome = await context.commits.commit(mapping, time.monotonic())
        except BaseException:
            self._end(None, "abandoned")  # on the way out; never leave without a commit
            raise
        finally:
            context.budget.give_large(self.case.lane, len(answer.rest))
        journal = self.transport.context.journal
        journal.burst()
        if outcome in WITHOUT_ANSWER:
            self._end(self._servfail(), "servfail", mapping, reason=_REASONS[outcome])
        elif not self.transport.allows(self.case):
            self.revoked()
        else:
            self._finish(answer, _OUTCOMES.get(outcome, "unprogrammed"))
        journal.nudge()
        context.commits.let_through()

    def _mapping(self, learned: Learned) -> Mapping:
        query, asker = self.case.question.query, self.case.asker
        assert query is not None, "only queries are forwarded"
        return Mapping(
            name=query.name,
            addresses=learned.addresses,
            ttl_s=learned.ttl_s,
            source_identity=asker.source_identity,
            source=asker.source,
        )

    def _servfail(self) -> bytes:
        return message.reply_with_rcode(self.packet, message.RCODE_SERVFAIL)

    # --- the end --------------------------------------------------------------------------------------

    def _finish(self, answer: Answer, outcome: str) -> None:
        """With an answer of the server's."""
        if self.done:
            return
        self.done = True
        transport, journal = self.transport, self.transport.context.journal
        transport.context.budget.give(self.case.lane, len(self.packet))
        (transport.passed if outcome is KNOWN else transport.outcome(outcome)).count += 1
        if journal.on:
            journal.record_ready(self.case.answer_line + answer.line(outcome))
        self.deliver(self.packet[:ID_BYTES] + answer.rest)

    def _end(
        self, packet: bytes | None, outcome: str, mapping: Mapping | None = None, *, reason: str = ""
    ) -> None:
        """Without one."""
        if self.done:
            return
        self.done = True
        self.transport.context.new_names.is_unanswered(self.case, self.packet)
        self.transport.context.budget.give(self.case.lane, len(self.packet))
        self.transport.outcome(outcome).count += 1
        self.note(
            Event.DNS_ANSWER,
            outcome=outcome,
            reason=reason,
            rcode=packet[3] & 0xF if packet else None,
            addresses=[socket.inet_ntoa(one) for one in mapping.addresses] if mapping else [],
            ttl=mapping.ttl_s if mapping else None,
        )
        self.deliver(packet)

    def _ignore(self, reason: str) -> None:
        self.transport.context.metrics.ignored.add(reason)
        self.note(Event.DNS_IGNORED, reason=reason)

    def note(self, event: Event, **fields: object) -> None:
        """A line in the journal about this query."""
        journal, query = self.transport.context.journal, self.case.question.query
        if not journal.on or query is None:
            return
        journal.record(
            event,
            **self.case.asker.fields(),
            name=names.to_text(query.name),
            type=query.qtype,
            **fields,
        )


def kept_id(case: Case, packet: bytes) -> int | None:
    """The ID that the query has to leave under; None: any."""
    # SIG(0) signs the ID (RFC 2931 §3.1); TSIG has a field of its own for it (RFC 8945 §4.2).
    query = case.question.query
    return int.from_bytes(packet[:ID_BYTES]) if query and query.signature == message.TYPE_SIG else None
