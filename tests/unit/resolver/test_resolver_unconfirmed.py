"""Mappings that wait for the shim: on disk, through crashes and full disks, and in memory within bounds."""

from __future__ import annotations

import asyncio
import errno
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from acns import clock, statefile, statelog
from acns.resolver import mapping_log
from acns.resolver.backlog import LEAST, Backlog
from acns.resolver.mapping_log import MappingLog
from acns.resolver.unconfirmed import Unconfirmed
from acns.telemetry import log as logs
from tests.unit.resolver.mappings import MAPPING, many, numbered

WAIT_S: Final = 30.0


# --- on disk ------------------------------------------------------------------------------------------------


def unconfirmed(folder: Path) -> Unconfirmed:
    made = Unconfirmed(100, MappingLog(folder))
    made.open()
    return made


def names(made: Unconfirmed) -> list[bytes]:
    return [one.mapping.name[0] for one in made.waiting]


def test_what_a_dead_process_left_is_taken_up_by_the_next_in_order(tmp_path: Path) -> None:
    first = unconfirmed(tmp_path)
    for number in range(3):
        first.add(numbered(number), time.monotonic())
    first.close()
    assert names(unconfirmed(tmp_path)) == [b"n0", b"n1", b"n2"]


async def test_what_a_living_process_has_is_its_own(tmp_path: Path) -> None:
    first = unconfirmed(tmp_path)
    first.add(numbered(1), time.monotonic())
    second = unconfirmed(tmp_path)
    assert names(second) == []
    first.close()
    await second.adopt()
    assert names(second) == [b"n1"]


async def test_pods_are_answered_while_much_is_taken_up_and_what_they_teach_is_on_disk_too(
    tmp_path: Path,
) -> None:
    first, second = (Unconfirmed(10_000, MappingLog(tmp_path)) for _ in range(2))
    for one in (first, second):
        one.open()
    for number in range(2_000):
        first.add(numbered(number), time.monotonic())
    first.close()
    adopting, turns = asyncio.ensure_future(second.adopt()), 0
    while not adopting.done():
        second.add(numbered(10_000 + turns), time.monotonic())
        turns += 1
        await asyncio.sleep(0)
    assert turns > 20
    second._disk._log.close()  # type: ignore[union-attr]  # as one that is killed
    (log,) = tmp_path.glob("mappings-*.log")
    on_disk = statelog.read(log, mapping_log.FORMAT, mapping_log.VERSION)
    assert len(on_disk) == len(second) == 2_000 + turns


async def test_one_that_ends_while_it_takes_up_leaves_all_to_the_next(tmp_path: Path) -> None:
    first, second = unconfirmed(tmp_path), unconfirmed(tmp_path)
    for number in range(50):
        first.add(numbered(number), time.monotonic())
    first.close()
    assert second._disk is not None
    adopting = second._adopting(second._disk)
    while len(second) < 10:
        next(adopting)
    second.add(numbered(50), time.monotonic())
    adopting.close()
    second.close()
    assert sorted(names(unconfirmed(tmp_path))) == sorted(b"n%d" % number for number in range(51))


def test_the_ttl_goes_on_while_no_process_is_there(tmp_path: Path) -> None:
    first, learned_at = unconfirmed(tmp_path), time.monotonic() - 1800
    first.add(numbered(1, ttl_s=3600), learned_at)
    first.close()
    (waiting,) = unconfirmed(tmp_path).waiting
    assert waiting.expires_at == pytest.approx(learned_at + 3600, abs=0.1)


@pytest.mark.parametrize("step_s", [7200.0, -7200.0])
def test_a_step_of_the_wall_clock_while_no_process_is_there_moves_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    first, wall, learned_at = unconfirmed(tmp_path), time.time, time.monotonic() - 1800
    first.add(numbered(1, ttl_s=3600), learned_at)
    first.close()
    monkeypatch.setattr(time, "time", lambda: wall() + step_s)
    (waiting,) = unconfirmed(tmp_path).waiting
    assert waiting.expires_at == pytest.approx(learned_at + 3600, abs=0.1)


@pytest.mark.parametrize("before", ["another boot", ""])
def test_when_the_machine_was_started_anew_ends_go_by_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    log = statelog.StateLog(tmp_path / "mappings-00000000.log", mapping_log.FORMAT, mapping_log.VERSION)
    log.rewrite([WHOLE | {"answered_at": time.time() - 50, "boot_id": before, "monotonic_s": 1e9}])
    log.close()
    monkeypatch.setattr(clock, "boot_id", lambda: before and "this boot")
    (waiting,) = unconfirmed(tmp_path).waiting
    assert waiting.expires_at - time.monotonic() == pytest.approx(10, abs=5)


