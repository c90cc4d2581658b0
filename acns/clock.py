"""A clock that nobody sets, for whatever has to agree with the kernel's timeouts.

The wall clock is stepped, by NTP or by hand; the timeouts of set elements, and what a resolver was promised,
go on by CLOCK_MONOTONIC. Lives that are told in wall time elsewhere (an answer's, a view's) are translated
where they come in or go out. From one process to the next a moment of CLOCK_MONOTONIC says as much as long as
the machine runs (`boot_id`); wall time is for what outlasts that.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Final

_STARTED_AT: Final = time.time() - time.monotonic()


def steady() -> float:
    """Seconds since the epoch as it was told when this process started, and never stepped since."""
    return _STARTED_AT + time.monotonic()


def to_epoch(monotonic: float) -> float:
    """A moment of the monotonic clock, in seconds since the epoch as the wall clock has it now."""
    return time.time() - (time.monotonic() - monotonic)


@functools.cache
def boot_id() -> str:
    """Tells this run of the machine from all others; empty where nobody knows."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
