"""The cluster is judged before its first policy, and a server that does not say holds nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from acns.errors import EnvironmentFault
from acns.shim import judging
from acns.shim.judging import Judging
from acns.shim.preflight import ClusterFacts
from acns.shim.sources import Observed


class FakeSource:
    """Of which only the facts are asked for: silent so often, then these."""

    def __init__(self, silent: int) -> None:
        self.silent = silent
        self.asked = 0

    async def cluster_facts(self, node: str) -> ClusterFacts | None:
        self.asked += 1
        return ClusterFacts("v1.33.1") if self.asked > self.silent else None

    def watch(self) -> AsyncIterator[Observed]:
        raise NotImplementedError

    @property
    def obstacles(self) -> tuple[str, ...]:
        return ()

    def described(self) -> Mapping[str, object]:
        return {}


async def test_the_first_objects_wait_until_the_cluster_is_judged() -> None:
    judged: list[ClusterFacts] = []
    made = Judging(FakeSource(silent=0), "worker", judged.append)
    asking = asyncio.create_task(made.run())
    await made.first()
    assert judged == [ClusterFacts("v1.33.1")]
    await asking


async def test_a_server_that_does_not_say_is_not_waited_for_and_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "FIRST_S", 0.0)
    monkeypatch.setattr(judging, "AGAIN_S", 0.0)
    judged: list[ClusterFacts] = []
    source = FakeSource(silent=5)
    made = Judging(source, "worker", judged.append)
    asking = asyncio.create_task(made.run())
    await made.first()
    assert not judged
    await asking
    assert (source.asked, len(judged)) == (6, 1)


async def test_a_cluster_that_is_refused_ends_it_and_the_objects_wait_on() -> None:
    def refuse(facts: ClusterFacts) -> None:
        raise EnvironmentFault("too old")

    made = Judging(FakeSource(silent=0), "worker", refuse)
    first = asyncio.create_task(made.first())
    with pytest.raises(EnvironmentFault):
        await made.run()
    assert not first.done(), "whoever runs both ends the other"
    first.cancel()