def test_what_was_told_leaves_nothing_behind(tmp_path: Path) -> None:
    first = unconfirmed(tmp_path)
    first.add(numbered(1), time.monotonic())
    found = first.waiting.first(time.monotonic())
    assert found is not None
    first.done(found[0])
    first.all_told()
    (log,) = tmp_path.glob("mappings-*.log")
    assert statelog.read(log, mapping_log.FORMAT, mapping_log.VERSION) == ()
    first.close()
    assert list(tmp_path.iterdir()) == []
    assert names(unconfirmed(tmp_path)) == []


@pytest.mark.parametrize("cut_bytes", range(1, 60, 7))
def test_a_torn_end_costs_only_what_was_torn(tmp_path: Path, cut_bytes: int) -> None:
    first = unconfirmed(tmp_path)
    first.add(numbered(1), time.monotonic())
    first.add(numbered(2), time.monotonic())
    first.close()
    (log,) = tmp_path.glob("mappings-*.log")
    log.write_bytes(log.read_bytes()[:-cut_bytes])
    assert names(unconfirmed(tmp_path)) == [b"n1"]


def test_a_torn_end_that_cannot_be_set_aside_costs_only_what_was_torn(tmp_path: Path) -> None:
    first = unconfirmed(tmp_path)
    first.add(numbered(1), time.monotonic())
    first.add(numbered(2), time.monotonic())
    first.close()
    (log,) = tmp_path.glob("mappings-*.log")
    log.write_bytes(log.read_bytes()[:-5])
    log.with_name(f"{log.name}.damaged").mkdir()  # as good as a full disk
    second = unconfirmed(tmp_path)
    assert names(second) == [b"n1"]
    assert not log.exists()
    second.close()
    assert names(unconfirmed(tmp_path)) == [b"n1"]


def test_a_damaged_end_that_cannot_be_set_aside_stays_until_it_can(tmp_path: Path) -> None:
    first = unconfirmed(tmp_path)
    first.add(numbered(1), time.monotonic())
    first.add(numbered(2), time.monotonic())
    first.close()
    (log,) = tmp_path.glob("mappings-*.log")
    log.write_bytes(log.read_bytes()[:-2] + b"?\n")
    aside = log.with_name(f"{log.name}.damaged")
    aside.mkdir()  # as good as a full disk
    second = unconfirmed(tmp_path)
    assert names(second) == [b"n1"]
    assert log.exists()
    second.close()
    aside.rmdir()
    assert names(unconfirmed(tmp_path)) == [b"n1"]
    assert aside.exists()
    assert not log.exists()


def test_after_a_failed_write_all_that_waits_is_written_again(tmp_path: Path) -> None:
    first = unconfirmed(tmp_path)
    first.add(numbered(1), time.monotonic())
    (log,) = tmp_path.glob("mappings-*.log")
    log.unlink()  # as good as a disk that failed: nothing can be appended
    first.add(numbered(2), time.monotonic())
    first.close()
    assert names(unconfirmed(tmp_path)) == [b"n1", b"n2"]


def test_an_orphan_that_cannot_be_read_stays_for_the_next(tmp_path: Path) -> None:
    orphan = tmp_path / "mappings-00000000.log"
    orphan.mkdir()
    assert names(unconfirmed(tmp_path)) == []
    assert orphan.exists()


def test_of_damaged_ends_only_the_last_stays(tmp_path: Path) -> None:
    for number in range(3):
        first = unconfirmed(tmp_path)
        first.add(numbered(number), time.monotonic())
        first.close()
        (log,) = tmp_path.glob("mappings-*.log")
        log.write_bytes(log.read_bytes()[:-5])
    assert names(unconfirmed(tmp_path)) == []
    (aside,) = tmp_path.glob("*.damaged")
    assert aside.name == f"{log.name}.damaged"


WHOLE: Final[dict[str, object]] = {
    "name": ["61"],
    "addresses": ["c0000201"],
    "ttl_s": 60,
    "source_identity": 1,
    "source": "0a000001",
    "answered_at": 1e12,
}


