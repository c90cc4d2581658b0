"""What must be allowed, what must not, and what may be either: written from the design, not from the agents.

The model is told what happened (edits of policies, faults, queries, answers as their pods saw them), with
times of one monotonic clock, and judges afterwards. Its answers are YES, NO, and EITHER where a change was
under way. Faults excuse what gets lost in them, and nothing else: what must not pass must not pass in any
weather. A dead shim excuses nothing that a pod could notice.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from . import world

BEFORE_S, AFTER_S = 0.1, 1.0
"""A fault excuses what was sent so long after it was over, and so long before it began: an answer may be
under way for that long, on a slow machine for SLOW times as long as the slowest of a pod without policy."""
SLOW = 3.0
_LATELY_S = 20.0
FORGET_S = 120.0
DUPLICATE_S = 11.0
"""dnsmasq puts a repeated question to its first asking, as long as that has no answer: 10 s."""


class Verdict(Enum):
    YES = "must"
    NO = "must not"
    EITHER = "may"


YES, NO, EITHER = Verdict.YES, Verdict.NO, Verdict.EITHER
Trouble = Literal["resolver", "shim", "upstream", "link"]


@dataclass(slots=True)
class Disturbance:
    """A fault from its beginning until all is seen well again. `place`: of a link, whose."""

    trouble: Trouble
    place: str
    text: str
    began: float
    ended: float = math.inf

    def touches(self, start: float, end: float) -> bool:
        return self.began <= end and start <= self.ended


@dataclass(slots=True)
class Change:
    """A selector comes to a pod's policy, or goes; until `settled` it may be either."""

    present: bool
    began: float
    settled: float = math.inf


@dataclass(frozen=True, slots=True)
class Mapping:
    """A pod was told that a name has this address. Its TTL runs at least until `until`: counted from the
    query, since when the answer came is not known to a client that is slow to read it."""

    pod: str
    name: str
    address: str
    at: float
    until: float


def matches(selector: str, name: str) -> bool:
    """`*.zone` is one label more; anything else is the name itself."""
    if selector.startswith("*."):
        return name.partition(".")[2] == selector[2:]
    return name == selector


class Policies:
    """Which selectors each pod has had, and when."""

    def __init__(self) -> None:
        self._changes: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)

    def edit(self, pod: str, selector: str, present: bool, now: float) -> Change:
        change = Change(present, now)
        self._changes[pod, selector].append(change)
        return change

    def permission(self, pod: str, name: str, start: float, end: float) -> Verdict:
        """Whether the pod's policy allows the name, all of that time."""
        if pod == world.FREE:
            return YES
        found = [self._presence(pod, one, start, end) for one in self._selectors(pod) if matches(one, name)]
        if YES in found:
            return YES
        return EITHER if EITHER in found else NO

    def could_allow(self, pod: str, name: str) -> bool:
        """Whether some edit may let the pod have the name."""
        return any(matches(one, name) for one in self._selectors(pod))

    def _selectors(self, pod: str) -> Iterable[str]:
        return (world.own(pod), world.EXTRA, *world.KEPT)

    def _presence(self, pod: str, selector: str, start: float, end: float) -> Verdict:
        if selector == world.own(pod):
            return YES
        present = False
        for change in self._changes[pod, selector]:
            if change.began <= end and start <= change.settled:
                return EITHER
            if change.settled < start:
                present = change.present
        return YES if present else NO


class Weather:
    """The faults so far."""

    def __init__(self) -> None:
        self.all: list[Disturbance] = []

    def begins(self, disturbance: Disturbance) -> Disturbance:
        self.all.append(disturbance)
        return disturbance

    def around(self, start: float, end: float, *troubles: Trouble, pod: str = "") -> list[Disturbance]:
        """Those that touch this time; of links only the node's and the pod's."""
        return [
            one
            for one in reversed(self.all[-200:])
            if one.trouble in troubles
            and one.touches(start, end)
            and (one.trouble != "link" or not pod or one.place in ("node1", pod, f"default/{pod}"))
        ]


