"""A file with a bound: what of it is left, and what becomes of it when the disk does not play along."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault
from acns.telemetry.bounded_file import BoundedFile, older


def test_past_its_bound_the_file_is_put_aside_and_the_one_before_it_goes(tmp_path: Path) -> None:
    file = BoundedFile(tmp_path / "log", "log_file", max_bytes=100)
    file.open()
    for number in range(100):
        file.append(f"line {number:4}\n")
    file.close()
    kept = older(tmp_path / "log").read_text() + (tmp_path / "log").read_text()
    assert kept.splitlines() == [f"line {number:4}" for number in range(100)][-len(kept.splitlines()) :]
    assert 100 < len(kept) <= 220
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]


def test_a_restart_goes_on_where_the_file_ended(tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        file = BoundedFile(tmp_path / "log", "log_file")
        file.open()
        file.append(text)
        file.close()
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="No such file") as caught:
        BoundedFile(tmp_path / "nowhere" / "log", "flow_log_file").open()
    assert "flow_log_file" in caught.value.hint


def test_what_failed_is_tried_again_with_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = BoundedFile(tmp_path / "log", "log_file", max_bytes=1)
    file.open()
    (tmp_path / "log.1").mkdir()  # in the way of the rotation
    with pytest.raises(OSError, match=r"log\.1"):
        file.append("one\n")
    (tmp_path / "log.1").rmdir()
    file.append("two\n")
    file.close()
    assert (tmp_path / "log.1").read_text() == "one\ntwo\n"
