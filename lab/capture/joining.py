"""Which packet a decision is about.

A journal does not number packets: a decision is found again by who asked what of whom, and when. Each packet
is claimed once by each kind of decision, so a question asked three times gets three sentences, not one three
times.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from acns.dns import types
from lab.capture.decisions import Decision, Key, When, dns_key, packet_key
from lab.capture.headers import DNS_PORT, Heads

SLACK_NS: Final = 5_000_000
BURST_NS: Final = 200_000_000
"""An agent reads the clock once for a burst, before it takes it in: on a busy machine what it decides upon
comes later than that."""
_WITHIN_NS: Final = 3_000_000_000
_LOOKS: Final = 64
"""Of so many packets with one key near the moment one is chosen: a flood must not make this quadratic."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A captured packet: its place in the file, its node, its time, what it is about."""

    number: int
    node: str
    time_ns: int
    heads: Heads


class Index:
    """Packets by what decisions know of them."""

    def __init__(self, packets: Iterable[Seen], services: Container[str] = ()) -> None:
        """In the order of their times. `services`: addresses that are translated on the way."""
        self._services = services
        self._by_key: dict[tuple[str, Key], list[Seen]] = defaultdict(list)
        self._claimed: set[tuple[str, int]] = set()
        for one in packets:
            for key in keys(one.heads):
                self._by_key[one.node, key].append(one)

    def claim(self, decision: Decision) -> int | None:
        """The number of its packet; None when it is not there."""
        candidates = self._by_key.get((decision.node, decision.key), [])
        for one in _in_order(candidates, decision):
            claim = decision.claim, one.number
            if claim not in self._claimed and self._fits(one, decision):
                self._claimed.add(claim)
                return one.number
        return None

    def _fits(self, one: Seen, decision: Decision) -> bool:
        wanted, found = decision.destination, one.heads.destination
        if wanted and wanted != found and found not in self._services:
            return False
        return one.heads.opens or decision.when is not When.FIRST


def keys(heads: Heads) -> list[Key]:
    """All by which a decision may know this packet."""
    found = [packet_key(heads.source, heads.protocol, heads.source_port)]
    if heads.asked is None:
        return found
    asker, server = heads.source, heads.destination
    if heads.source_port == DNS_PORT and heads.asked.is_answer:
        asker, server = server, asker
    name, qtype = heads.asked.name, types.text(heads.asked.type)
    return [*found, dns_key(asker, server, heads.protocol, name, qtype, is_answer=heads.asked.is_answer)]


def _in_order(candidates: Sequence[Seen], decision: Decision) -> list[Seen]:
    """The likeliest first."""
    at = decision.time_ns
    match decision.when:
        case When.BEFORE:
            after = bisect.bisect_right(candidates, at + SLACK_NS, key=_time)
            late = (one for one in candidates[after : after + _LOOKS] if one.time_ns <= at + BURST_NS)
            near = [*reversed(candidates[max(0, after - _LOOKS) : after]), *late]
        case When.AFTER:
            first = bisect.bisect_left(candidates, at - SLACK_NS, key=_time)
            near = list(candidates[first : first + _LOOKS])
        case When.FIRST:
            first = bisect.bisect_left(candidates, at - _WITHIN_NS, key=_time)
            near = [one for one in candidates[first : first + _LOOKS] if one.time_ns <= at + SLACK_NS]
    return [one for one in near if abs(one.time_ns - at) <= _WITHIN_NS]


def _time(one: Seen) -> int:
    return one.time_ns
