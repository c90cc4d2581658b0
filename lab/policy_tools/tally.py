"""What flows come to, edge by edge: who had to do with whom, how often, and what became of it.

A packet between pods of two nodes is told of by both: it counts once, and where the second drops what the
first let go, it did not pass. Nodes' logs are read one after the other, so their flows come in any order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from acns.telemetry.flows import Direction, Flow, Lost, Record, Verdict
from lab.report import flows as flow_report
from lab.report.graph import Edge, Kind

_SEARCHED: Final = ".cluster.local"
_SEARCH_LIST: Final = "*.cluster.local"
"""What search lists make of a name, all together."""

_QUERIES: Final = {Verdict.FORWARDED: "asked", Verdict.DROPPED: "refused"}
"""Others failed for reasons of the DNS server's or of a budget: no policy refused them."""

_REMEMBERED: Final = 50_000
_SAME_ATTEMPT_NS: Final = 120_000_000_000
"""As long as TCP goes on trying from one port."""

_TOLD_LATE_NS: Final = 1_000_000_000
"""By so much the node that a packet leaves may be later with its word than the one it comes to."""
_ATTEMPTS: Final = 16
"""Of one connection, that are remembered."""

_Connection = tuple[str, int, str, int, str]
EdgeKey = tuple[str, Kind, str]


class Tally:
    """Of all flows that it was told. `lost`: flows of which nothing is known."""

    def __init__(self) -> None:
        self.lost = 0
        self._counts: dict[EdgeKey, Counter[str]] = defaultdict(Counter)
        self._why: dict[EdgeKey, Counter[str]] = defaultdict(Counter)
        self._fates = _Fates()

    def edges(self) -> list[Edge]:
        """Those with the most flows first."""
        found = [self._edge(key) for key in self._counts]
        return sorted((edge for edge in found if edge.total), key=lambda edge: -edge.total)

    def count(self, records: Iterable[Record]) -> None:
        for record in records:
            if isinstance(record, Lost):
                self.lost += record.count
            elif key := _key(record):
                self._settle(record, key)
                if why := flow_report.reasons(record):
                    self._why[key][why] += 1

    def _settle(self, flow: Flow, key: EdgeKey) -> None:
        """What passed counts where it left its pod; what its target's policy drops then did not pass."""
        counted = _counted(flow)
        connection = None if flow.dns is not None else _connection(flow)
        is_told_by_one = connection is None and flow.direction is not Direction.INGRESS
        if counted != "forwarded" or is_told_by_one:
            self._counts[key][counted] += 1
        if connection is not None:
            for edge, more in self._fates.told(connection, flow, key).items():
                self._counts[edge]["forwarded"] += more

    def _edge(self, key: EdgeKey) -> Edge:
        counts, why = self._counts[key], self._why[key]
        return Edge(
            *key,
            forwarded=counts["forwarded"],
            dropped=counts["dropped"],
            asked=counts["asked"],
            refused=counts["refused"],
            failed=counts["failed"],
            why=tuple(f"{count} × {text}" for text, count in why.most_common(8)),
        )


class _Fates:
    """Connections between pods, which two nodes may tell of: one says that it left, the other that it came or
    was dropped. Remembered are the newest."""

    def __init__(self) -> None:
        self._attempts: dict[_Connection, _Attempts] = {}

    def told(self, connection: _Connection, flow: Flow, key: EdgeKey) -> Counter[EdgeKey]:
        """By how much what passed on which edge is more, or less, than was known before."""
        attempts = self._attempts.setdefault(connection, _Attempts())
        if len(self._attempts) > _REMEMBERED:
            del self._attempts[next(iter(self._attempts))]
        attempts.forget()
        before = attempts.passed()
        attempts.add(flow, key)
        after = attempts.passed()
        after.subtract(before)
        return after


@dataclass(slots=True)
class _Attempts:
    """All from one port to another. TCP tries again and again, and each time both nodes may tell of it."""

    left: list[tuple[int, EdgeKey]] = field(default_factory=list)
    came: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)

    def add(self, flow: Flow, key: EdgeKey) -> None:
        if flow.direction is not Direction.INGRESS:
            if flow.verdict is not Verdict.DROPPED:
                self.left.append((flow.time_ns, key))
        elif flow.verdict is Verdict.DROPPED:
            self.dropped.append(flow.time_ns)
        else:
            self.came.append(flow.time_ns)

    def passed(self) -> Counter[EdgeKey]:
        """Of those that left, those that came; and those of which nobody says that they were dropped."""
        arrived = {self._latest_before(time_ns) for time_ns in self.came}
        return Counter(key for time_ns, key in self.left if time_ns in arrived or not self._is_lost(time_ns))

    def forget(self) -> None:
        """The oldest, where there are many; what was found of them stands."""
        for times in (self.left, self.came, self.dropped):
            del times[:-_ATTEMPTS]

    def _latest_before(self, came_ns: int) -> int | None:
        before = [time_ns for time_ns, _ in self.left if time_ns <= came_ns + _TOLD_LATE_NS]
        return max(before, default=None)

    def _is_lost(self, time_ns: int) -> bool:
        return any(abs(dropped_ns - time_ns) < _SAME_ATTEMPT_NS for dropped_ns in self.dropped)


def _connection(flow: Flow) -> _Connection | None:
    """None where it is not from a pod to a pod, or has no ports to be known by."""
    if flow.l4 is None or not flow.l4.source_port or not (flow.source.pod and flow.destination.pod):
        return None
    l4 = flow.l4
    return flow.source.address, l4.source_port, flow.destination.address, l4.destination_port, l4.protocol


def _key(flow: Flow) -> EdgeKey | None:
    """Whose edge a flow is on; None where no pod is at its beginning, or it is an answer."""
    if not flow.source.pod or flow.is_reply:
        return None
    if flow.dns is not None:
        asked = flow.dns.query.removesuffix(".")
        return flow.source.key, "name", _SEARCH_LIST if asked.endswith(_SEARCHED) else asked or "unreadable"
    end = flow.destination
    if end.service or end.pod:
        return flow.source.key, "cluster", f"service {end.service}" if end.service else end.key
    named = next(iter(end.names), "").removesuffix(".")
    return (flow.source.key, "name", named) if named else (flow.source.key, "address", end.address)


def _counted(flow: Flow) -> str:
    if flow.dns is not None:
        return _QUERIES.get(flow.verdict, "failed")
    return "dropped" if flow.verdict is Verdict.DROPPED else "forwarded"
