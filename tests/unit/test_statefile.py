"""State files are whole or set aside."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from acns import statefile
from acns.errors import EnvironmentFault, PeerError

PAYLOAD = {"grants": {"egress fqdn:name:a.example.com. 6 443-443": 1}, "note": "ä"}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    statefile.save(path, "form", 1, PAYLOAD)
    assert statefile.load(path, "form", 1) == PAYLOAD
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert statefile.load(tmp_path / "state.json", "form", 1) is None


@pytest.mark.parametrize(("form", "version"), [("other", 1), ("form", 2)])
def test_another_format_or_version_is_set_aside(tmp_path: Path, form: str, version: int) -> None:
    path = tmp_path / "state.json"
    statefile.save(path, form, version, PAYLOAD)
    with pytest.raises(PeerError):
        statefile.load(path, "form", 1)
    assert not path.exists()
    assert path.with_name("state.json.damaged").exists()


def test_a_file_nested_beyond_reading_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("[" * 100_000)
    with pytest.raises(PeerError):
        statefile.load(path, "form", 1)


def test_what_cannot_be_read_or_written_is_the_environments_fault(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(EnvironmentFault):
        statefile.load(path, "form", 1)
    with pytest.raises(EnvironmentFault):
        statefile.save(path, "form", 1, PAYLOAD)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_two_that_write_one_file_at_once_both_write_it_whole(tmp_path: Path) -> None:
    """As threads of one process they have one ID, as processes of two containers may."""
    path, done = tmp_path / "state.json", threading.Event()

    def save(note: str) -> None:
        for _ in range(100):
            statefile.save(path, "form", 1, {"note": note * 100_000})

    def read() -> int:
        found = 0
        while not done.is_set():
            found += statefile.load(path, "form", 1) is not None  # whole, or it raises
        return found

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        try:
            for saving in [pool.submit(save, note) for note in "ab"]:
                saving.result()
        finally:
            done.set()
        assert reading.result()
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_what_a_killed_process_left_half_written_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    statefile.save(tmp_path / "state.json", "form", 1, PAYLOAD)
    half, under_way, other = (tmp_path / name for name in (".state.json.17", ".state.json.0af8", ".hidden"))
    foreign = tmp_path / ".viminfo.1"
    for path in (half, under_way, other, foreign):
        path.write_text("x")
    for path in (half, other, foreign):
        os.utime(path, (0, 0))
    statefile.sweep(tmp_path)
    left = [".hidden", ".state.json.0af8", ".viminfo.1", "state.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


@limits(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_no_truncation_and_no_changed_byte_is_half_used(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "state.json"
    statefile.save(path, "form", 1, PAYLOAD)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))])
    damaged = data.draw(st.sampled_from([whole[:at], whole[:at] + flipped + whole[at + 1 :]]))
    path.write_bytes(damaged)
    try:
        loaded = statefile.load(path, "form", 1)
    except PeerError:
        return
    assert loaded == PAYLOAD
    assert json.loads(damaged)["payload"] == PAYLOAD
