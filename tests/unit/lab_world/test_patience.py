"""When silence is silence."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from lab.world.patience import FACTOR, LEAST_S, Patience

LONG_S = 30.0


@pytest.fixture
def mute() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket that becomes writable only when the other is read, as one whose connection is not made yet."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(65_536))
        yield ours, theirs


def test_it_lasts_the_whole_bound_until_all_have_spoken() -> None:
    patience = Patience(2, 1.0)
    assert patience.enough_s == 1.0
    patience.spoke(0.01)
    assert patience.enough_s == 1.0
    patience.spoke(0.2)
    assert patience.enough_s == pytest.approx(FACTOR * 0.2)


def test_it_lasts_the_whole_bound_where_nothing_speaks() -> None:
    assert Patience(0, 1.0).enough_s == 1.0


@pytest.mark.parametrize(("slowest_s", "enough_s"), [(0.001, LEAST_S), (5.0, 1.0)])
def test_it_has_a_floor_and_a_bound(slowest_s: float, enough_s: float) -> None:
    patience = Patience(1, 1.0)
    patience.spoke(slowest_s)
    assert patience.enough_s == enough_s


def test_it_lasts_the_whole_bound_where_one_has_failed() -> None:
    patience = Patience(2, 1.0)
    patience.spoke(0.01)
    patience.spoke(math.inf)
    assert patience.enough_s == 1.0


def test_links_that_are_slow_by_intention_have_the_whole_bound() -> None:
    patience = Patience(1, 1.0, least_s=1.0)
    patience.spoke(0.001)
    assert patience.enough_s == 1.0


def test_what_says_nothing_is_not_waited_for_longer(mute: tuple[socket.socket, socket.socket]) -> None:
    patience = Patience(1, 10 * LONG_S, least_s=0.0)
    ended = threading.Thread(target=lambda: heard.append(patience.hears(mute[0])), daemon=True)
    heard: list[bool] = []
    ended.start()
    patience.spoke(0.001)
    ended.join(LONG_S)
    assert heard == [False]


def test_what_answers_after_all_others_is_heard(mute: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = mute
    patience = Patience(1, LONG_S, least_s=LONG_S)
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(patience.hears(ours)), daemon=True)
    waiting.start()
    patience.spoke(0.001)
    theirs.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while theirs.recv(1 << 20):
            pass
    waiting.join(LONG_S)
    assert heard == [True]


def test_nobody_waits_for_it_beyond_its_own_end(mute: tuple[socket.socket, socket.socket]) -> None:
    patience = Patience(1, 10 * LONG_S)
    assert not patience.hears(mute[0], within_s=0.001)


def test_its_descriptor_goes_with_it() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        Patience(1, 1.0)
    assert len(os.listdir("/proc/self/fd")) < before + 100
