"""Sockets behind one epoll: who is told of what, and what one may do to another."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from acns.resolver.sockets import AT_ONCE, Sockets


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected sockets: of each pair the first is watched here, and something waits at it."""
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3)]
        for ours, other in made:
            stack.enter_context(ours)
            stack.enter_context(other)
            other.send(b"x")
        yield made


Pairs = list[tuple[socket.socket, socket.socket]]


@pytest.fixture
async def sockets() -> Sockets:
    return Sockets()


async def test_the_event_loop_has_all_told_that_are_ready(pairs: Pairs, sockets: Sockets) -> None:
    told: list[int] = []
    all_told = asyncio.Event()

    def ready(ours: socket.socket, events: int, now: float) -> None:
        told.append(ours.fileno())
        ours.recv(1)
        if len(told) == len(pairs):
            all_told.set()

    for ours, _ in pairs:
        sockets.add(ours.fileno(), partial(ready, ours))
    async with asyncio.timeout(5):
        await all_told.wait()
    sockets.close()
    assert sorted(told) == sorted(ours.fileno() for ours, _ in pairs)


async def test_one_that_was_removed_by_another_in_the_same_look_hears_nothing(
    pairs: Pairs, sockets: Sockets
) -> None:
    told: list[int] = []
    reported: list[object] = []
    sockets.loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def first_come(events: int, now: float) -> None:
        told.append(1)
        for ours, _ in pairs:
            sockets.remove(ours.fileno())

    for ours, _ in pairs:
        sockets.add(ours.fileno(), first_come)
    assert sockets.look()
    assert not sockets.look()
    assert told == [1]
    assert not reported
    sockets.close()


async def test_what_is_added_again_has_another_told(pairs: Pairs, sockets: Sockets) -> None:
    told: list[str] = []
    ours, _ = pairs[0]
    sockets.add(ours.fileno(), lambda events, now: told.append("first"))
    sockets.add(ours.fileno(), lambda events, now: told.append("second"))
    sockets.look()
    sockets.remove(ours.fileno())
    sockets.remove(ours.fileno())  # no error
    assert not sockets.look()
    sockets.close()
    assert told == ["second"]


async def test_a_bug_at_one_is_reported_and_nothing_to_the_others(pairs: Pairs, sockets: Sockets) -> None:
    told: list[int] = []
    reported: list[object] = []
    sockets.loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail(events: int, now: float) -> None:
        told.append(1)
        raise KeyError("a bug")

    for ours, _ in pairs:
        sockets.add(ours.fileno(), fail)
    sockets.look()
    sockets.close()
    assert len(told) == len(reported) == len(pairs)


async def test_more_than_one_look_takes_are_told_in_the_next(sockets: Sockets) -> None:
    told: set[int] = set()

    def ready(number: int, events: int, now: float) -> None:
        told.add(number)

    with contextlib.ExitStack() as stack:
        for _ in range(AT_ONCE + 1):
            ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            stack.enter_context(ours)
            stack.enter_context(other).send(b"x")
            sockets.add(ours.fileno(), partial(ready, ours.fileno()))
        sockets.look()
        assert len(told) == AT_ONCE
        sockets.look()  # level-triggered, and the kernel takes turns
        assert len(told) == AT_ONCE + 1
        sockets.close()


async def test_closed_it_watches_nothing_and_may_be_closed_again(pairs: Pairs, sockets: Sockets) -> None:
    told: list[int] = []
    ours, _ = pairs[0]
    sockets.add(ours.fileno(), lambda events, now: told.append(1))
    sockets.close()
    sockets.close()
    sockets.remove(ours.fileno())  # as who closes later does
    await asyncio.sleep(0)
    assert sockets.closed
    assert not told
