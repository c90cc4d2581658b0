"""What a person wants to see of a capture: for each pod, what it asked, what that opened, where it went.

Pure: values that `building` makes and `text` and `page` show. Times are nanoseconds since 1970. Names and
comments are anybody's: whoever shows them escapes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Lane(StrEnum):
    """Where an event stands."""

    DNS = "dns"
    SET = "set"
    TRAFFIC = "traffic"


class Mark(StrEnum):
    """What is worth a look; the words are those on the screen."""

    REFUSED = "refused"  # DNS: REFUSED; a connection: RST, an ICMP error, dropped by a policy
    FAILED = "failed"  # DNS: SERVFAIL and the like
    UNANSWERED = "unanswered"  # a query, a SYN
    RETRANSMITTED = "retransmitted"
    BEFORE_ANSWER = "connected before answer"  # or before the set had the address
    NEVER_LEARNED = "address never learned"  # no answer to this pod named it
    EXPIRED = "TTL expired"  # the last answer that named it was older than its TTL
    CUT = "cut"  # an established connection got no answers any more
    UNASKED = "unasked answer"  # to no query: late, doubled, or forged
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Event:
    """`until_ns`: of its end, where it has one: the answer, the expiry, the last packet. `kind`: `A`, `tcp`,
    `would add`, …; `what`, `outcome`: what is said of it. `why`: what the agents decided. `frames`: in the
    file."""

    at_ns: int
    lane: Lane
    kind: str
    what: str
    outcome: str = ""
    until_ns: int | None = None
    marks: tuple[Mark, ...] = ()
    why: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pod:
    """Whoever asked or connected. `name`: its best name; "" where the file has none."""

    address: str
    name: str
    events: tuple[Event, ...]

    def marks(self) -> Counter[Mark]:
        return Counter(mark for event in self.events for mark in event.marks)


@dataclass(frozen=True, slots=True)
class Timeline:
    """`common`: what is about no pod: policies, agents. `notes`: what is in the capture, what is wrong."""

    title: str
    first_ns: int
    last_ns: int
    pods: tuple[Pod, ...]
    common: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()
    is_own: bool = False
    """Taken by this project: sets are what the agents wrote down, not what they would have done."""

    @property
    def about(self) -> str:
        """How much it is."""
        events = sum(len(pod.events) for pod in self.pods)
        return f"{len(self.pods)} pod{'s' * (len(self.pods) != 1)}, {events} event{'s' * (events != 1)}"

    def marks(self) -> Counter[Mark]:
        return sum((pod.marks() for pod in self.pods), Counter())


def value(timeline: Timeline, version: int) -> Mapping[str, Any]:
    """For programs."""
    return {
        "version": version,
        "title": timeline.title,
        "first_ns": timeline.first_ns,
        "last_ns": timeline.last_ns,
        "is_own": timeline.is_own,
        "notes": list(timeline.notes),
        "marks": {mark.value: count for mark, count in timeline.marks().items()},
        "common": [_event(one) for one in timeline.common],
        "pods": [
            {"address": pod.address, "name": pod.name, "events": [_event(one) for one in pod.events]}
            for pod in timeline.pods
        ],
    }


def _event(event: Event) -> Mapping[str, Any]:
    return {
        "at_ns": event.at_ns,
        "until_ns": event.until_ns,
        "lane": event.lane.value,
        "kind": event.kind,
        "what": event.what,
        "outcome": event.outcome,
        "marks": [mark.value for mark in event.marks],
        "why": list(event.why),
        "frames": list(event.frames),
    }
