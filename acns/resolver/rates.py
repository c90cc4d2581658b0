"""How many queries a second each pod may ask: a token bucket a pod, kept as one number.

The number is the time by which what the pod has asked is paid for, at its rate (the generic cell rate
algorithm). A pod that is quiet owes nothing and is forgotten; one may be ahead of its rate by a quarter of a
second's queries. Every message counts, also those that the gate refuses: they cost as much to read.

While more comes than the resolver can read (`pressed`), everybody's rate is a fraction of it, the smaller the
more is waiting: that leaves pods that ask at a usual pace alone, and takes from those who ask most, whatever
the machine can do.

Time is an argument, in seconds of a clock that never steps back.
"""

from __future__ import annotations

from typing import Final

BURST_S: Final = 0.25
PRESSED: Final = 16
"""The rate's divisor at worst: of the default rate that leaves about what the real service warns at."""
MANY_PODS: Final = 4_096


class Rates:
    """The buckets. A pod is known by its address, four octets."""

    def __init__(self, per_second: int, burst_s: float = BURST_S) -> None:
        self.pressed = 1
        """The rate's divisor now."""
        self._interval_s = 1 / per_second
        self._burst_s = burst_s
        self._due: dict[bytes, float] = {}
        self._room = MANY_PODS

    def take(self, pod: bytes, now: float) -> bool:
        """Whether the pod may ask now; that is then counted."""
        due = self._due.get(pod)
        if due is None:
            self._make_room(now)
        if due is None or due < now:
            due = now
        elif due > now + self._burst_s:
            return False
        self._due[pod] = due + self._interval_s * self.pressed
        return True

    def give_back(self, pod: bytes) -> None:
        """What was counted last did not cost what it was counted for."""
        due = self._due.get(pod)
        if due is not None:
            self._due[pod] = due - self._interval_s

    def wait_s(self, pod: bytes, now: float) -> float:
        """How long until `take` would say yes."""
        return max(0.0, self._due.get(pod, 0.0) - now - self._burst_s)

    def __len__(self) -> int:
        """Pods remembered."""
        return len(self._due)

    def _make_room(self, now: float) -> None:
        if len(self._due) >= self._room:
            self._due = {pod: due for pod, due in self._due.items() if due > now}
            self._room = max(MANY_PODS, 2 * len(self._due))
