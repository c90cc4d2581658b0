"""A clock that nobody sets, for whatever has to agree with the kernel's timeouts.

The wall clock is stepped, by NTP or by hand; the timeouts of set elements, and what a resolver was promised,
go on by CLOCK_MONOTONIC. Lives that are told in wall time elsewhere (an answer's, a view's) are translated
where they come in or go out.
"""

from __future__ import annotations

import time
from typing import Final

_STARTED_AT: Final = time.time() - time.monotonic()


def steady() -> float:
    """Seconds since the epoch as it was told when this process started, and never stepped since."""
    return _STARTED_AT + time.monotonic()
