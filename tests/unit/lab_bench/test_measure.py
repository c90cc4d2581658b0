"""What is made of samples."""

from __future__ import annotations

import json

import pytest

from lab.bench import measure
from lab.bench.measure import Baseline, Limit, Measure


def test_the_value_of_samples_is_their_median_so_that_one_hiccup_does_not_count() -> None:
    one = measure.of_samples("part", "name", [1.0, 2.0, 3.0, 4.0, 1000.0], "ms")
    assert one.value == 3.0
    assert one.spread == {"count": 5.0, "min": 1.0, "p50": 3.0, "p95": 1000.0, "max": 1000.0}


def test_the_95th_percentile_leaves_out_the_worst_twentieth() -> None:
    assert measure.quantiles([*range(1, 100), 1_000_000])["p95"] == 95


def test_pairs_are_compared_slice_by_slice_so_that_a_slow_moment_of_the_machine_cancels() -> None:
    reference = [10.0, 10.0, 50.0, 10.0, 70.0]
    one = measure.of_pairs("part", "name", [value * 0.9 for value in reference], reference)
    assert one.value == pytest.approx(90.0)
    assert (one.spread["low"], one.spread["high"]) == (pytest.approx(90.0), pytest.approx(90.0))


def test_the_bounds_of_a_ratio_enclose_it_and_narrow_with_more_slices() -> None:
    few, many = ([99.0, 101.0, 100.0, 98.0, 102.0] * times for times in (1, 20))
    wide, narrow = measure.bootstrap(few), measure.bootstrap(many)
    assert wide[0] <= 100.0 <= wide[1]
    assert wide[0] < narrow[0] <= 100.0 <= narrow[1] < wide[1]


def test_the_bounds_leave_out_a_fortieth_on_either_side() -> None:
    """By order statistics: the median of 101 values lies between the 41st and the 61st with 95 %."""
    low, high = measure.bootstrap([float(number) for number in range(1, 102)])
    assert low == pytest.approx(41.0, abs=2.0)
    assert high == pytest.approx(61.0, abs=2.0)


def test_the_same_samples_have_the_same_bounds() -> None:
    samples = [float(number % 7) for number in range(30)]
    assert measure.bootstrap(samples) == measure.bootstrap(samples)


@pytest.mark.parametrize(
    ("limit", "value", "verdict"),
    [
        (Limit(30.0), 30.0, "ok"),
        (Limit(30.0), 30.1, "over"),
        (Limit(95.0, is_floor=True), 95.0, "ok"),
        (Limit(95.0, is_floor=True), 94.9, "under"),
        (None, 1e9, ""),
    ],
)
def test_a_limit_includes_its_bound(limit: Limit | None, value: float, verdict: str) -> None:
    assert Measure("part", "name", value, "ms", limit).verdict == verdict


@pytest.mark.parametrize(("low", "high", "verdict"), [(94.0, 97.0, "unclear"), (95.5, 97.0, "ok")])
def test_a_limit_within_the_bounds_of_a_ratio_is_no_verdict(low: float, high: float, verdict: str) -> None:
    floor = Limit(95.0, is_floor=True)
    assert Measure("part", "name", 96.0, "%", floor, spread={"low": low, "high": high}).verdict == verdict


def test_the_ratio_is_to_the_baseline() -> None:
    assert Measure("part", "name", 6.0, "ms", baseline=Baseline("nft -f", 2.0)).ratio == 3.0
    assert Measure("part", "name", 6.0, "ms").ratio is None


def test_steps_that_a_round_lacks_took_it_no_time() -> None:
    assert measure.medians([{"a": 2.0}, {"a": 4.0, "b": 6.0}, {"a": 3.0}]) == {"a": 3.0, "b": 0.0}


def test_a_measure_survives_the_way_out_of_its_process() -> None:
    one = Measure(
        "part",
        "name",
        1.5,
        "ms",
        Limit(2.0, is_floor=True),
        Baseline("b", 3.0),
        {"count": 1.0},
        {"s": 1.0},
        "n",
    )
    assert Measure.from_json(json.loads(json.dumps(one.as_json()))) == one
    bare = Measure("part", "name", 1.5, "ms")
    assert Measure.from_json(json.loads(json.dumps(bare.as_json()))) == bare