class Model:
    """All that is known, and the judge."""

    def __init__(self, owners: dict[str, str]) -> None:
        """`owners`: address → the only name that has it; more come with `publish`."""
        self.policies, self.weather = Policies(), Weather()
        self._owners = owners
        self._asked: dict[str, list[float]] = {}
        """Name → when pods with a policy asked for it that might get it."""
        self._told: defaultdict[str, list[Mapping]] = defaultdict(list)
        """Address → mappings, by pods with a policy."""
        self._lost: dict[str, float] = {}
        self._connected: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        self._took: deque[tuple[float, float]] = deque(maxlen=200)
        """When a pod without policy was answered, in good weather, and how long that took."""

    def publish(self, owners: dict[str, str]) -> None:
        self._owners.update(owners)

    def is_true(self, name: str, addresses: Iterable[str]) -> bool:
        """Whether these are the name's own."""
        return all(self._owners.get(one) == name for one in addresses)

    # --- what happens -------------------------------------------------------------------------------------

    def asked(self, pod: str, name: str, now: float) -> None:
        """Remembered also where it was denied just then: an edit that begins later may still let it pass."""
        if pod != world.FREE and self.policies.could_allow(pod, name):
            self._asked.setdefault(name, []).append(now)

    def told(self, mapping: Mapping) -> None:
        if mapping.pod != world.FREE:
            self._told[mapping.address].append(mapping)

    def connected(self, pod: str, address: str, now: float) -> None:
        if pod != world.FREE:
            self._connected[address].append((pod, now))

    def answered(self, pod: str, name: str, sent: float, took_s: float) -> None:
        """Of a pod without policy no agent of ours is in the way: so slow is the machine."""
        calm = not self.weather.around(sent - BEFORE_S, sent + took_s, "link", "upstream", pod=pod)
        if pod == world.FREE and calm:
            self._took.append((sent, took_s))

    def after_s(self, now: float) -> float:
        lately = [took_s for sent, took_s in self._took if abs(now - sent) < _LATELY_S]
        return AFTER_S + SLOW * max(lately, default=0.0)

    def living(self, start: float, end: float) -> Iterator[Mapping]:
        """Mappings told before `start` that the policy of their pod has allowed ever since, TTL not over at
        `end`."""
        for mappings in list(self._told.values()):
            for one in mappings:
                lives = one.at < start and end < one.until
                if lives and self.policies.permission(one.pod, one.name, one.at, end) is YES:
                    yield one

    def forget(self, now: float) -> None:
        """What is too old to matter."""
        for address in [one for one, told in self._told.items() if told[-1].at < now - FORGET_S]:
            del self._told[address]
        for address, told in self._told.items():
            self._told[address] = [one for one in told if one.at > now - FORGET_S]
        for address in [one for one, made in self._connected.items() if made[-1][1] < now - FORGET_S]:
            del self._connected[address]
        for name in [one for one, asked in self._asked.items() if asked[-1] < now - FORGET_S]:
            self._asked[name] = self._asked[name][-1:]
        for name, asked in self._asked.items():
            self._asked[name] = asked[-200:]

    # --- queries ------------------------------------------------------------------------------------------

    def query(self, pod: str, name: str, sent: float, answered: float) -> Verdict:
        """Whether the pod must get the name's addresses."""
        return self.policies.permission(pod, name, sent - BEFORE_S, answered + BEFORE_S)

    def troubles(self, pod: str, sent: float, *kinds: Trouble) -> bool:
        """Whether such a fault stood in the way of the pod's query, or of its answer."""
        felt = [one for one in kinds if one != "resolver" or pod != world.FREE]
        return bool(self.weather.around(sent - BEFORE_S, sent + self.after_s(sent), *felt, pod=pod))

    def excuses_silence(self, pod: str, name: str, sent: float, *kinds: Trouble) -> bool:
        """Whether a fault may have lost the query, its answer, or made it fail."""
        excused = self.troubles(pod, sent, *kinds)
        if excused and "upstream" in kinds:
            self._lost[name] = max(sent, self._lost.get(name, sent))
        return excused

    def excuses_repetition(self, name: str, sent: float) -> bool:
        """Whether the DNS server may take it for one that a fault has lost."""
        return sent < self._lost.get(name, -math.inf) + DUPLICATE_S

    # --- connections --------------------------------------------------------------------------------------

    def connection(self, pod: str, address: str, at: float, port: int = world.PORT) -> Verdict:
        """Whether a connection begun then must get through."""
        if pod == world.FREE:
            return YES
        if port != world.PORT:
            return NO
        name = self._owners[address]
        if self.policies.permission(pod, name, at, at + BEFORE_S) is NO:
            return NO
        if any(self._opens(pod, one, at) for one in self._told.get(address, ())):
            return YES
        asked = [one for one in self._asked.get(name, ()) if one <= at + BEFORE_S]
        if not asked or self._is_over(address, max(asked), at):
            return NO
        return EITHER

    def excuses_loss(self, pod: str, at: float) -> bool:
        return bool(self.weather.around(at - BEFORE_S, at + BEFORE_S, "link", pod=pod))

    def _opens(self, pod: str, told: Mapping, at: float) -> bool:
        lives = told.at <= at < told.until
        return lives and self.policies.permission(pod, told.name, told.at, at + BEFORE_S) is YES

    def _is_over(self, address: str, asked: float, at: float) -> bool:
        """Whether everybody must have let the name's address go: its TTL, a third more of it for what was
        not told (ADR 10), collections by a shim that was well. One whose end may have been lost with a link
        lives on in the kernel, and keeps the address."""
        unended = any(
            self.weather.around(made - BEFORE_S, made + self.after_s(made), "link", pod=pod)
            for pod, made in self._connected.get(address, ())
        )
        return at > asked + 40.0 and not unended and not self.weather.around(at - 12.0, at, "shim")
