"""Where a query goes: packets from pods to the gate, and on as its verdict says. A thin shell.

What it keeps true: a query leaves for its server only when the gate says so and the budgets have room; one
that a pod sends again while the first is on its way is the same query, and has the same answer.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from acns.fqdn import gate
from acns.fqdn.table import PolicyTable
from acns.resolver.agent import AgentLink
from acns.resolver.batch import sockaddr_of
from acns.resolver.budget import InFlight
from acns.resolver.commits import Commits
from acns.resolver.early import Early
from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import Server
from acns.resolver.judged import Case, CaseKey, Judgements
from acns.resolver.metrics import TCP, UDP, ResolverMetrics
from acns.resolver.new_names import NewNames
from acns.resolver.overload import Budgeted, Overload
from acns.resolver.query import Asked, Context, Reply, Transport
from acns.resolver.rates import PRESSED, Rates
from acns.resolver.settings import ResolverSettings
from acns.telemetry.journal import Journal

TOLD_PER_S: Final = 250
"""So often a second a pod is told that it is over a budget; then it gets no answer."""
_PROTOCOLS: Final = {UDP: socket.IPPROTO_UDP, TCP: socket.IPPROTO_TCP}


class Proxy:
    """Takes queries of both transports. `link.table` must be there before the first."""

    def __init__(
        self,
        settings: ResolverSettings,
        link: AgentLink,
        commits: Commits,
        metrics: ResolverMetrics,
        journal: Journal,
    ) -> None:
        self.metrics = metrics
        self.journal = journal
        self.rates = Rates(settings.max_queries_per_second_per_pod)
        self._told = Rates(TOLD_PER_S)
        self.overload = Overload(settings.over_budget, metrics, journal)
        self._link = link
        self.early = Early(link, journal, lambda: commits.let_through())
        gate_settings = gate.GateSettings(
            denied=gate.DeniedCode(settings.denied), aaaa=gate.AAAAMode(settings.aaaa)
        )
        self.context = Context(
            link=link,
            commits=commits,
            budget=InFlight.of(settings),
            metrics=metrics,
            journal=journal,
            silent_is_servfail=settings.upstream_silent == "servfail",
            new_names=NewNames(settings),
            overload=self.overload,
        )
        self.transports = {
            name: Transport(name, Judgements(protocol, gate_settings, self.context.budget), self.context)
            for name, protocol in _PROTOCOLS.items()
        }

    @property
    def in_flight(self) -> int:
        """Queries taken on and not ended, and those whose policy is waited for."""
        return self.context.budget.taken + len(self.early)

    @property
    def table(self) -> PolicyTable:
        """The policy in force."""
        table = self._link.table
        assert table is not None, "sockets are bound after the first snapshot"
        return table

    def let_through(self) -> None:
        """Datagrams that have come, between two pieces of other work."""
        self.context.commits.let_through()

    def receive(
        self, asked: Asked, forward: Callable[[Case], None], reply: Reply, *, may_wait: bool = True
    ) -> None:
        """A query came in, within a burst of the journal's: sooner or later it is taken on, and `forward`
        sends it, or ends with a `reply` of ours. `may_wait`: for a policy that is under way."""
        transport = self.transports[asked.transport]
        transport.judgements.use(self.table)
        key = case_prefix(asked.source, asked.server) + asked.packet[ID_BYTES:]
        case = transport.judgements.case(key, asked.source, asked.server, asked.packet)
        if may_wait and case.is_early:

            def again(may_wait: bool) -> None:
                self.receive(asked, forward, reply, may_wait=may_wait)

            if self.early.keep(asked.source, again, len(asked.packet)):
                return
        own = self.own_reply(transport, case, asked.packet)
        forward(case) if own is None else reply(own or None)

    def remembered(self) -> Mapping[CaseKey, Case]:
        """What has become of queries over TCP by the policy in force: some of it."""
        transport = self.transports[TCP]
        transport.policy()
        return transport.judgements.cases.young

    def own_reply(self, transport: Transport, case: Case, packet: bytes) -> bytes | None:
        """What the pod gets from us, empty where that is nothing; None: the query is taken on."""
        refusal = case.refusal
        if refusal is None:
            # A name counts only where it leaves: an answer, or its absence, gives it back.
            if not self.context.budget.take(case.lane, len(packet)):
                return self._over_budget(transport, case, packet, Budgeted.IN_FLIGHT)
            if not case.was_taken_on and not self.context.new_names.ask(case, packet, time.monotonic()):
                self.context.budget.give(case.lane, len(packet))
                return self._over_budget(transport, case, packet, Budgeted.NEW_NAMES)
        if self.journal.on:
            self.journal.record_ready(case.query_line)
        if refusal is None:
            case.taken_on()
            transport.forwarded.count += 1
            return None
        count = transport.verdict(refusal.reason)
        count.count += 1
        if not case.reply_rest:
            return b""
        case.replied(count)
        return packet[:ID_BYTES] + case.reply_rest

    @property
    def rate_kind(self) -> Budgeted:
        """What a message is for which `rates` has no room."""
        return Budgeted.PRESSED if self.rates.pressed >= PRESSED else Budgeted.RATE

    def over(self, pod: bytes, transport: str, kind: Budgeted, now: float) -> bool:
        """A query past a budget that nobody has looked at: counted. Whether its pod is told so; where even
        that would be too much, it gets no answer."""
        self.overload.note(pod, transport, kind)
        self.transports[transport].over_budget.count += 1
        return kind is not Budgeted.PRESSED and self._told.take(pod, now)

    def _over_budget(self, transport: Transport, case: Case, packet: bytes, kind: Budgeted) -> bytes:
        transport.over_budget.count += 1
        if self.journal.on:
            line = case.asker.query_line + case.question.line + b', "verdict": "over-budget"}\n'
            self.journal.record_ready(line)
        self.overload.note(case.asker.source, transport.name, kind)
        return self.overload.reply(packet, transport.name) or b""


def case_prefix(source: bytes, server: Server) -> bytes:
    """The beginning of the keys of cases over TCP; behind it are a query's octets behind its ID."""
    return source + sockaddr_of(*server)
