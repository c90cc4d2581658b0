"""Reading a file that grows, is put aside when it is full, and begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.telemetry.bounded_file import BoundedFile
from lab.runtime.growing import GrowingFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.jsonl"


def new(file: GrowingFile) -> list[str]:
    return [line.decode() for line in file.new_lines()]


def test_lines_come_once_and_in_order(path: Path) -> None:
    path.write_text("one\ntwo\n")
    file = GrowingFile(path)
    assert new(file) == ["one", "two"]
    assert new(file) == []
    with path.open("a") as writer:
        writer.write("three\n")
    assert new(file) == ["three"]


def test_a_line_comes_when_it_is_whole(path: Path) -> None:
    path.write_text("one\ntw")
    file = GrowingFile(path)
    assert new(file) == ["one"]
    with path.open("a") as writer:
        writer.write("o\n")
    assert new(file) == ["two"]


def test_a_file_that_comes_later_is_read_from_its_beginning(path: Path) -> None:
    file = GrowingFile(path)
    assert new(file) == []
    path.write_text("one\n")
    assert new(file) == ["one"]


def test_older_lines_come_first(path: Path) -> None:
    path.with_name("flows.jsonl.1").write_text("older\n")
    path.write_text("newer\n")
    assert new(GrowingFile(path)) == ["older", "newer"]


def test_the_end_of_a_file_that_is_put_aside_is_read_before_the_new_one(path: Path) -> None:
    path.write_text("one\n")
    file = GrowingFile(path)
    assert new(file) == ["one"]
    with path.open("a") as writer:
        writer.write("two\n")
    path.rename(path.with_name("flows.jsonl.1"))
    path.write_text("three\n")
    assert new(file) == ["two", "three"]


def test_what_is_added_while_it_is_found_to_be_put_aside_is_read_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("one\n")
    file = GrowingFile(path)
    looks = iter([True, False])

    def is_rotated(_: GrowingFile) -> bool:
        if rotated := next(looks):
            with path.open("a") as writer:
                writer.write("two\n")
            path.rename(path.with_name("flows.jsonl.1"))
            path.write_text("three\n")
        return rotated

    monkeypatch.setattr(GrowingFile, "_is_rotated", is_rotated)
    assert new(file) == ["one", "two", "three"]


def test_a_file_that_is_away_for_a_moment_is_waited_for(path: Path) -> None:
    path.write_text("one\n")
    file = GrowingFile(path)
    new(file)
    path.rename(path.with_name("flows.jsonl.1"))
    assert new(file) == []
    path.write_text("two\n")
    assert new(file) == ["two"]


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(20, 60))
def test_no_line_is_missed_or_seen_twice_while_the_file_is_rotated(
    tmp_path_factory: pytest.TempPathFactory, batches: list[int], max_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("flows") / "flows.jsonl"
    writer, file = BoundedFile(path, "", max_bytes), GrowingFile(path)
    writer.open()
    number, seen = 0, []
    for batch in batches:
        lines = [f"line {number + each}" for each in range(batch)]
        number += batch
        writer.append("".join(f"{line}\n" for line in lines))
        seen += new(file)
    writer.close()
    file.close()
    assert seen == [f"line {each}" for each in range(number)]
