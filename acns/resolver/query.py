"""One query on its way, from its taking on to its end, and what all queries share.

What it keeps true: an answer leaves for the pod only when the shim has confirmed what it teaches, or by the
two exceptions that `commits` names; a query gives its place in the budget back once, however it ends.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from acns.api.codec import Mapping
from acns.dns import message
from acns.dns import name as names
from acns.dns.message import Learned
from acns.fqdn import gate
from acns.resolver.agent import AgentLink
from acns.resolver.budget import Budget
from acns.resolver.commits import Commits, Outcome
from acns.resolver.intercept import Server
from acns.resolver.metrics import ResolverMetrics
from acns.telemetry.journal import Event, Journal

Reply = Callable[[bytes | None], None]
"""Answers a pod; None: there is no answer, but the query is done."""


@dataclass(slots=True)
class Context:
    """What every query works with."""

    link: AgentLink
    commits: Commits
    budget: Budget
    metrics: ResolverMetrics
    journal: Journal
    gate_settings: gate.GateSettings
    silent_is_servfail: bool
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

    def fields(self) -> dict[str, object]:
        """For the journal."""
        return {
            "source": socket.inet_ntoa(self.source),
            "server": f"{socket.inet_ntoa(self.server[0])}:{self.server[1]}",
            "transport": self.transport,
        }


class Query:
    """A query that the gate lets through. It is the `Flight` that upstream transports carry."""

    __slots__ = ("_asked", "_asked_at", "_context", "_done", "_query", "_reply", "endpoint_id")

    def __init__(self, context: Context, verdict: gate.Forward, asked: Asked, reply: Reply) -> None:
        self._context = context
        self._query = verdict.query
        self._asked = asked
        self._reply = reply
        self._asked_at = time.monotonic()
        self._done = False
        self.endpoint_id = verdict.endpoint_id

    @property
    def packet(self) -> bytes:
        return self._asked.packet

    @property
    def server(self) -> Server:
        return self._asked.server

    @property
    def kept_id(self) -> int | None:
        # SIG(0) signs the ID (RFC 2931 §3.1); TSIG has a field of its own for it (RFC 8945 §4.2).
        if self._query.signature != message.TYPE_SIG:
            return None
        return int.from_bytes(self._asked.packet[:2])

    # --- what upstream tells --------------------------------------------------------------------------

    def answered(self, packet: bytes) -> bool:
        context = self._context
        judged = gate.judge_answer(self._query, packet, context.gate_settings)
        if isinstance(judged, gate.Ignore):
            context.metrics.ignored.add(judged.reason.value)
            self.note(Event.DNS_IGNORED, reason=judged.reason.value)
            return False
        context.metrics.upstream_time.observe(time.monotonic() - self._asked_at)
        if judged.learned is None:
            self._finish(judged.packet, "plain")
            return True
        mapping = self._mapping(judged.learned)
        if context.commits.reachable:
            context.start(self._commit(mapping, judged.packet))
        else:
            context.commits.keep(mapping)
            self._finish(judged.packet, "unprogrammed", mapping)
        return True

    def failed(self, reason: str) -> None:
        self._context.metrics.upstream_error.observe(time.monotonic() - self._asked_at)
        self._finish(self._servfail(), "servfail", reason=reason)

    def silent(self) -> None:
        self._context.metrics.upstream_timeout.observe(time.monotonic() - self._asked_at)
        self._finish(self._servfail() if self._context.silent_is_servfail else None, "silent")

    def abandoned(self) -> None:
        """The pod's connection is gone, and with it the use of an answer."""
        self._finish(None, "abandoned")

    # --- the answer's way -----------------------------------------------------------------------------

    async def _commit(self, mapping: Mapping, packet: bytes) -> None:
        """The answer waits here until the kernel has its addresses."""
        try:
            outcome = await self._context.commits.commit(mapping)
        except BaseException:
            self._finish(None, "abandoned")  # on the way out; never leave without a commit
            raise
        if outcome is Outcome.REFUSED:
            self._finish(self._servfail(), "servfail", mapping, reason="refused by the agent")
        else:
            self._finish(packet, "learned" if outcome is Outcome.COMMITTED else "unprogrammed", mapping)

    def _mapping(self, learned: Learned) -> Mapping:
        table = self._context.link.table
        return Mapping(
            name=self._query.name,
            addresses=learned.addresses,
            ttl_s=learned.ttl_s,
            source_identity=table.identity_of(self._asked.source) if table else 0,
            source=self._asked.source,
        )

    def _servfail(self) -> bytes:
        return message.reply_with_rcode(self.packet, message.RCODE_SERVFAIL)

    def _finish(
        self, packet: bytes | None, outcome: str, mapping: Mapping | None = None, *, reason: str = ""
    ) -> None:
        if self._done:
            return
        self._done = True
        self._context.budget.give(self.endpoint_id)
        self._context.metrics.answers.add(self._asked.transport, outcome)
        self.note(
            Event.DNS_ANSWER,
            outcome=outcome,
            reason=reason,
            rcode=packet[3] & 0xF if packet else None,
            addresses=[socket.inet_ntoa(one) for one in mapping.addresses] if mapping else [],
            ttl=mapping.ttl_s if mapping else None,
        )
        self._reply(packet)

    def note(self, event: Event, **fields: object) -> None:
        """A line in the journal about this query."""
        if self._context.journal.on:
            self._context.journal.record(
                event,
                endpoint=self.endpoint_id,
                **self._asked.fields(),
                name=names.to_text(self._query.name),
                type=self._query.qtype,
                **fields,
            )
