"""The publisher gives every stream the newest snapshot, and none that says nothing new."""

from __future__ import annotations

import asyncio

from acns.api import fqdndata_pb2 as pb
from acns.shim.publisher import Publisher


def state(request_id: str, *patterns: str) -> pb.PolicyState:
    rule = pb.DNSPolicy(source_endpoint_id=1, dns_pattern=patterns)
    return pb.PolicyState(request_id=request_id, egress_l7_dns_policy=[rule])


async def test_a_waiting_stream_is_woken_by_the_first_snapshot() -> None:
    publisher = Publisher()
    waiting = asyncio.create_task(publisher.newer_than(0))
    await asyncio.sleep(0)
    await publisher.publish(state("one", "a."))
    assert (await asyncio.wait_for(waiting, 1))[1].request_id == "one"


async def test_a_slow_stream_gets_only_the_newest() -> None:
    publisher = Publisher()
    for request_id in ("one", "two", "three"):
        await publisher.publish(state(request_id, f"{request_id}."))
    version, newest = await publisher.newer_than(1)
    assert (version, newest.request_id) == (3, "three")


async def test_a_snapshot_that_says_the_same_is_not_published_again() -> None:
    publisher = Publisher()
    await publisher.publish(state("one", "a."))
    await publisher.publish(state("two", "a."))
    assert publisher.version == 1


async def test_the_empty_first_snapshot_is_published() -> None:
    publisher = Publisher()
    await publisher.publish(pb.PolicyState(request_id="one"))
    assert (await publisher.newer_than(0))[0] == 1
