"""The policy stream breaks at any moment, also in the midst of a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.resolver import agent
from acns.resolver.agent import AgentLink
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.policy_file import PolicyFile
from acns.telemetry.journal import Journal
from acns.telemetry.log import JSONLines, Seldom
from tests.unit.resolver.policy_streams import (
    WAIT_S,
    SlowDisk,
    following,
    many,
    pods,
    serving,
    snapshot,
)


async def test_pods_are_served_while_a_large_snapshot_is_read() -> None:
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"))
    await link._take(snapshot(1))
    taking, turns = asyncio.create_task(link._take(many(1000))), 0
    while not taking.done():
        assert turns == 0 or pods(link) == {1}
        turns += 1
        await asyncio.sleep(0)
    assert turns > 20
    assert link.table == codec.policy_table(many(1000))


async def test_a_shim_is_met_at_its_path_also_where_grpc_would_read_another(tmp_path: Path) -> None:
    folder = tmp_path / "d%41 ?#"
    folder.mkdir()
    async with following(folder, PolicyFile(tmp_path / "policy.json")) as link:
        await asyncio.wait_for(link.connected.wait(), WAIT_S)


async def test_a_shim_that_goes_while_its_snapshot_is_kept_is_met_again(tmp_path: Path) -> None:
    address, disk = f"unix:{tmp_path / 'shim'}", SlowDisk()
    link = AgentLink(address, ResolverMetrics(), Journal("", "resolver"), disk)  # type: ignore[arg-type]
    server = await serving(address)
    following = asyncio.create_task(link.run())
    try:
        await asyncio.wait_for(link.connected.wait(), WAIT_S)
        assert await asyncio.to_thread(disk.asked.wait, WAIT_S)
        await server.stop(None)
        async with asyncio.timeout(WAIT_S):
            while link.connected.is_set():
                await asyncio.sleep(0.01)
        server = await serving(address)
        await asyncio.wait_for(link.connected.wait(), WAIT_S)
        assert not following.done()
        assert not disk.told.is_set()
    finally:
        disk.told.set()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await server.stop(None)


@asynccontextmanager
async def sending(
    address: str, *messages: bytes, ends: bool = False
) -> AsyncIterator[list[pb.PolicyStateResponse]]:
    """An agent whose messages need not be any: what it is answered."""
    answered: list[pb.PolicyStateResponse] = []

    async def stream(responses: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        for message in messages:
            yield message
            answered.append(pb.PolicyStateResponse.FromString(await anext(responses)))
        if not ends:
            await asyncio.Event().wait()

    handlers = {"StreamPolicyState": grpc.stream_stream_rpc_method_handler(stream)}
    server = grpc.aio.server()
    service = grpc.method_handlers_generic_handler("standalonednsproxy.FQDNData", handlers)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(address)
    await server.start()
    try:
        yield answered
    finally:
        await server.stop(None)


def switch(link: Path, to: Path) -> None:
    """As a shim that takes another's place."""
    made = link.with_name(".link")
    made.symlink_to(to.name)
    made.rename(link)


