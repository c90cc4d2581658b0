"""The benchmark works: every part measures what it says, on a cluster that is as small as can be.

Nothing here is about seconds. What is: that there are numbers, with their limits and spreads; that the
measured packets are really judged by the policy; and that whoever stops the benchmark stops all of it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.bench import inputs, plans, policy, traffic, worlds
from lab.bench.cluster import Scale
from lab.bench.measure import Measure
from lab.bench.plans import Plan
from lab.bench.report import Result
from lab.bench.worlds import World
from lab.kernel import netns, nft

from ...waiting import until
from . import traces

REPOSITORY = Path(__file__).parents[3]
MARK = "ACNS_TEST_TRACE"
PATIENCE_S = 60.0
TINY = Plan(
    scale=Scale(endpoints=4, policies=8, selectors=16, addresses=80, replicas=2),
    curve=(4, 8),
    elsewhere=2,
    loads=1,
    increments=2,
    mappings=5,
    elements=5,
    slices=3,
    round_trips=20,
    connections=3,
    bulk_slices=1,
)


# --- what is measured ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result() -> Result:
    return policy.measured(TINY, plans.PARTS)


def named(result: Result, part: str, name: str) -> Measure:
    return next(one for one in result.measures if one.part == part and name in one.name)


def test_every_part_has_its_numbers(result: Result) -> None:
    assert {one.part for one in result.measures} == set(plans.PARTS)
    assert all(one.value > 0 for one in result.measures)


@pytest.mark.parametrize(
    ("part", "name", "unit", "limit"),
    [
        ("load", "compile and load", "ms", 2000.0),
        ("load", "in terms of nft -f", "×", 4.0),
        ("increments", "pod added", "ms", 30.0),
        ("increments", "pod relabelled", "ms", 30.0),
        ("mappings", "one address more, committed", "ms", 1.0),
        ("mappings", "the set element itself", "ms", 0.1),
        ("memory", "80 addresses learned", "MiB", 150.0),
        ("datapath", "TCP request/response: policy, against no rules", "%", 95.0),
        ("datapath", "UDP request/response: policy, against no rules", "%", 95.0),
    ],
)
def test_what_has_a_limit_is_measured_in_its_unit(
    result: Result, part: str, name: str, unit: str, limit: float
) -> None:
    one = named(result, part, name)
    assert one.unit == unit
    assert one.limit is not None
    assert one.limit.value == limit


@pytest.mark.skipif(not traffic.has_iperf3(), reason="needs iperf3")
def test_throughput_is_measured_where_there_is_iperf3(result: Result) -> None:
    assert named(result, "datapath", "TCP throughput: policy, against no rules").limit is not None
    assert named(result, "datapath", "TCP throughput: no rules").unit == "Gbit/s"


def test_a_change_is_split_into_the_steps_of_a_round(result: Result) -> None:
    steps = named(result, "increments", "pod relabelled").steps
    assert {"read", "resolve", "compile", "ledger", "transaction", "kernel"} <= steps.keys()


def test_each_repetition_counts_as_a_sample(result: Result) -> None:
    assert named(result, "increments", "pod added").spread["count"] == TINY.increments
    assert named(result, "mappings", "one address more").spread["count"] == TINY.mappings
    assert named(result, "datapath", "TCP request/response: policy").spread["count"] == TINY.slices


def test_the_curve_has_every_size_and_says_how_the_cost_grows(result: Result) -> None:
    names = [one.name for one in result.measures if one.part == "curve"]
    for endpoints in TINY.curve:
        assert f"compile and load, {endpoints} endpoints" in names
        assert f"TCP on one CPU, {endpoints} endpoints" in names
    assert named(result, "curve", "pod added: per endpoint, 8 against 4").unit == "%"
    assert named(result, "curve", "others with 2 times the policies, against none").unit == "%"


# --- that it is policy that is measured ---------------------------------------------------------------------


@pytest.fixture
def alone() -> Iterator[netns.Namespace]:
    with netns.keeping(netns.make()) as namespace:
        yield namespace


def packets(world: World, counter: str) -> int:
    """Those of all named counters of that kind."""
    found = re.findall(rf"counter {counter}_\w+ {{\s+packets (\d+)", nft.listing(world.wire.node))
    return sum(map(int, found))


def test_the_measured_connection_is_opened_by_a_rule_of_the_pods(alone: netns.Namespace) -> None:
    def opened() -> int:
        table = worlds.compiled(TINY.scale, inputs.files(TINY.scale))
        with worlds.standing(worlds.measured_pod(TINY.scale), [table.text]) as world:
            before = packets(world, "re")
            world.tcp.slice_us(10, traffic.FIRST)
            traffic.connections_us(world.wire, 2, traffic.FIRST)
            return packets(world, "re") - before

    assert netns.in_namespace(alone, opened) == 2


def test_what_no_rule_opens_is_dropped_on_the_same_wire(alone: netns.Namespace) -> None:
    def dropped() -> None:
        table = worlds.compiled(TINY.scale, inputs.files(TINY.scale))
        with (
            worlds.standing(worlds.measured_pod(TINY.scale), [table.text]) as world,
            world.wire.socket(socket.SOCK_STREAM) as client,
        ):
            client.setblocking(False)
            assert client.connect_ex((str(world.wire.server_address), 81)) == errno.EINPROGRESS
            until(lambda: packets(world, "eg"), "the drop is counted")

    netns.in_namespace(alone, dropped)


# --- the command --------------------------------------------------------------------------------------------


def start(mark: str, *arguments: str) -> subprocess.Popen[str]:
    command = "import sys; from invoke.main import program; sys.exit(program.run())"
    return subprocess.Popen(
        [sys.executable, "-c", command, "bench.policy", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, MARK: mark.removeprefix(f"{MARK}=")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_json_is_all_that_stdout_has_and_progress_goes_to_stderr() -> None:
    process = start(uuid.uuid4().hex, "--quick", "--json", "--only=memory", "--seed=3")
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    assert found["plan"]["scale"]["seed"] == 3
    assert {one["part"] for one in found["measures"]} == {"memory"}
    assert "bench: " in errors


def test_a_part_that_does_not_exist_is_a_mistake_of_the_user() -> None:
    process = start(uuid.uuid4().hex, "--only=lod")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "did you mean 'load'" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_goes_on_when_the_benchmark_is_stopped(number: signal.Signals) -> None:
    mark = f"{MARK}={uuid.uuid4().hex}"
    process = start(mark, "--quick", "--only=mappings")

    def shim() -> traces.Process | None:
        running = (one for one in traces.processes_with(mark) if "-m acns.shim" in one.command)
        return next((one for one in running if "--settings" in one.command), None)

    # Held, the shim keeps the benchmark waiting: it cannot come to its end by itself.
    os.kill(until(shim, "the benchmark has started its shim", PATIENCE_S).pid, signal.SIGSTOP)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    until(lambda: not traces.processes_with(mark), "everything has ended", PATIENCE_S)
