"""How an agent is told to end, from its first moment on: SIGTERM, SIGINT, SIGHUP.

SIGHUP counts as SIGTERM: no agent reads its settings again, and one that ignored it would outlive the
terminal that it was started from. Where it is ignored already (nohup) it stays so.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Meanwhile each ends this process, with code 0 and without a word: nothing is to be cleared away yet."""
    before = {number: signal.signal(number, _leave) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heard_by(then: Callable[[], object]) -> None:
    """From now on each calls `then`, on the loop that runs; also one that came since the loop turned last."""
    import asyncio  # a third of what is there before the settings are read

    loop = asyncio.get_running_loop()
    for number in _heeded():
        loop.add_signal_handler(number, then)


def _heeded() -> list[signal.Signals]:
    return [
        number
        for number in SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
