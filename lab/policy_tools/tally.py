"""What flows come to, edge by edge: who had to do with whom, how often, and what became of it.

A packet between pods of two nodes is told of by both: it counts once, and where the second drops what the
first let go, it did not pass. Nodes' logs are read one after the other, so their flows come in any order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final, TypeVar

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

T = TypeVar("T")
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
        if counted == "forwarded" and flow.direction is Direction.INGRESS:
            return
        self._counts[key][counted] += 1
        passed = self._fates.passed(flow, key) if flow.dns is None else None
        if passed is not None:
            self._counts[passed]["forwarded"] -= 1

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
    """Connections between pods, which two nodes may tell of: one says that it left, the other that it was
    dropped. They come in any order; remembered are the newest."""

    def __init__(self) -> None:
        self._left: dict[_Connection, tuple[int, EdgeKey | None]] = {}
        """When and where it was counted; no longer (None) once it is known not to have passed."""
        self._dropped: dict[_Connection, int] = {}

    def passed(self, flow: Flow, key: EdgeKey) -> EdgeKey | None:
        """The edge on which this connection was counted as one that passed, and did not."""
        connection = _connection(flow)
        if connection is None:
            return None
        if flow.verdict is not Verdict.DROPPED:
            if self._is_near(self._dropped.pop(connection, None), flow):
                return key
            _remember(self._left, connection, (flow.time_ns, key))
        elif flow.direction is Direction.INGRESS:
            time_ns, counted = self._left.get(connection, (None, None))
            if self._is_near(time_ns, flow):
                self._left[connection] = flow.time_ns, None
                return counted
            _remember(self._dropped, connection, flow.time_ns)
        return None

    @staticmethod
    def _is_near(time_ns: int | None, flow: Flow) -> bool:
        return time_ns is not None and abs(time_ns - flow.time_ns) < _SAME_ATTEMPT_NS


def _remember(memory: dict[_Connection, T], connection: _Connection, value: T) -> None:
    memory[connection] = value
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]


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
