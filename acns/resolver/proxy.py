"""Where a query goes: packets from pods to the gate, and on as its verdict says. A thin shell.

What it keeps true: a query leaves for its server only when the gate says so and the budgets have room.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from acns.dns import message
from acns.dns import name as names
from acns.fqdn import gate
from acns.resolver.agent import AgentLink
from acns.resolver.budget import Budget
from acns.resolver.commits import Commits
from acns.resolver.flight import Flight
from acns.resolver.metrics import TCP, UDP, ResolverMetrics
from acns.resolver.overload import Budgeted, Overload
from acns.resolver.query import Asked, Context, Query, Reply
from acns.resolver.rates import Rates
from acns.resolver.settings import ResolverSettings
from acns.telemetry.journal import Event, Journal

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
        self.overload = Overload(settings.over_budget, metrics, journal)
        self._link = link
        self._context = Context(
            link=link,
            commits=commits,
            budget=Budget(settings.max_in_flight, settings.max_in_flight_per_endpoint),
            metrics=metrics,
            journal=journal,
            gate_settings=gate.GateSettings(
                denied=gate.DeniedCode(settings.denied), aaaa=gate.AAAAMode(settings.aaaa)
            ),
            silent_is_servfail=settings.upstream_silent == "servfail",
        )

    @property
    def in_flight(self) -> int:
        """Queries taken on and not ended."""
        return self._context.budget.in_flight

    def receive(self, asked: Asked, forward: Callable[[Flight], None], reply: Reply) -> None:
        """A query came in. `forward` sends it on; `reply` is called once, sooner or later."""
        table = self._link.table
        assert table is not None, "sockets are bound after the first snapshot"
        server = gate.Server(*asked.server, _PROTOCOLS[asked.transport])
        verdict = gate.judge_query(table, asked.source, server, asked.packet, self._context.gate_settings)
        if isinstance(verdict, gate.Forward):
            self._take_on(verdict, asked, forward, reply)
            return
        self.metrics.queries.add(asked.transport, verdict.reason.value)
        if self.journal.on:
            self._note_refused(verdict, asked)
        reply(verdict.packet if isinstance(verdict, gate.Reply) else None)

    def over_rate(self, packet: bytes, pod: str, transport: str) -> bytes | None:
        """What a message gets for which `rates` has no room: no answer where even that would be too much."""
        pressed = self.rates.pressed
        self.overload.note(pod, transport, Budgeted.PRESSED if pressed else Budgeted.RATE)
        self.metrics.queries.add(transport, "over-budget")
        return None if pressed else self.overload.reply(packet, transport)

    def _take_on(
        self, verdict: gate.Forward, asked: Asked, forward: Callable[[Flight], None], reply: Reply
    ) -> None:
        query = Query(self._context, verdict, asked, reply)
        taken = self._context.budget.take(verdict.endpoint_id)
        outcome = "forward" if taken else "over-budget"
        self.metrics.queries.add(asked.transport, outcome)
        query.note(Event.DNS_QUERY, verdict=outcome)
        if taken:
            forward(query)
        else:
            self.overload.note(socket.inet_ntoa(asked.source), asked.transport, Budgeted.IN_FLIGHT)
            reply(self.overload.reply(asked.packet, asked.transport))

    def _note_refused(self, verdict: gate.Drop | gate.Reply, asked: Asked) -> None:
        try:
            query = message.read_query(asked.packet)
            name, qtype = names.to_text(query.name), query.qtype
        except message.MalformedDNS:
            name, qtype = None, None
        self.journal.record(
            Event.DNS_QUERY,
            **asked.fields(),
            name=name,
            type=qtype,
            verdict="drop" if isinstance(verdict, gate.Drop) else "reply",
            rcode=verdict.packet[3] & 0xF if isinstance(verdict, gate.Reply) else None,
            reason=verdict.reason.value,
        )
