"""The two ends of a handover, both in the test's hands."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault, InputError, PeerError
from acns.resolver import handover
from acns.resolver.handover import Connection, Handover, Listeners, Predecessor, SuccessorGone


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


async def test_what_is_no_socket_is_not_replaced_by_one(tmp_path: Path) -> None:
    precious = tmp_path / "resolver.toml"
    precious.write_text("precious")
    with pytest.raises(EnvironmentFault, match="not a socket"):
        Handover(str(precious)).start()
    assert precious.read_text() == "precious"


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


# --- a pod's connection that cannot change hands ------------------------------------------------------------

Linked = tuple[Handover, Predecessor]


@pytest.fixture
async def linked(path: str) -> AsyncIterator[Linked]:
    """A resolver that hands over, and the next one."""
    old = Handover(path)
    old.start()
    next_one = Predecessor.at(path)
    assert next_one
    async with asyncio.timeout(5):
        await old.asked.wait()
    yield old, next_one
    next_one.close()
    old.close()


@pytest.fixture
def connection() -> Iterator[tuple[Connection, socket.socket]]:
    """A pod's connection, and the pod's end of it."""
    ours, pod = socket.socketpair()
    pod.setblocking(False)
    with ours, pod:
        yield Connection(ours, ("10.244.0.2", 4242), (b"\x0a\x60\0\x0a", 53), b"a query"), pod


async def test_one_that_a_successor_has_no_descriptor_for_is_told_as_lost(
    linked: Linked, connection: tuple[Connection, socket.socket]
) -> None:
    (old, next_one), (given, pod) = linked, connection
    adopted: list[Connection] = []
    lost = asyncio.Event()
    await old.give(given)
    taking = asyncio.create_task(next_one.take_over(adopted.append, lost.set))
    with no_descriptors():
        async with asyncio.timeout(5):
            await lost.wait()
    assert pod.recv(1) == b""
    assert not adopted
    old.close()
    await taking


async def test_a_successor_without_descriptors_for_the_listeners_ends_with_that_reason(
    linked: Linked, connection: tuple[Connection, socket.socket]
) -> None:
    (old, next_one), (given, _) = linked, connection
    giving = asyncio.create_task(old.give_listeners(Listeners(given.socket, given.socket), None))
    await asyncio.sleep(0)
    with no_descriptors(), pytest.raises(EnvironmentFault, match="no descriptors"):
        await next_one.listeners()
    giving.cancel()


@pytest.mark.parametrize("policy", [None, b"", b"x" * (1 << 20)])
async def test_with_the_listeners_comes_the_policy(
    linked: Linked, connection: tuple[Connection, socket.socket], policy: bytes | None
) -> None:
    (old, next_one), (given, _) = linked, connection
    giving = asyncio.create_task(old.give_listeners(Listeners(given.socket, given.socket), policy))
    async with asyncio.timeout(5):
        listeners = await next_one.listeners()
        await giving
    assert next_one.policy == policy
    assert listeners
    listeners.udp.close()
    listeners.tcp.close()


async def test_a_successor_that_takes_no_policy_gets_the_listeners(
    linked: Linked, connection: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of an older version."""
    monkeypatch.setattr(handover, "_MOST_DESCRIPTORS", 2)
    (old, next_one), (given, _) = linked, connection
    giving = asyncio.create_task(old.give_listeners(Listeners(given.socket, given.socket), b"a policy"))
    async with asyncio.timeout(5):
        listeners = await next_one.listeners()
        await giving
    assert next_one.policy is None
    assert listeners
    listeners.udp.close()
    listeners.tcp.close()


async def test_one_that_a_successor_is_gone_for_stays_open(
    linked: Linked, connection: tuple[Connection, socket.socket]
) -> None:
    (old, next_one), (given, pod) = linked, connection
    next_one.close()
    with pytest.raises(SuccessorGone):
        await old.give(given)
    with pytest.raises(BlockingIOError):
        pod.recv(1)
