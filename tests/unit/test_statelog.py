"""State logs: what was appended comes back in order, and nothing after the first wrong byte does."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from acns import statelog
from acns.errors import EnvironmentFault, PeerError
from acns.statelog import StateLog
from tests.full_disk import no_file_larger_than

VALUES: tuple[Any, ...] = ({"numbers": {"a": 1}}, ["ä", None], "three\nlines\nin one", 4)


def log_at(path: Path) -> StateLog:
    return StateLog(path, "form", 1)


def written(path: Path, *values: Any) -> bytes:
    """A log with these values: one rewritten, the others appended."""
    log = log_at(path)
    log.rewrite(values[:1])
    for value in values[1:]:
        log.append(value)
    log.close()
    return path.read_bytes()


def found(path: Path) -> tuple[Any, ...]:
    log = log_at(path)
    values = log.open().values
    log.close()
    return values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.log"


def test_what_was_appended_comes_back_in_order(path: Path) -> None:
    written(path, *VALUES)
    assert found(path) == VALUES
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["state.log"]


def test_no_file_is_an_empty_log_that_must_be_written_first(path: Path) -> None:
    log = log_at(path)
    assert log.open() == statelog.Found()
    assert log.must_be_rewritten


def test_after_opening_it_goes_on_where_it_ended(path: Path) -> None:
    written(path, *VALUES)
    log = log_at(path)
    log.rewrite(log.open().values)
    assert not log.must_be_rewritten
    log.append("more")
    log.close()
    assert found(path) == (*VALUES, "more")


def test_what_an_older_owner_still_appends_is_not_in_the_newer_ones_log(path: Path) -> None:
    """Each goes on from what it knows to be the last line: in one file neither's would be found."""
    older, newer = log_at(path), log_at(path)
    older.rewrite(["first"])
    values = newer.open().values
    assert newer.must_be_rewritten
    newer.rewrite(values)
    older.append("stale")
    newer.append("second")
    older.close()
    newer.close()
    assert found(path) == ("first", "second")


def test_who_may_write_no_more_does_not(path: Path) -> None:
    """Also where that turns out while a new file is being written."""
    overtaken: list[str] = []

    def fence() -> None:
        if overtaken:
            raise EnvironmentFault(overtaken[-1])

    older = StateLog(path, "form", 1, fence)
    older.rewrite(["first"])
    overtaken.append("another is the owner")
    for write in (lambda: older.append("stale"), lambda: older.rewrite(["stale"])):
        with pytest.raises(EnvironmentFault, match="another is the owner"):
            write()
    older.close()
    assert found(path) == ("first",)
    assert list(path.parent.iterdir()) == [path]


def test_a_value_is_there_for_readers_as_soon_as_append_returns(path: Path) -> None:
    log = log_at(path)
    log.rewrite(["first"])
    for number in range(3):
        log.append(number)
        assert statelog.read(path, "form", 1) == ("first", *range(number + 1))
    log.close()


def test_a_line_that_is_still_being_written_is_not_there_yet_for_readers(path: Path) -> None:
    content = written(path, *VALUES)
    path.write_bytes(content[:-3])
    assert statelog.read(path, "form", 1) == VALUES[:-1]
    assert path.read_bytes() == content[:-3]


def test_a_line_that_stays_torn_costs_readers_itself_and_is_told(path: Path) -> None:
    content = written(path, *VALUES)
    path.write_bytes(content[:-3])
    assert statelog.look(path, "form", 1) == statelog.Found(VALUES[:-1], is_whole=False)
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))
    found = statelog.look(path, "form", 1)
    assert found.values == statelog.read(path, "form", 1) == VALUES[:-1]
    assert "ends in a torn line" in str(found.damage)


def test_to_readers_no_flipped_bit_makes_a_shorter_log(path: Path) -> None:
    content = written(path, *VALUES)
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(PeerError):
            statelog.read(path, "form", 1)


def test_damage_in_the_middle_is_no_shorter_log_to_readers(path: Path) -> None:
    lines = written(path, *VALUES).splitlines(keepends=True)
    del lines[2]
    path.write_bytes(b"".join(lines))
    with pytest.raises(PeerError, match="is damaged in line 3"):
        statelog.read(path, "form", 1)


def test_a_torn_tail_is_set_aside_and_said_and_the_log_goes_on_before_it(path: Path) -> None:
    content = written(path, *VALUES)
    path.write_bytes(content[:-3])
    log = log_at(path)
    opened = log.open()
    assert opened.values == VALUES[:-1]
    assert opened.damage is not None
    assert "ends in a torn line" in str(opened.damage)
    aside = path.with_name("state.log.damaged")
    assert content[:-3].endswith(aside.read_bytes())
    assert aside.stat().st_mode & 0o777 == 0o600
    log.append("after")
    log.close()
    assert found(path) == (*VALUES[:-1], "after")


def test_a_torn_tail_is_cut_off_even_where_the_disk_takes_no_copy_of_it(path: Path) -> None:
    """A full disk is what tears lines. Readers find the lines before it, and nothing is lost by that."""
    content = written(path, *VALUES)
    path.write_bytes(content[:-3])
    log = log_at(path)
    with no_file_larger_than(0):
        opened = log.open()
        assert opened.values == VALUES[:-1]
        assert opened.is_whole
        assert opened.damage is not None
        assert "cut off, not set aside (File too large)" in opened.damage.hint
        assert log.is_there
        assert not log.is_gone
        assert log.must_be_rewritten
    assert content.startswith(path.read_bytes())
    log.rewrite(opened.values)
    log.append("after")
    log.close()
    assert found(path) == (*VALUES[:-1], "after")


