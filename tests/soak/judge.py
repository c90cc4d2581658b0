"""Compares what happened with what the model says of it, a while later: when the faults around are known."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from .model import EITHER, NO, YES, Mapping, Model
from .tally import Tally

DELAY_S = 2.0
"""Between what happened and its judgement."""
NOERROR, REFUSED = 0, 5

Key = tuple[str, int]
"""Of a connection at the node's uplink: destination and sequence number, which no two connections share."""


class Judge:
    """`passed`: the keys of SYNs that came out of the node."""

    def __init__(self, model: Model, tally: Tally) -> None:
        self.model, self.tally = model, tally
        self.passed: dict[Key, float] = {}
        self._due: deque[tuple[float, Callable[[], None]]] = deque()

    def judge_until(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self._due.popleft()[1]()
        for key in [key for key, at in self.passed.items() if at < until - 10.0]:
            del self.passed[key]

    def _later(self, judge: Callable[[], None]) -> None:
        self._due.append((time.monotonic(), judge))

    # --- queries ------------------------------------------------------------------------------------------

    def answered(
        self, pod: str, name: str, sent: float, rcode: int, addresses: tuple[str, ...], ttl_s: float
    ) -> None:
        now = time.monotonic()
        if rcode == NOERROR:
            for address in addresses:
                self.model.told(Mapping(pod, name, address, now, sent + ttl_s))
        self._later(lambda: self._answer(pod, name, sent, now, rcode, addresses))

    def silent(self, pod: str, name: str, sent: float) -> None:
        now = time.monotonic()
        self._later(lambda: self._silence(pod, name, sent, now, "no answer"))

    def _answer(
        self, pod: str, name: str, sent: float, now: float, rcode: int, addresses: tuple[str, ...]
    ) -> None:
        verdict = self.model.query(pod, name, sent, now)
        said = f"{name}: rcode {rcode} {' '.join(addresses)}"
        if verdict is NO and rcode not in (REFUSED, 2):
            self.tally.violated("wrongly passed", pod, f"query for {said}", sent)
        elif addresses and not self.model.is_true(name, addresses):
            self.tally.violated("wrongly passed", pod, f"a lie about {said}", sent)
        elif verdict is NO and rcode == REFUSED:
            self.tally.counts["queries refused"] += 1
        elif rcode == NOERROR and addresses:
            self.model.answered(pod, name, sent, now - sent)
            self.tally.counts["queries answered"] += 1
        else:
            self._silence(pod, name, sent, now, f"rcode {rcode}")

    def _silence(self, pod: str, name: str, sent: float, now: float, what: str) -> None:
        verdict = self.model.query(pod, name, sent, now)
        if verdict is EITHER:
            self.tally.counts["queries either way"] += 1
        elif self.model.excuses_silence(pod, name, sent, refused=verdict is NO):
            self.tally.counts["queries lost to a fault"] += 1
        elif self.model.excuses_repetition(name, sent):
            self.tally.counts["queries lost behind one that a fault had lost"] += 1
        else:
            self.tally.violated("wrongly dropped", pod, f"query for {name}: {what}", sent)

    # --- connections --------------------------------------------------------------------------------------

    def connected(self, pod: str, address: str, key: Key, why: str) -> None:
        now = time.monotonic()
        self.model.connected(pod, address, now)
        self._later(lambda: self._connection(pod, address, key, now, why))

    def _connection(self, pod: str, address: str, key: Key, at: float, why: str) -> None:
        verdict = self.model.connection(pod, address, at)
        passed = key in self.passed
        self.tally.counts[f"connections {verdict.value} pass"] += 1
        if verdict is NO and passed:
            self.tally.violated("wrongly passed", pod, f"connection to {address} ({why})", at)
        elif verdict is YES and not passed:
            if self.model.excuses_loss(pod, at):
                self.tally.counts["connections lost to a fault"] += 1
            else:
                self.tally.violated("wrongly dropped", pod, f"connection to {address} ({why})", at)