@pytest.mark.parametrize(
    "odd",
    [
        {},
        [],
        None,
        WHOLE | {"name": ["zz"]},
        WHOLE | {"ttl_s": "60"},
        WHOLE | {"ttl_s": -1},
        WHOLE | {"addresses": ["c0"]},
        WHOLE | {"answered_at": "now"},
        WHOLE | {"boot_id": clock.boot_id()},
        WHOLE | {"boot_id": clock.boot_id(), "monotonic_s": "now"},
    ],
)
def test_a_line_that_is_no_mapping_keeps_nobody_from_the_others(tmp_path: Path, odd: object) -> None:
    log = statelog.StateLog(tmp_path / "mappings-00000000.log", mapping_log.FORMAT, mapping_log.VERSION)
    log.rewrite([odd, WHOLE])
    log.close()
    made = unconfirmed(tmp_path)
    assert names(made) == [b"a"]
    assert not log.path.exists()
    made.close()
    assert names(unconfirmed(tmp_path)) == [b"a"]


def test_without_a_folder_that_can_be_written_mappings_wait_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = unconfirmed(tmp_path / "file")
    made.add(numbered(1), time.monotonic())
    assert names(made) == [b"n1"]
    made.close()


def test_as_soon_as_the_disk_takes_them_all_that_wait_are_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "Seldom", lambda *_: lambda: True)
    folder = tmp_path / "folder"
    folder.write_text("in its place")
    made = unconfirmed(folder)
    made.add(numbered(1), time.monotonic())
    folder.unlink()
    made.add(numbered(2), time.monotonic())
    made.close()
    assert names(unconfirmed(folder)) == [b"n1", b"n2"]


def _full(path: Path, content: bytes, **_: object) -> None:
    raise statefile.unusable(path, "written", OSError("no room"))


@pytest.fixture
def not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder has become somebody else's: nothing in it can be removed."""

    def refused(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)


