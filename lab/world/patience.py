"""How long nothing must come back until that is silence.

What is open answers in milliseconds here, on a busy machine in tenths of a second. So silence is measured by
what speaks: the connections that should be made are tried at the same time, from the same pod, and when they
have been, a `blocked` address gets `FACTOR` times as long for one SYN as the slowest of them took for a whole
conversation, or `LEAST_S`. While one of them is still waiting, where one has failed, and where there is none,
silence takes the whole bound; so it does where links are slow by intention.
"""

from __future__ import annotations

import math
import os
import select
import socket
import threading
import time
import weakref
from typing import Final

LEAST_S: Final = 0.25
FACTOR: Final = 3.0


class Patience:
    """Shared by all attempts of one pod. `speaking`: how many of them should end as connections."""

    def __init__(self, speaking: int, most_s: float, least_s: float = LEAST_S) -> None:
        self._speaking = speaking
        self._most_s, self._least_s = most_s, min(least_s, most_s)
        self._slowest_s = 0.0
        self._lock = threading.Lock()
        self._all_spoke = os.eventfd(0)
        weakref.finalize(self, os.close, self._all_spoke)

    def spoke(self, took_s: float) -> None:
        """One that should be a connection was, after so long; after infinite time where it was none."""
        with self._lock:
            self._slowest_s = max(self._slowest_s, took_s)
            self._speaking -= 1
            if self._speaking == 0:
                os.eventfd_write(self._all_spoke, 1)

    @property
    def enough_s(self) -> float:
        """By what is known now."""
        with self._lock:
            if self._speaking or not self._slowest_s:
                return self._most_s
            return min(max(FACTOR * self._slowest_s, self._least_s), self._most_s)

    def hears(self, connecting: socket.socket, within_s: float = math.inf) -> bool:
        """Whether anything comes back to a connection that was just begun; later than `within_s` nobody
        wants to know."""
        begun = time.monotonic()
        if ready(min(self._most_s, within_s), connecting, self._all_spoke) is None:
            return False
        end = begun + min(self.enough_s, within_s)
        return ready(max(0.0, end - time.monotonic()), connecting) is not None


def ready(timeout_s: float, *waited_for: socket.socket | int) -> int | None:
    """The descriptor of one that is ready; None: none within the time."""
    poll = select.poll()
    poll.register(waited_for[0], select.POLLOUT)
    for other in waited_for[1:]:
        poll.register(other, select.POLLIN)
    events = poll.poll(timeout_s * 1000)
    return events[0][0] if events else None
