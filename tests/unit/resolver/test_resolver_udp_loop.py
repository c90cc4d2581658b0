"""Turns of the UDP loop: how many, and what comes between."""

from __future__ import annotations

import asyncio
import socket

import pytest

from acns.resolver import sockets, udp_loop
from acns.resolver.udp_loop import ROUNDS, UDPLoop
from acns.telemetry.journal import Journal


async def iterations(count: int) -> None:
    """So many of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_turn_at_a_time_however_long_the_line() -> None:
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, other:
        loop, worked, rounds = UDPLoop(Journal("", "resolver")), 0, []

        def work(now: float) -> bool:
            nonlocal worked
            worked += 1
            return True

        loop.behind(work)
        loop.add(ours, lambda events, now: rounds.append(now))  # never read: it stays ready
        other.send(b"x")
        await iterations(20)
        loop.close()
    assert 10 * ROUNDS <= worked == len(rounds) <= 21 * ROUNDS


async def test_what_waits_is_worked_off_though_nothing_comes() -> None:
    loop, waits = UDPLoop(Journal("", "resolver")), 100

    def work(now: float) -> bool:
        nonlocal waits
        waits -= 1
        return waits > 0

    loop.behind(work)
    loop.wake()
    async with asyncio.timeout(5):
        while waits:
            await asyncio.sleep(0)
    await iterations(3)
    assert waits == 0
    loop.close()


async def test_a_datagram_goes_between_and_its_bug_is_not_that_of_who_lets_it() -> None:
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail(events: int, now: float) -> None:
        ours.recv(16)
        raise KeyError("a bug")

    with ours, other:
        loop = UDPLoop(Journal("", "resolver"))
        loop.add(ours, fail)
        other.send(b"x")
        loop.let_through()
        loop.close()
    assert [str(error) for error in reported] == ["'a bug'"]


async def test_a_datagram_goes_between_as_soon_as_nobody_has_looked_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Clock:
        now = 100.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

    monkeypatch.setattr(udp_loop, "time", Clock)
    monkeypatch.setattr(sockets, "time", Clock)
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, other:
        loop, came = UDPLoop(Journal("", "resolver")), list[bytes]()
        loop.add(ours, lambda events, now: came.append(ours.recv(16)))
        for number in range(3):
            other.send(b"%d" % number)
            loop.let_through()
            loop.let_through()
            if number == 1:
                Clock.now += 0.001
                loop.let_through()
        loop.close()
    assert came == [b"0", b"1"]
