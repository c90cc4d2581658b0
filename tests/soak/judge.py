"""Compares what happened with what the model says of it, a while later: when the faults around are known."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from . import world
from .model import EITHER, NO, YES, Mapping, Model, Trouble, Verdict
from .tally import Tally

DELAY_S = 2.0
"""Between what happened and its judgement."""
ON_ITS_WAY_S = 3.0
"""A query may reach the DNS server so long after its pod sent it: a hung resolver's doing."""
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
        self._later(lambda: self._silence(pod, name, sent, now))

    def reached_the_server(self, name: str, now: float) -> None:
        """Some pod with a policy has asked for this, through the resolver: may any?"""
        self.tally.counts["queries at the DNS server"] += 1
        permission = self.model.policies.permission
        if all(permission(pod, name, now - ON_ITS_WAY_S, now) is NO for pod in world.PODS):
            self.tally.violated("leaks", "?", f"a query for {name} reached the server", now)

    def _answer(
        self, pod: str, name: str, sent: float, now: float, rcode: int, addresses: tuple[str, ...]
    ) -> None:
        verdict = self.model.query(pod, name, sent, now)
        self._notice_calm(pod, sent, verdict)
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
            self._failure(pod, name, sent, verdict, f"rcode {rcode}", _excuses(verdict, rcode))

    def _silence(self, pod: str, name: str, sent: float, now: float) -> None:
        verdict = self.model.query(pod, name, sent, now)
        self._notice_calm(pod, sent, verdict)
        self._failure(pod, name, sent, verdict, "no answer", _excuses(verdict))

    def _failure(
        self, pod: str, name: str, sent: float, verdict: Verdict, what: str, excuses: tuple[Trouble, ...]
    ) -> None:
        if verdict is EITHER:
            self.tally.counts["queries either way"] += 1
        elif self.model.excuses_silence(pod, name, sent, *excuses):
            self.tally.counts["queries lost to a fault"] += 1
        elif self.model.excuses_repetition(name, sent):
            self.tally.counts["queries lost behind one that a fault had lost"] += 1
        else:
            self.tally.violated("wrongly dropped", pod, f"query for {name}: {what}", sent)

    def _notice_calm(self, pod: str, sent: float, verdict: Verdict) -> None:
        """How often nothing would have excused a failure: else a soak without violations says little."""
        if verdict is not YES or pod == world.FREE or self.model.troubles(pod, sent, *_excuses(verdict)):
            return
        self.tally.counts["queries that no fault excused"] += 1
        if self.model.troubles(pod, sent, "shim"):
            self.tally.counts["queries that no fault excused, without a shim"] += 1

    # --- connections --------------------------------------------------------------------------------------

    def connected(self, pod: str, address: str, port: int, key: Key, why: str) -> None:
        now = time.monotonic()
        self.model.connected(pod, address, now)
        self._later(lambda: self._connection(pod, address, port, key, now, why))

    def _connection(self, pod: str, address: str, port: int, key: Key, at: float, why: str) -> None:
        verdict = self.model.connection(pod, address, at, port)
        passed = key in self.passed
        self.tally.counts[f"connections {verdict.value} pass"] += 1
        if verdict is NO and passed:
            self.tally.violated("wrongly passed", pod, f"connection to {address}:{port} ({why})", at)
        elif verdict is YES and not passed:
            if self.model.excuses_loss(pod, at):
                self.tally.counts["connections lost to a fault"] += 1
            else:
                self.tally.violated("wrongly dropped", pod, f"connection to {address}:{port} ({why})", at)


def _excuses(verdict: Verdict, rcode: int = NOERROR) -> tuple[Trouble, ...]:
    """The faults by which a query may fail. What must be refused needs no DNS server; and what must not be is
    refused by no resolver, whatever has befallen it, but by a DNS server that has lost its own."""
    if verdict is NO:
        return "link", "resolver"
    return ("link", "upstream") if rcode == REFUSED else ("link", "upstream", "resolver")
