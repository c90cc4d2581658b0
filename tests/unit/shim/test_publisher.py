"""The publisher gives every stream the newest snapshot, and none that says nothing new."""

from __future__ import annotations

import asyncio

from acns.api import fqdndata_pb2 as pb
from acns.shim.publisher import Publisher


def state(*patterns: str) -> pb.PolicyState:
    return pb.PolicyState(egress_l7_dns_policy=[pb.DNSPolicy(source_endpoint_id=1, dns_pattern=patterns)])


async def newer(publisher: Publisher, version: int) -> tuple[int, pb.PolicyState]:
    found = await asyncio.wait_for(publisher.newer_than(version), 10)
    assert found is not None
    return found


def patterns(published: pb.PolicyState) -> list[str]:
    return [pattern for rule in published.egress_l7_dns_policy for pattern in rule.dns_pattern]


async def test_a_waiting_stream_is_woken_by_the_first_snapshot() -> None:
    publisher = Publisher()
    waiting = asyncio.create_task(newer(publisher, 0))
    await asyncio.sleep(0)
    await publisher.publish(state("a."))
    assert patterns((await asyncio.wait_for(waiting, 1))[1]) == ["a."]


async def test_a_slow_stream_gets_only_the_newest() -> None:
    publisher = Publisher()
    for pattern in ("one.", "two.", "three."):
        await publisher.publish(state(pattern))
    version, newest = await newer(publisher, 1)
    assert (version, patterns(newest)) == (3, ["three."])


async def test_every_snapshot_has_a_request_id_of_its_own() -> None:
    publisher = Publisher()
    ids = set()
    for pattern in ("one.", "two."):
        await publisher.publish(state(pattern))
        ids.add((await newer(publisher, 0))[1].request_id)
    assert len(ids - {""}) == 2


async def test_a_snapshot_that_says_the_same_is_not_published_again() -> None:
    publisher = Publisher()
    await publisher.publish(state("a."))
    _, first = await newer(publisher, 0)
    await publisher.publish(state("a."))
    assert await newer(publisher, 0) == (1, first)


async def test_the_empty_first_snapshot_is_published() -> None:
    publisher = Publisher()
    await publisher.publish(pb.PolicyState())
    assert (await newer(publisher, 0))[0] == 1


async def test_nobody_waits_for_a_snapshot_when_there_will_be_none() -> None:
    publisher = Publisher()
    waiting = asyncio.create_task(publisher.newer_than(0))
    await asyncio.sleep(0)
    await publisher.close()
    assert await asyncio.wait_for(waiting, 10) is None
