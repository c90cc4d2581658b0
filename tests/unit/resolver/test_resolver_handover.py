"""The two ends of a handover, both in the test's hands."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault, InputError, PeerError
from acns.resolver import handover
from acns.resolver.handover import Handover, Predecessor


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "handover.sock")


# --- a predecessor that is none, or hangs ----------------------------------------------------------------


async def test_one_that_hangs_is_told_from_none_however_often_it_is_asked(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "HANDS_OVER_S", 0.05)
    hangs = Handover(path)
    hangs.start()
    asyncio.get_running_loop().remove_reader(hangs._listener)  # it accepts nobody
    for _ in range(5):
        with pytest.raises(PeerError, match="hand over"):
            await asked(path)
    hangs.close()


async def asked(path: str) -> None:
    """As a process does that ends when nobody hands over to it."""
    predecessor = Predecessor.at(path)
    assert predecessor
    try:
        await predecessor.listeners()
    finally:
        predecessor.close()


async def test_where_nobody_listens_is_no_predecessor(path: str, tmp_path: Path) -> None:
    assert Predecessor.at(path) is None
    handover._listening(Path(path)).close()
    assert Predecessor.at(path) is None


async def test_a_path_that_cannot_be_one_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bytes long"):
        Predecessor.at(str(tmp_path / ("x" * 120)))
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot connect"):
        Predecessor.at(str(tmp_path / "file" / "handover.sock"))


# --- a predecessor that is short of descriptors -----------------------------------------------------------


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process has all that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_one_without_descriptors_accepts_its_successor_when_it_has_some(path: str) -> None:
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
    old = Handover(path)
    old.start()
    next_one = Predecessor.at(path)
    assert next_one
    with no_descriptors():
        await asyncio.sleep(0.05)
    assert not failed
    assert not old.asked.is_set()
    async with asyncio.timeout(5):
        await old.asked.wait()
    next_one.close()
    old.close()
