"""What the agents wrote down, as events: sets, policies, agents that came and went.

From the records in a capture of our own and from the journals of a bundle; a line that is in both is one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from acns.telemetry.journal import Event as Said
from lab.report import journal
from lab.repro.reading.evidence import Address, Decision
from lab.repro.showing.timeline import Event, Lane

_SETS: Final = frozenset(
    {
        Said.MAPPING_COMMITTED,
        Said.MAPPING_QUEUED,
        Said.MAPPING_REPLAYED,
        Said.MAPPING_REFUSED,
        Said.ADDRESS_GONE,
    }
)
_COMMON: Final = frozenset(
    {
        Said.POLICY_COMMITTED,
        Said.POLICY_REFUSED,
        Said.KERNEL_DRIFT,
        Said.AGENT_CONNECTED,
        Said.AGENT_LOST,
        Said.SERVICE_STARTED,
        Said.SERVICE_STOPPED,
        Said.JOURNAL_DROPPED,
        Said.OVER_BUDGET,
    }
)
_OPENS: Final = frozenset({Said.MAPPING_COMMITTED, Said.MAPPING_QUEUED, Said.MAPPING_REPLAYED})
_MAX_TEXT: Final = 1_000
_MAX_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Line:
    """`name`: what it is about, with its final dot; "" for what is about no name."""

    event: Event
    name: str
    opens: tuple[Address, ...] = ()


def lines(decisions: Iterable[Decision]) -> list[Line]:
    """In the order of their times. What cannot be read is passed over: a bundle may be anybody's."""
    found: dict[bytes, Line] = {}
    for decision in decisions:
        if decision.record and decision.record not in found and (line := _line(decision)):
            found[decision.record] = line
    return sorted(found.values(), key=lambda line: line.event.at_ns)


def committed(found: Iterable[Line]) -> Mapping[Address, list[int]]:
    """When each address was put into a set."""
    times: dict[Address, list[int]] = defaultdict(list)
    for line in found:
        for address in line.opens:
            times[address].append(line.event.at_ns)
    return times


def _line(decision: Decision) -> Line | None:
    try:
        record = json.loads(decision.record)
        said = record["event"]
        if said not in _SETS | _COMMON:
            return None
        at_ns = round(record["ts"] * 1_000_000) * 1_000
        if not 0 <= at_ns < _MAX_NS:
            return None
        name = str(record.get("name", "")).lower()
        opens = tuple(map(ip_address, record.get("addresses", ()))) if said in _OPENS else ()
        text = journal.text(record)[:_MAX_TEXT]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    event = Event(
        at_ns=at_ns,
        lane=Lane.SET,
        kind=_kind(said),
        what=text.partition(" ")[2],
        outcome=_place(decision),
        until_ns=_until(record, at_ns) if opens else None,
        frames=(decision.frame,) if decision.frame else (),
    )
    return Line(event, name, opens)


def _kind(said: str) -> str:
    """`added`, `gone`, `agent.lost`."""
    words = {
        Said.MAPPING_COMMITTED: "added",
        Said.MAPPING_QUEUED: "added by the resolver",
        Said.MAPPING_REPLAYED: "told to the shim",
        Said.MAPPING_REFUSED: "not added",
        Said.ADDRESS_GONE: "gone",
    }
    return next((word for event, word in words.items() if event == said), said)


def _until(record: Mapping[str, Any], at_ns: int) -> int | None:
    ttl_s = record.get("ttl")
    if not isinstance(ttl_s, int | float) or not 0 <= ttl_s < 1 << 31:
        return None
    return at_ns + round(ttl_s * 1_000_000_000)


def _place(decision: Decision) -> str:
    return f"on {decision.tap}" if decision.tap else ""
