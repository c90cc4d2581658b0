"""What a run prints."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from lab.bench import report
from lab.bench.machine import Machine
from lab.bench.measure import Baseline, Limit, Measure
from lab.bench.plans import QUICK
from lab.bench.report import Result

MACHINE = Machine("6.12", "a CPU", 2, 16.0, "CPython 3.11", "nft 1.0.6", "missing", 0.25)
LOAD = Measure(
    "load",
    "compile and load",
    812.0,
    "ms",
    Limit(2000.0),
    Baseline("nft -f", 406.0),
    steps={"kernel": 400.0, "x": 1},
)
POD = Measure(
    "increments", "pod added", 31.4, "ms", Limit(30.0), spread={"count": 2.0, "min": 30.0, "p95": 32.0}
)
RATE = Measure("datapath", "TCP", 96.25, "%", Limit(95.0, is_floor=True), spread={"low": 95.5, "high": 97.0})


def printed(*measures: Measure) -> str:
    out = io.StringIO()
    report.print_result(Result(MACHINE, QUICK, measures), out)
    return out.getvalue()


def line(text: str, word: str) -> str:
    return " ".join(next(one for one in text.splitlines() if word in one).split())


def test_a_line_says_value_limit_verdict_and_the_ratio_to_the_baseline() -> None:
    assert "compile and load 812 ms ≤ 2000 ok × 2.00 nft -f" in line(printed(LOAD), "compile")


def test_what_is_over_its_limit_is_marked_and_counted() -> None:
    text = printed(LOAD, POD)
    assert "31.4 ms ≤ 30 over 30.0 … p95 32.0" in line(text, "pod added")
    assert text.splitlines()[-1] == "limits: 1 ok, 1 over"


def test_a_ratio_comes_with_its_bounds() -> None:
    assert "96.2 % ≥ 95 ok 95.5 … 97.0" in line(printed(RATE), "TCP")


def test_only_steps_that_matter_are_shown() -> None:
    assert "kernel 400" in printed(LOAD)
    assert "x 1" not in printed(LOAD)


def test_the_machine_and_the_scale_stand_above_the_numbers() -> None:
    head = printed(LOAD).splitlines()[:2]
    assert "Linux 6.12" in head[0]
    assert "25 endpoints, 50 policies, 200 FQDN selectors, 2000 learned addresses, seed 1" in head[1]


def test_it_is_said_that_no_cpu_slept() -> None:
    out = io.StringIO()
    report.print_result(Result(replace(MACHINE, kept_awake=True), QUICK, [LOAD]), out)
    assert out.getvalue().splitlines()[0].endswith("load 0.25, CPUs kept awake")
    assert "awake" not in printed(LOAD)


def test_the_json_has_everything_that_the_table_has() -> None:
    found = json.loads(report.result_json(Result(MACHINE, QUICK, (LOAD, POD))))
    assert found["version"] == report.FORMAT_VERSION
    assert found["machine"]["kernel"] == "6.12"
    assert found["plan"]["scale"]["seed"] == 1
    assert [(one["name"], one["verdict"]) for one in found["measures"]] == [
        ("compile and load", "ok"),
        ("pod added", "over"),
    ]
    assert found["measures"][0]["ratio"] == 2.0
    assert found["measures"][1]["spread"]["p95"] == 32.0
