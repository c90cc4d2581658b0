"""The policy stream breaks at any moment, also in the midst of a snapshot."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from acns import clock, pieces, statefile
from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.api.address import for_grpc
from acns.resolver import agent, told
from acns.resolver.agent import AgentLink
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.policy_file import PolicyFile
from acns.telemetry.journal import Journal
from acns.telemetry.log import JSONLines, Seldom

WAIT_S = 30.0


class Shim(rpc.FQDNDataServicer):
    """One snapshot a stream."""

    async def StreamPolicyState(self, responses: Any, context: Any) -> AsyncIterator[pb.PolicyState]:
        yield pb.PolicyState(request_id="1")
        async for _ in responses:
            pass


def many(count: int) -> pb.PolicyState:
    """A snapshot with so many patterns, no two the same."""
    return pb.PolicyState(
        egress_l7_dns_policy=[
            pb.DNSPolicy(
                source_endpoint_id=1, dns_pattern=[f"*.s{number}.example.com" for number in range(count)]
            )
        ]
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


class SlowDisk:
    """Keeps a snapshot when it is told to."""

    def __init__(self) -> None:
        self.asked, self.told = threading.Event(), threading.Event()
        self.last: pb.PolicyState | None = None

    def save(self, state: pb.PolicyState) -> bool:
        self.last = state
        self.asked.set()
        return self.told.wait(WAIT_S)

    def load(self) -> None:
        return None


async def serving(address: str) -> grpc.aio.Server:
    server = grpc.aio.server()
    rpc.add_FQDNDataServicer_to_server(Shim(), server)
    server.add_insecure_port(address)
    await server.start()
    return server


@asynccontextmanager
async def following(folder: Path, kept: PolicyFile | SlowDisk) -> AsyncIterator[AgentLink]:
    """A link beside its shim, for as long as the block runs."""
    address = f"unix:{folder / 'shim'}"
    link = AgentLink(address, ResolverMetrics(), Journal("", "resolver"), kept)  # type: ignore[arg-type]
    server = await serving(for_grpc(address))
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await server.stop(None)


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


def snapshot(pod: int) -> pb.PolicyState:
    rule = pb.DNSPolicy(source_endpoint_id=pod)
    return pb.PolicyState(request_id=str(pod), egress_l7_dns_policy=[rule])


def pods(link: AgentLink) -> set[int]:
    assert link.table is not None
    return {rule.endpoint_id for rule in link.table.rules}


async def test_a_successor_goes_on_with_the_policy_that_its_predecessor_has_kept_last(tmp_path: Path) -> None:
    """It has served by none yet, but it has read what was on disk when it started."""
    at, nobody = tmp_path / "policy.json", f"unix:{tmp_path / 'nobody'}"
    predecessors = PolicyFile(at)
    predecessors.save(snapshot(1))
    link = AgentLink(nobody, ResolverMetrics(), Journal("", "resolver"), PolicyFile(at))
    link._tried.set()
    await link.restore()
    assert pods(link) == {1}
    predecessors.save(snapshot(2))
    await link.catch_up(None)
    assert pods(link) == {2}
    await link.catch_up(None)
    assert pods(link) == {2}


async def test_a_successor_goes_on_with_the_policy_in_force_whatever_the_disk_took(tmp_path: Path) -> None:
    at = tmp_path / "policy.json"
    PolicyFile(at).save(snapshot(1))
    predecessor = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"))
    await predecessor._take(snapshot(2))
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"), PolicyFile(at))
    link._tried.set()
    await link.restore()
    await link.catch_up(await predecessor.kept())
    assert pods(link) == {2}
    await is_kept(link)
    assert on_disk(at) == "2"


async def is_kept(link: AgentLink) -> None:
    assert link._keeping is not None
    await asyncio.wait_for(link._keeping, WAIT_S)


def on_disk(at: Path) -> str:
    """The id of the snapshot there."""
    kept = PolicyFile(at).load()
    return "" if kept is None else kept.request_id


async def one_that_was_told_a_later_policy_has_died(at: Path) -> AgentLink:
    """It has kept snapshot 2. Who was told snapshot 1 before that serves on, without the shim."""
    serving, dead = (
        AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"), PolicyFile(at))
        for _ in range(2)
    )
    for pod, link in enumerate((serving, dead), start=1):
        await link._take(snapshot(pod))
        await is_kept(link)
    assert on_disk(at) == "2"
    return serving


async def test_a_successor_keeps_to_what_was_told_later_than_its_predecessors_policy(tmp_path: Path) -> None:
    at = tmp_path / "policy.json"
    predecessor = await one_that_was_told_a_later_policy_has_died(at)
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"), PolicyFile(at))
    link._tried.set()
    await link.restore()
    await link.catch_up(await predecessor.kept())
    assert pods(link) == {2}
    assert on_disk(at) == "2"


async def test_one_that_serves_on_leaves_what_was_told_later_on_disk(tmp_path: Path) -> None:
    at = tmp_path / "policy.json"
    link = await one_that_was_told_a_later_policy_has_died(at)
    link.keep()
    await is_kept(link)
    assert on_disk(at) == "2"
    await link._take(snapshot(3))
    await is_kept(link)
    assert on_disk(at) == "3"


@pytest.mark.parametrize("boot_id", ["another", ""])
def test_what_was_told_before_this_run_of_the_machine_is_older_than_all_that_is_told_in_it(
    monkeypatch: pytest.MonkeyPatch, boot_id: str
) -> None:
    before = snapshot(1)
    with monkeypatch.context() as earlier:
        earlier.setattr(clock, "boot_id", lambda: boot_id)
        earlier.setattr(time, "monotonic", lambda: 1e9)
        told.now(before)
    assert told.at(before) == told.at(snapshot(1)) == told.OLDEST
    now = pb.PolicyState.FromString(before.SerializeToString())
    told.now(now)
    assert told.is_later(now, before)
    assert not told.is_later(before, now)


async def test_a_successor_that_has_the_shims_own_word_keeps_to_it(tmp_path: Path) -> None:
    at = tmp_path / "policy.json"
    async with following(tmp_path, PolicyFile(at)) as link:
        await asyncio.wait_for(link.connected.wait(), WAIT_S)
        PolicyFile(at).save(snapshot(2))
        await link.catch_up(None)
        assert pods(link) == set()


async def test_a_snapshot_that_the_disk_did_not_take_is_kept_when_it_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "KEEP_AGAIN_S", 0.01)
    folder = tmp_path / "not there yet"
    at = folder / "policy.json"
    async with following(tmp_path, PolicyFile(at)) as link:
        await asyncio.wait_for(link.connected.wait(), WAIT_S)
        assert not at.exists()
        folder.mkdir()
        assert link._keeping is not None
        await asyncio.wait_for(link._keeping, WAIT_S)
        assert PolicyFile(at).load() is not None


async def test_what_is_in_force_is_kept_before_it_counts_as_kept(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with following(tmp_path, disk) as link:
        try:
            assert await asyncio.to_thread(disk.asked.wait, WAIT_S)
            kept = asyncio.create_task(link.kept())
            await asyncio.sleep(0)
            assert link.table is not None
            assert not kept.done()
            disk.told.set()
            await asyncio.wait_for(kept, WAIT_S)
        finally:
            disk.told.set()


async def test_a_disk_that_stands_still_holds_up_neither_serving_nor_a_handover(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with following(tmp_path, disk) as link:
        try:
            await asyncio.wait_for(link.connected.wait(), WAIT_S)
            for each in (link.catch_up(None), link.kept()):
                await asyncio.wait_for(each, WAIT_S / 2)
            assert not disk.told.is_set()
        finally:
            disk.told.set()


async def test_of_snapshots_that_come_while_one_is_being_kept_the_last_is_kept(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with following(tmp_path, disk) as link:
        try:
            assert await asyncio.to_thread(disk.asked.wait, WAIT_S)
            for pod in (2, 3):
                assert await link._take(snapshot(pod)) == pb.RESPONSE_CODE_NO_ERROR
            disk.told.set()
            assert link._keeping is not None
            await asyncio.wait_for(link._keeping, WAIT_S)
            assert disk.last is not None
            assert disk.last.request_id == "3"
        finally:
            disk.told.set()


def _catch_up(link: AgentLink) -> Awaitable[None]:
    return link.catch_up(None)


def _catch_up_with_what_is_handed_over(link: AgentLink) -> Awaitable[None]:
    return link.catch_up(many(1000).SerializeToString())


@pytest.mark.parametrize("read", [AgentLink.restore, _catch_up, _catch_up_with_what_is_handed_over])
async def test_what_the_shim_says_while_the_policy_on_disk_is_read_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[AgentLink], Awaitable[None]]
) -> None:
    kept, begun, done = PolicyFile(tmp_path / "policy.json"), asyncio.Event(), pieces.done

    async def seen(work: Any) -> Any:
        begun.set()
        return await done(work)

    kept.save(many(1000))
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"), kept)
    link._tried.set()
    monkeypatch.setattr(pieces, "done", seen)
    reading = asyncio.ensure_future(read(link))
    await begun.wait()
    await link._take(snapshot(2))
    assert not reading.done()
    await reading
    assert pods(link) == {2}


def no_room(path: Path, content: bytes, *, durable: bool = True) -> None:
    raise statefile.unusable(path, "written", OSError("no room"))


async def test_where_the_newest_policy_cannot_be_kept_nobody_serves_by_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = tmp_path / "policy.json"
    kept = PolicyFile(at)
    kept.save(snapshot(1))
    monkeypatch.setattr(statefile, "replace", no_room)
    assert not kept.save(snapshot(2))
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"), PolicyFile(at))
    link._tried.set()
    await link.restore()
    assert link.table is None
    monkeypatch.undo()
    assert kept.save(snapshot(2))
    await link.restore()
    assert pods(link) == {2}


def test_a_policy_on_disk_that_says_the_same_stays_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = tmp_path / "policy.json"
    PolicyFile(at).save(snapshot(1))
    monkeypatch.setattr(statefile, "replace", no_room)
    again = snapshot(1)
    again.request_id = "another"
    assert PolicyFile(at).save(again)
    assert PolicyFile(at).load() == snapshot(1)


def test_an_older_policy_that_cannot_be_removed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = tmp_path / "policy.json"
    kept = PolicyFile(at)
    kept.save(snapshot(1))
    monkeypatch.setattr(statefile, "replace", no_room)
    monkeypatch.setattr(Path, "unlink", _refused)
    assert not kept.save(snapshot(2))
    assert "an older policy stays on disk" in caplog.messages


def _refused(path: Path, missing_ok: bool = False) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("gone", [Path.unlink, lambda at: at.write_text("{}") and PolicyFile(at).load()])
async def test_a_policy_that_is_not_on_disk_any_more_is_kept_again(
    tmp_path: Path, gone: Callable[[Path], object]
) -> None:
    at = tmp_path / "policy.json"
    kept = PolicyFile(at)
    assert kept.save(snapshot(1))
    gone(at)
    assert not at.exists()
    assert kept.save(snapshot(1))
    assert PolicyFile(at).load() == snapshot(1)


async def test_one_that_serves_on_keeps_its_policy_again_without_the_shim(tmp_path: Path) -> None:
    """A successor that could not read it has set it aside, and ended."""
    at = tmp_path / "policy.json"
    PolicyFile(at).save(snapshot(1))
    link = AgentLink("unix:/nowhere", ResolverMetrics(), Journal("", "resolver"), PolicyFile(at))
    link._tried.set()
    await link.restore()
    at.unlink()
    link.keep()
    assert link._keeping is not None
    await asyncio.wait_for(link._keeping, WAIT_S)
    assert PolicyFile(at).load() == snapshot(1)
