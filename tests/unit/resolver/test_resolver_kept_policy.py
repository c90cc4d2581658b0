"""The policy in force is kept for a successor, which goes on with it until the shim says another."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from acns import clock, pieces, statefile
from acns.api import fqdndata_pb2 as pb
from acns.resolver import agent, told
from acns.resolver.agent import AgentLink
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.policy_file import PolicyFile
from acns.telemetry.journal import Journal
from tests.unit.resolver.policy_streams import (
    WAIT_S,
    SlowDisk,
    following,
    many,
    pods,
    snapshot,
)


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