def test_one_that_may_not_remove_its_log_ends_in_order(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    made = unconfirmed(tmp_path)
    request.getfixturevalue("not_ours")
    made.close()
    assert "mappings stay on disk" in caplog.messages


async def test_one_that_may_not_remove_its_predecessors_log_goes_on_with_what_it_holds(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first, second = unconfirmed(tmp_path), unconfirmed(tmp_path)
    first.add(numbered(1), time.monotonic())
    first.close()
    request.getfixturevalue("not_ours")
    await second.adopt()
    assert names(second) == [b"n1"]


def gone_from_disk(folder: Path) -> None:
    """As good as a disk that failed: nothing can be appended."""
    (log,) = folder.glob("mappings-*.log")
    log.unlink()


def test_what_the_disk_did_not_take_is_on_it_when_the_process_ends_in_order(tmp_path: Path) -> None:
    first = unconfirmed(tmp_path)
    with pytest.MonkeyPatch.context() as full:
        full.setattr(statefile, "replace", _full)
        gone_from_disk(tmp_path)
        first.add(numbered(1), time.monotonic())
    assert list(tmp_path.glob("mappings-*.log")) == []
    first.close()
    assert names(unconfirmed(tmp_path)) == [b"n1"]


async def test_what_the_disk_did_not_take_is_on_it_once_it_does_though_nothing_more_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acns.resolver.unconfirmed.TRY_AGAIN_S", 0.01)
    first = unconfirmed(tmp_path)
    with pytest.MonkeyPatch.context() as full:
        full.setattr(statefile, "replace", _full)
        gone_from_disk(tmp_path)
        first.add(numbered(1), time.monotonic())
    running = asyncio.create_task(first.run())
    async with asyncio.timeout(WAIT_S):
        while not list(tmp_path.glob("mappings-*.log")):
            assert not running.done()
            await asyncio.sleep(0.01)
    running.cancel()
    (log,) = tmp_path.glob("mappings-*.log")
    assert len(statelog.read(log, mapping_log.FORMAT, mapping_log.VERSION)) == 1


def test_where_there_is_no_room_for_another_log_a_grown_one_is_appended_to_and_rewritten_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statelog, "_GROWTH_BYTES", 0)
    monkeypatch.setattr("acns.resolver.unconfirmed.TRY_AGAIN_S", 3600.0)
    first = Unconfirmed(1_000, MappingLog(tmp_path))
    first.open()
    tries: list[Path] = []

    def full(path: Path, content: bytes, **_: object) -> None:
        tries.append(path)
        _full(path, content)

    monkeypatch.setattr(statefile, "replace", full)
    for number in range(100):
        first.add(numbered(number), time.monotonic())
    (log,) = tmp_path.glob("mappings-*.log")
    assert len(statelog.read(log, mapping_log.FORMAT, mapping_log.VERSION)) == 100
    assert len(tries) == 1


def test_an_orphan_whose_owner_cannot_be_looked_at_stays_and_is_no_ones_end(tmp_path: Path) -> None:
    orphan = tmp_path / "mappings-00000000.log"
    orphan.write_text("")
    orphan.with_suffix(".owner").symlink_to("elsewhere")
    assert names(unconfirmed(tmp_path)) == []
    assert orphan.exists()


# --- what waits ---------------------------------------------------------------------------------------------


def test_an_answer_that_says_hardly_more_than_one_that_waits_does_not_wait_too() -> None:
    backlog = Backlog(100)
    assert backlog.add(MAPPING, 0.0)
    assert not backlog.add(MAPPING, 10.0)  # ends 10 s later: less than a quarter of its TTL
    assert backlog.add(MAPPING, 30.0)
    assert backlog.add(replace(MAPPING, source=b"\x0a\0\0\2"), 30.0)
    assert len(backlog) == 3


def test_who_looks_through_what_waits_sees_what_comes_meanwhile_and_not_what_goes() -> None:
    backlog, seen = Backlog(100), list[bytes]()
    for number in range(3):
        backlog.add(numbered(number), 0.0)
    for one in backlog:
        seen.append(one.mapping.name[0])
        if len(seen) == 1:
            backlog.done(one)
            backlog.add(numbered(3), 0.0)
            found = backlog.first(0.0)
            assert found
            backlog.done(found[0])
    assert seen == [b"n0", b"n2", b"n3"]


def test_when_the_one_that_waited_was_told_the_next_waits_again() -> None:
    backlog = Backlog(100)
    backlog.add(MAPPING, 0.0)
    found = backlog.first(1.0)
    assert found is not None
    backlog.done(found[0])
    assert backlog.add(MAPPING, 1.0)


def test_where_there_is_no_room_the_pod_with_the_most_loses_its_oldest() -> None:
    backlog, other = Backlog(4), replace(MAPPING, source=b"\x0a\0\0\2")
    backlog.add(other, 0.0)
    for number in range(10):
        backlog.add(numbered(number), 1.0)
    assert [one.mapping.name[0] for one in backlog] == [other.name[0], b"n7", b"n8", b"n9"]
    assert backlog.overflowed == 7


def addresses_in(backlog: Backlog) -> int:
    return sum(len(one.mapping.addresses) for one in backlog)


def test_mappings_of_many_addresses_count_by_them() -> None:
    backlog = Backlog(100)
    for number in range(1_000):
        backlog.add(many(number, 400), 0.0)
        assert addresses_in(backlog) <= 100 * LEAST
    assert (len(backlog), backlog.overflowed) == (2, 998)


def test_mappings_of_few_addresses_all_count_the_same() -> None:
    backlog = Backlog(100)
    for number in range(100):
        backlog.add(many(number, 1 + number % LEAST), 0.0)
    assert (len(backlog), backlog.overflowed) == (100, 0)


def test_one_of_more_addresses_than_there_is_room_for_waits_alone() -> None:
    backlog = Backlog(2)
    for number in range(3):
        backlog.add(many(number, 4_000), 0.0)
    assert [one.mapping.name[0] for one in backlog] == [b"n2"]
    backlog.add(numbered(3), 0.0)
    assert [one.mapping.name[0] for one in backlog] == [b"n3"]


def test_the_pod_with_the_most_addresses_loses_for_all_that_others_have_more_mappings() -> None:
    backlog, other = Backlog(10), b"\x0a\0\0\2"
    backlog.add(many(0, 60), 0.0)
    for number in range(1, 6):
        backlog.add(many(number, 1, other), 0.0)
    assert [one.mapping.source for one in backlog] == [other] * 5


def test_what_is_taken_up_from_disk_is_within_the_bound_and_on_disk_again(tmp_path: Path) -> None:
    whole = Unconfirmed(10_000, MappingLog(tmp_path))
    whole.open()
    for number in range(50):
        whole.add(many(number, 400), time.monotonic())
    whole.close()
    second = unconfirmed(tmp_path)
    assert names(second) == [b"n48", b"n49"]
    (log,) = tmp_path.glob("mappings-*.log")
    assert len(statelog.read(log, mapping_log.FORMAT, mapping_log.VERSION)) == 2
    second.close()
    assert names(unconfirmed(tmp_path)) == [b"n48", b"n49"]
