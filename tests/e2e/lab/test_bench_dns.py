"""The DNS benchmark works: every contender answers, every row has numbers. Nothing here is about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.bench import dns, dns_plan
from lab.bench.dns_plan import DNSPlan
from lab.bench.measure import Measure

REPOSITORY = Path(__file__).parents[3]
TINY = DNSPlan(rounds=1, seconds=0.3, names=50, new_names=50, cached_names=50, pods=3)


@pytest.fixture(scope="module")
def measures() -> list[Measure]:
    return dns.measured(TINY, dns_plan.PARTS)


def named(measures: list[Measure], part: str, name: str) -> Measure:
    return next(one for one in measures if one.part == part and name in one.name)


def test_every_part_has_its_numbers(measures: list[Measure]) -> None:
    assert {one.part for one in measures} == set(dns_plan.PARTS)


@pytest.mark.parametrize("contender", ["no proxy", "dnsdist", "dnsmasq", "resolver"])
def test_every_contender_answers(measures: list[Measure], contender: str) -> None:
    assert named(measures, "known", f"queries a second: {contender}").value > 100


@pytest.mark.parametrize(
    ("part", "name", "unit", "limit"),
    [
        ("known", "resolver, against no proxy", "%", 50.0),
        ("known", "resolver, against dnsdist", "%", 65.0),
        ("known", "resolver, against dnsmasq", "%", 500.0),
        ("known", "CPU of a query: resolver", "µs", 28.0),
        ("fresh", "resolver, against no proxy", "%", 60.0),
        ("slow", "median added", "ms", 0.2),
        ("slow", "p99, against dnsdist", "%", 150.0),
        ("fast", "p99 added", "ms", 5.0),
        ("new", "against bare gRPC and netlink", "%", 60.0),
        ("denied", "against known names", "%", 100.0),
        ("tcp", "against dnsdist, one query a connection", "%", 50.0),
        ("tcp", "against dnsdist, many on a connection", "%", 100.0),
        ("pods", "fairness", "", 0.95),
        ("memory", "resolver", "MiB", 200.0),
    ],
)
def test_what_has_a_limit_is_measured_in_its_unit(
    measures: list[Measure], part: str, name: str, unit: str, limit: float
) -> None:
    one = named(measures, part, name)
    assert one.unit == unit
    assert one.limit is not None
    assert one.limit.value == limit


def test_no_answer_came_before_its_address_was_open_and_each_name_was_answered(
    measures: list[Measure],
) -> None:
    assert named(measures, "new", "answers before the address was open").value == 0
    assert named(measures, "new", "unanswered").value == 0


def test_all_pods_are_answered(measures: list[Measure]) -> None:
    assert named(measures, "pods", "lost").value == 0
    assert named(measures, "pods", "fairness").value > 0.95


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = "import sys; from invoke.main import program; sys.exit(program.run())"
    argv = [sys.executable, "-c", command, "bench.dns", *arguments]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_json_is_all_that_stdout_has() -> None:
    done = bench("--quick", "--json", "--only=pods", "--seed=3")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["plan"]["seed"] == 3
    assert {one["part"] for one in found["measures"]} == {"pods"}
    assert "bench: " in done.stderr or not done.stderr


def test_a_part_that_does_not_exist_is_a_mistake_of_the_user() -> None:
    done = bench("--only=knwon")
    assert done.returncode == 2
    assert "did you mean 'known'" in done.stderr


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from lab.bench import dns_sides
    from lab.errors import EnvironmentFault

    monkeypatch.setattr("shutil.which", lambda name: None if name == "dnsdist" else f"/usr/bin/{name}")
    with pytest.raises(EnvironmentFault, match="dnsdist") as caught:
        dns_sides.missing()
    assert "apt-get install" in str(caught.value.hint)