async def test_a_shim_that_takes_the_place_of_one_that_hangs_is_met_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before ends nothing, and says nothing."""
    monkeypatch.setattr(agent, "LOOK_S", 0.01)
    at, first, second = (tmp_path / name for name in ("shim", "shim.1", "shim.2"))
    link = AgentLink(f"unix:{at}", ResolverMetrics(), Journal("", "resolver"))
    async with (
        sending(f"unix:{first}", snapshot(1).SerializeToString()),
        sending(f"unix:{second}", snapshot(2).SerializeToString()),
    ):
        switch(at, first)
        running = asyncio.create_task(link.run())
        async with asyncio.timeout(WAIT_S):
            await link.connected.wait()
            at.unlink()
            for _ in range(10):
                await asyncio.sleep(agent.LOOK_S)
            assert link.connected.is_set(), "a link that is gone leads to nobody else"
            switch(at, second)
            while pods(link) != {2} or not link.connected.is_set():
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_snapshot_that_cannot_be_decoded_is_refused_and_the_policy_stays(tmp_path: Path) -> None:
    address, good = f"unix:{tmp_path / 'shim'}", snapshot(1).SerializeToString()
    link = AgentLink(address, ResolverMetrics(), Journal("", "resolver"))
    async with sending(address, good, b"\x0a\xff\xff") as answered:
        following = asyncio.create_task(link.run())
        async with asyncio.timeout(WAIT_S):
            while len(answered) < 2 and not following.done():
                await asyncio.sleep(0.01)
        assert not following.done()
        following.cancel()
    codes = [one.response for one in answered]
    assert codes == [pb.RESPONSE_CODE_NO_ERROR, pb.RESPONSE_CODE_FORMAT_ERROR]
    assert pods(link) == {1}
    assert link.refused
    assert link._metrics.snapshots.count("refused") == 1


@pytest.mark.parametrize(
    ("lasted_s", "waits_s"), [(WAIT_S, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]), (0.0, [0.05] * 8)]
)
async def test_only_after_a_connection_that_lasted_the_waits_are_short_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasted_s: float, waits_s: list[float]
) -> None:
    """Its peer brings a snapshot each time, and ends the stream."""
    monkeypatch.setattr(agent, "LASTED_S", lasted_s)
    address, waited, enough = f"unix:{tmp_path / 'shim'}", list[float](), asyncio.Event()
    link = AgentLink(address, ResolverMetrics(), Journal("", "resolver"))

    async def noted(wait_s: float) -> None:
        waited.append(wait_s)
        if len(waited) == len(waits_s):
            enough.set()
            await asyncio.Event().wait()

    async with sending(address, snapshot(1).SerializeToString(), ends=True):
        running = asyncio.create_task(link.run(noted))
        await asyncio.wait_for(enough.wait(), WAIT_S)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert waited == waits_s
    assert link._metrics.snapshots.count("applied") == len(waits_s)


def refused(reason: str) -> pb.PolicyState:
    return pb.PolicyState(egress_l7_dns_policy=[pb.DNSPolicy(dns_pattern=[f"{reason}.."])])


async def test_snapshots_that_are_refused_at_any_rate_are_logged_where_that_is_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"))
    link._log_refused = Seldom(1.0, lambda: now)
    link._log_again = Seldom(agent.SAME_AGAIN_S, lambda: now)

    async def logged(*states: pb.PolicyState) -> int:
        caplog.clear()
        for state in states:
            await link._take(state)
        return caplog.messages.count("policy snapshot refused")

    assert await logged(*[refused("a")] * 50) == 1
    assert await logged(*[refused("b"), refused("a")] * 50) == 0
    now = 1.0
    assert await logged(*[refused("a")] * 50) == 0
    assert await logged(*[refused("b")] * 50) == 1
    now = 2.0
    assert await logged(snapshot(1), *[refused("b")] * 50) == 1
    now += agent.SAME_AGAIN_S
    assert await logged(*[refused("b")] * 50) == 1
    assert link._metrics.snapshots.count("refused") == 350


async def test_a_snapshot_that_contradicts_itself_is_taken_and_that_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"))
    state = snapshot(1)
    for identity in (300, 301):
        state.identity_to_prefix_mapping.add(identity=identity, prefix=[b"\x0a\0\0\0\x08"])
    for _ in range(3):
        assert await link._take(state) == pb.RESPONSE_CODE_NO_ERROR
    assert caplog.messages == ["policy snapshot contradicts itself, what it says last counts"]


async def test_a_snapshots_id_is_logged_in_part_and_acknowledged_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"))
    bad = refused("a")
    bad.request_id = "x" * 100_000
    answer = await link._answer(bad)
    assert answer.request_id == bad.request_id
    [line] = caplog.records
    assert len(JSONLines("resolver").format(line)) < 1_000
