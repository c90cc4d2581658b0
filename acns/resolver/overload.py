"""What is done with a query past a pod's budget: counted, noted in the journal now and then, answered.

The answer is SERVFAIL, or by setting an empty one with TC over UDP: real clients then come by TCP, where a
pod past its rate is not refused but read more slowly. While the resolver cannot keep up there is none at all.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from acns.dns import message
from acns.resolver.metrics import UDP, ResolverMetrics
from acns.telemetry.journal import Event, Journal

NOTE_INTERVAL_S: Final = 1.0
MANY_PODS: Final = 4_096

OverBudget = Literal["servfail", "tc"]


class Budgeted(StrEnum):
    """What there is a budget of: label and journal word."""

    RATE = "rate"  # queries a second
    PRESSED = "pressed"  # the same, while the resolver cannot keep up
    IN_FLIGHT = "in_flight"  # queries being worked on
    NEW_NAMES = "new_names"  # names whose addresses have to be committed, a second
    CONNECTIONS = "connections"  # over TCP


@dataclass(slots=True)
class _Excess:
    """Of one pod and kind: since the last line of the journal."""

    count: int = 0
    next_note_at: float = float("-inf")


class Overload:
    """All pods' excess. A pod is known by its address, four octets."""

    def __init__(self, answer: OverBudget, metrics: ResolverMetrics, journal: Journal) -> None:
        self._tc = answer == "tc"
        self._metrics = metrics
        self._journal = journal
        self._excess: dict[tuple[bytes, Budgeted], _Excess] = {}

    def note(self, pod: bytes, transport: str, kind: Budgeted) -> None:
        """One more: counted exactly, and in the journal once a second for each pod and kind."""
        self._metrics.over_budget.add(transport, kind.value)
        if not self._journal.on:
            return
        excess = self._excess.get((pod, kind)) or self._first(pod, kind)
        excess.count += 1
        now = time.monotonic()
        if now >= excess.next_note_at:
            self._journal.record(
                Event.OVER_BUDGET,
                source=socket.inet_ntoa(pod),
                transport=transport,
                kind=kind.value,
                count=excess.count,
            )
            excess.count, excess.next_note_at = 0, now + NOTE_INTERVAL_S

    def _first(self, pod: bytes, kind: Budgeted) -> _Excess:
        if len(self._excess) >= MANY_PODS:
            self._excess.clear()
        first = self._excess[pod, kind] = _Excess()
        return first

    def reply(self, packet: bytes, transport: str) -> bytes | None:
        """What the pod gets; None for what is no query."""
        try:
            if message.read_header(packet).is_response:
                return None
        except message.MalformedDNS:
            return None
        if self._tc and transport == UDP:
            return message.reply_with_rcode(packet, message.RCODE_NOERROR, come_by_tcp=True)
        return message.reply_with_rcode(packet, message.RCODE_SERVFAIL)
