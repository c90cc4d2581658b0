"""Problems between objects are looked for behind the commits: for the newest cluster, and once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from acns.errors import Problem
from acns.policy.cluster import Cluster
from acns.policy.objects import Namespace
from acns.shim.findings import Findings
from acns.telemetry.journal import Event, Journal


def cluster(*names: str) -> Cluster:
    return Cluster.of(Namespace(name) for name in names)


def problem(text: str, *, warning: bool = False) -> Problem:
    return Problem("p.yaml", 1, 1, text, warning=warning)


class Judge:
    """Finds one problem in each cluster, named after its namespaces; waits for `let_go`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.let_go = threading.Event()
        self.let_go.set()

    def __call__(self, judged: Cluster) -> list[Problem]:
        self.seen.append(" ".join(one.name for one in judged.namespaces))
        assert self.let_go.wait(10)
        return [problem(self.seen[-1])]


def texts(findings: Findings) -> list[str]:
    return [one.message for one in findings.problems]


@asynccontextmanager
async def looking(findings: Findings) -> AsyncIterator[None]:
    """Its look-outs run for as long as the block lasts."""
    task = asyncio.create_task(findings.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def findings(judge: Judge) -> Findings:
    return Findings(Journal("", "shim"), judge)


async def test_the_files_problems_are_known_at_once_and_those_between_objects_later(
    findings: Findings,
) -> None:
    findings.take((problem("of a file"),))
    assert texts(findings) == ["of a file"]
    findings.look_at(cluster("a"))
    assert findings.pending
    async with looking(findings):
        await until(lambda: not findings.pending)
    assert texts(findings) == ["of a file", "a"]


async def test_the_same_cluster_is_looked_at_once(findings: Findings, judge: Judge) -> None:
    async with looking(findings):
        for _ in range(3):
            findings.look_at(cluster("a"))
            await until(lambda: not findings.pending)
    assert judge.seen == ["a"]


async def test_of_several_clusters_that_come_meanwhile_the_newest_is_looked_at(
    findings: Findings, judge: Judge
) -> None:
    judge.let_go.clear()
    async with looking(findings):
        findings.look_at(cluster("a"))
        await until(lambda: bool(judge.seen))
        findings.look_at(cluster("b"))
        findings.look_at(cluster("c"))
        judge.let_go.set()
        await until(lambda: not findings.pending)
    assert judge.seen == ["a", "c"]
    assert texts(findings) == ["c"]


async def test_a_problem_that_stays_is_reported_once(tmp_path: Path, judge: Judge) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path), "shim")
    journal.start()
    findings = Findings(journal, judge)
    stays, comes, doubt = problem("stays"), problem("comes"), problem("doubt", warning=True)
    for problems in ((stays,), (stays, doubt), (stays, comes)):
        findings.take(problems)
    journal.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["event"] for line in lines} == {Event.POLICY_REFUSED}
    assert [line["problems"] for line in lines] == [[str(stays)], [str(comes)]]
