"""Flows of several files in the order of their times, and what `lab.observe` makes of files and options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acns.errors import InputError
from acns.telemetry import flow_json
from acns.telemetry.flows import Flow, Lost, Peer, Record, Verdict
from lab.runtime import observe
from lab.runtime.flow_filter import FlowFilter
from lab.runtime.growing import GrowingFile
from lab.runtime.merging import Merged
from lab.runtime.observe import FlowFile, JournalFile, Typed


def flow(time_ns: int, verdict: Verdict = Verdict.DROPPED) -> Flow:
    return Flow(time_ns, "node1", verdict, Peer("10.0.0.1"), Peer("10.0.0.2"))


class Given:
    """A source that has this for each time it is asked."""

    def __init__(self, *batches: list[Record]) -> None:
        self.unreadable = 0
        self._batches = iter(batches)

    def new(self) -> Iterator[Record]:
        yield from next(self._batches, [])


def of(*sources: Any, wanted: FlowFilter | None = None) -> Merged[Record]:
    return Merged(sources, (wanted or FlowFilter()).wants)


def times(flows: Merged[Record], until: int | None = None) -> list[int]:
    return [record.time_ns for record in flows.until(until)]


def test_flows_of_all_sources_come_in_the_order_of_their_times() -> None:
    flows = of(Given([flow(3), flow(1), flow(7)]), Given([flow(2), Lost(5, "node2", 9)]))
    flows.take_in()
    assert times(flows) == [1, 2, 3, 5, 7]
    assert times(flows) == []


def test_what_is_too_young_waits_for_what_may_come_late() -> None:
    flows = of(Given([flow(10), flow(20)], [flow(15)]))
    flows.take_in()
    assert times(flows, 12) == [10]
    flows.take_in()
    assert times(flows, 20) == [15, 20]


def test_the_last_are_the_newest_of_the_wanted() -> None:
    flows = of(
        Given([flow(1), flow(2), flow(3), flow(4, Verdict.ERROR)]), wanted=FlowFilter.of(verdict="DROPPED")
    )
    flows.take_in()
    flows.keep_last(2)
    assert times(flows) == [2, 3]


def test_two_flows_at_the_same_time_stay_in_the_order_they_were_written_in() -> None:
    same = [flow(5), flow(5, Verdict.ERROR), flow(5, Verdict.FORWARDED)]
    flows = of(Given(list(same)))
    flows.take_in()
    flows.keep_last(3)
    assert list(flows.until(None)) == same


def test_lines_that_are_no_flows_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    path.write_bytes(b"{\n" + flow_json.line(flow(1)).encode() + b"\xff\n{}\n")
    file = FlowFile(GrowingFile(path))
    assert list(file.new()) == [flow(1)]
    assert file.unreadable == 3


class View:
    """Knows nobody."""

    def refresh(self) -> None: ...

    def who(self, address: str) -> Peer:
        return Peer(address)

    def explained(self, flow: Flow) -> Flow:
        return flow


def test_of_a_journal_only_what_is_about_names_is_read(tmp_path: Path) -> None:
    line = {
        "ts": 1.5,
        "event": "dns.query",
        "source": "10.0.0.1",
        "server": "10.0.0.2:53",
        "transport": "udp",
    }
    line |= {"name": "a.io.", "type": 1, "verdict": "forward"}
    path = tmp_path / "journal"
    lines = [
        json.dumps(line),
        json.dumps({"ts": 1.0, "event": "mapping.sent"}),
        '{"event": "dns.query"}',
        '"dns.',
    ]
    path.write_text("\n".join(lines) + "\n")
    file = JournalFile(GrowingFile(path), "node1", View())  # type: ignore[arg-type]
    assert [record.time_ns for record in file.new()] == [1_500_000_000]
    assert file.unreadable == 2


@pytest.mark.parametrize("last", ["", "0", "-1", "x", "1.5", "٣"])
def test_a_count_that_is_none_is_refused(last: str) -> None:
    with pytest.raises(InputError, match="is no number of flows"):
        observe._count(Typed(last=last))


@pytest.mark.parametrize(
    ("typed", "count"),
    [(Typed(), None), (Typed(follow=True), observe.FOLLOWED_FROM), (Typed(last="7", follow=True), 7)],
)
def test_so_many_are_shown_where_nobody_says_how_many(typed: Typed, count: int | None) -> None:
    assert observe._count(typed) == count
