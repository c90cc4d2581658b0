"""What the hot path counts and records with: the same as the plain ways, only cheaper."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from acns.telemetry.journal import Event, Journal
from acns.telemetry.metrics import LATENCY_BUCKETS_S, Tally, Times, exposition


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 20))))
def test_times_are_shown_as_prometheus_shows_a_histogram(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    times = Times("x_seconds", "X.", ("kind",), registry=ours)
    histogram = Histogram("x_seconds", "X.", ("kind",), registry=theirs, buckets=LATENCY_BUCKETS_S)
    for kind, seconds in observed:
        times.labels(kind).observe(seconds)
        histogram.labels(kind).observe(seconds)
    times.fold()
    assert samples(ours) == pytest.approx(samples(theirs))


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Line → value, but for the time at which a series began."""
    lines = exposition(registry).decode().splitlines()
    values = (line.rsplit(" ", 1) for line in lines if not line.startswith("#") and "_created" not in line)
    return {name: float(value) for name, value in values}


def test_a_cell_counts_for_its_tally() -> None:
    tally = Tally("x", "X.", ("kind",), registry=CollectorRegistry())
    cell = tally.cell("late")
    cell.count += 2
    tally.add("late")
    assert tally.count("late") == 3
    assert tally.cell("late") is cell
    with pytest.raises(ValueError, match="labels"):
        tally.cell("late", "other")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_ready_lines_have_the_time_of_their_burst_and_keep_their_order_among_the_others(
    tmp_path: Path,
) -> None:
    clock = iter([1.5, 2.5, 3.5])
    journal = Journal(str(tmp_path / "journal"), "resolver", clock=lambda: next(clock))
    journal.start()
    journal.burst()
    for number in (b"1", b"2"):
        journal.record_ready(b', "agent": "resolver", "event": "dns.query", "n": ' + number + b"}\n")
    journal.record(Event.DNS_ANSWER, n=3)
    journal.burst()
    journal.lines.append(b', "n": 4}\n')
    journal.nudge()
    journal.close()
    assert [(line["ts"], line["n"]) for line in lines(tmp_path / "journal")] == [
        (1.5, 1), (1.5, 2), (2.5, 3), (3.5, 4),
    ]  # fmt: skip


def test_a_line_added_while_the_writer_sleeps_wakes_it(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver")
    journal.start()
    for number in range(20):
        journal.burst()
        journal.lines.append(b', "n": %d}\n' % number)
        journal.nudge()
        while len(lines(tmp_path / "journal")) <= number:
            pass
    journal.close()


def test_lines_of_a_burst_that_nobody_has_handed_over_are_at_the_next(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver")
    journal.start()
    journal.burst()
    journal.record_ready(b', "n": 1}\n')
    journal.burst()
    end = time.monotonic() + 30
    while not lines(tmp_path / "journal") and time.monotonic() < end:
        pass
    assert [line["n"] for line in lines(tmp_path / "journal")] == [1]
    journal.close()


def test_a_full_journal_says_so_to_who_adds_lines_himself(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver", limit_bytes=60)
    for number in range(3):
        journal.burst()
        assert journal.full == (number == 2)
        journal.lines.append(b', "event": "made"}\n')
        journal.nudge()


def test_what_is_written_makes_room_again(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver", limit_bytes=60)
    journal.start()
    for number in range(100):
        journal.burst()
        while journal.full:
            journal.burst()
        journal.record_ready(b', "n": %d}\n' % number)
        journal.nudge()
    journal.close()
    assert [line["n"] for line in lines(tmp_path / "journal")] == list(range(100))


def test_lines_that_were_not_handed_over_are_written_at_the_end(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver")
    journal.start()
    journal.burst()
    journal.lines.append(b', "n": 1}\n')
    journal.close()
    assert [line["n"] for line in lines(tmp_path / "journal")] == [1]