def test_other_damage_that_cannot_be_set_aside_costs_no_line_before_it_and_nothing_is_put_behind_it(
    path: Path,
) -> None:
    content = written(path, *VALUES)[:-2] + b"5\n"
    path.write_bytes(content)
    path.with_name("state.log.damaged").mkdir()  # as good as a full disk
    log = log_at(path)
    opened = log.open()
    assert opened.values == VALUES[:-1]
    assert not opened.is_whole
    assert opened.damage is not None
    assert "not set aside (Is a directory)" in opened.damage.hint
    assert path.read_bytes() == content
    assert log.must_be_rewritten
    log.rewrite(opened.values)
    log.append("after")
    log.close()
    assert found(path) == (*VALUES[:-1], "after")


def test_a_log_of_another_version_that_cannot_be_set_aside_stays_whole(path: Path) -> None:
    other = StateLog(path, "form", 2)
    other.rewrite(VALUES)
    other.close()
    content = path.read_bytes()
    path.with_name("state.log.damaged").mkdir()
    log = log_at(path)
    assert log.open().values == ()
    assert path.read_bytes() == content
    assert log.must_be_rewritten


def test_a_line_that_is_missing_in_the_middle_ends_the_log(path: Path) -> None:
    lines = written(path, *VALUES).splitlines(keepends=True)
    del lines[2]
    path.write_bytes(b"".join(lines))
    assert found(path) == VALUES[:1]


@pytest.mark.parametrize(("form", "version"), [("other", 1), ("form", 2)])
def test_another_format_or_version_is_set_aside_whole(path: Path, form: str, version: int) -> None:
    log = StateLog(path, form, version)
    log.rewrite(VALUES)
    log.close()
    content = path.read_bytes()
    with pytest.raises(PeerError):
        statelog.read(path, "form", 1)
    log = log_at(path)
    opened = log.open()
    assert opened.values == ()
    assert opened.damage is not None
    assert path.with_name("state.log.damaged").read_bytes() == content
    assert log.must_be_rewritten


def test_a_rewrite_replaces_everything_at_once(path: Path) -> None:
    written(path, *VALUES)
    log = log_at(path)
    log.open()
    log.rewrite(["new"])
    log.append("newer")
    log.close()
    assert found(path) == ("new", "newer")


def test_a_cleared_log_is_the_same_file_holds_nothing_and_goes_on(path: Path) -> None:
    log = log_at(path)
    log.rewrite(VALUES)
    same = path.stat().st_ino
    log.append("more")
    log.clear()
    assert statelog.read(path, "form", 1) == ()
    log.append("after")
    log.close()
    assert found(path) == ("after",)
    assert path.stat().st_ino == same


def test_a_log_that_has_grown_is_worth_rewriting_once(path: Path) -> None:
    log = log_at(path)
    log.rewrite(["x"])
    while not log.has_grown:
        log.append("x" * 100_000)
    log.rewrite(["x"])
    assert not log.has_grown
    log.close()


def test_what_does_not_fit_on_the_disk_is_not_there_and_can_be_written_again(path: Path) -> None:
    size = len(written(path, "first"))
    log = log_at(path)
    log.rewrite(log.open().values)
    with no_file_larger_than(size + 20), pytest.raises(EnvironmentFault):
        log.append("second")
    assert statelog.read(path, "form", 1) == ("first",)
    assert log.must_be_rewritten
    assert log.is_there, "what was there before is"
    log.rewrite(["first", "second"])
    log.close()
    assert found(path) == ("first", "second")


def test_a_log_whose_file_is_gone_must_be_rewritten(path: Path) -> None:
    log = log_at(path)
    log.rewrite(["first"])
    assert log.is_there
    path.unlink()
    assert log.must_be_rewritten
    assert not log.is_there
    log.close()


def test_nothing_is_appended_where_another_has_cut_the_log_off(path: Path) -> None:
    """Who is to own it next may have opened it in the midst of an append. What continues from a line that is
    gone would be damage."""
    log = log_at(path)
    log.rewrite(VALUES[:2])
    os.truncate(path, path.stat().st_size - 1)
    found(path)
    with pytest.raises(EnvironmentFault, match="somebody else"):
        log.append(VALUES[2])
    assert log.must_be_rewritten
    log.rewrite(VALUES)
    log.append("more")
    assert found(path) == (*VALUES, "more")


def test_a_log_has_changed_when_another_has_written_to_it_and_not_when_its_file_is_gone(path: Path) -> None:
    log, other = log_at(path), log_at(path)
    log.open()
    assert not log.has_changed
    other.rewrite(["first"])
    assert log.has_changed
    for write in (lambda: other.append("second"), lambda: other.rewrite(["third"])):
        log.open()
        assert not log.has_changed
        write()
        assert log.has_changed
    log.rewrite(["own"])
    log.append("more")
    assert not log.has_changed
    path.unlink()
    assert not log.has_changed
    log.close()
    other.close()


def test_what_cannot_be_read_or_written_is_the_environments_fault(path: Path) -> None:
    path.mkdir()
    with pytest.raises(EnvironmentFault):
        log_at(path).open()
    with pytest.raises(EnvironmentFault):
        log_at(path).rewrite(VALUES)


@limits(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_whatever_byte_is_wrong_only_what_stands_before_it_counts(path: Path, data: st.DataObject) -> None:
    whole = written(path, *VALUES)
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))])
    path.write_bytes(data.draw(st.sampled_from([whole[:at], whole[:at] + flipped + whole[at + 1 :]])))
    values = found(path)
    intact = whole[:at].count(b"\n") - 1
    assert values == VALUES[: max(intact, 0)]
