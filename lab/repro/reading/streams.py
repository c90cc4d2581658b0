"""The DNS messages in one direction of a TCP connection (RFC 7766): segments in any order, overlapping.

Octets that are not in the capture (cut off by its snap length, or lost) are a hole: a message that has one
is known up to there, and the next one is found behind it, since the stream counts its octets. Where the
length of a message itself is in a hole, it is hoped that the next segment begins with a message.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from lab.repro.reading.evidence import Kind
from lab.repro.reading.notes import Flaw
from lab.repro.reading.sightings import Heard

_LENGTH_OCTETS: Final = 2
_MAX_MESSAGE_OCTETS: Final = 0xFFFF
_HEADER_OCTETS: Final = 12
_OVERHEAD_BYTES: Final = 512
_HALF: Final = 1 << 31
_ALL: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Found:
    """A message: what is known of its `size` octets, and the packets that brought it."""

    payload: bytes
    size: int
    heard: tuple[Heard, ...]


@dataclass(slots=True)
class Budget:
    """What may wait, of all streams together, and in one."""

    left: int
    of_one: int


@dataclass(frozen=True, slots=True)
class _Segment:
    payload: bytes
    size: int
    heard: Heard


class Stream:
    """`start`: the sequence number of the first octet. `from_the_start`: that a SYN said so; else it is hoped
    that a message begins there. Whoever takes messages out of it takes all, or none."""

    def __init__(self, start: int, *, from_the_start: bool, budget: Budget) -> None:
        self._start = start
        self._from_the_start = from_the_start
        self._budget = budget
        self._next = 0  # how many octets are in, or passed over; what is in the buffer ends there
        self._buffer = bytearray()
        self._holes: deque[tuple[int, int]] = deque()  # from octet, to octet of the stream
        self._brought: deque[tuple[int, Heard]] = deque()  # up to which octet, by whom
        self._waiting: dict[int, _Segment] = {}
        self._order: list[int] = []  # a heap of what waits
        self._waits = self._keeps = 0
        self._lost = False

    def take(self, seq: int, payload: bytes, size: int, heard: Heard) -> Iterator[Found]:
        """The messages that are whole with this. Raises Flaw where something is lost; what comes later may be
        read again."""
        at = self._next + _distance(seq, self._start + self._next)
        if self._lost or not size or at + size <= self._next or at < 0:
            return
        segment = _Segment(payload, size, heard)
        if at > self._next:
            self._wait(at, segment)
            if self._waits > self._budget.of_one or self._budget.left < 0:
                yield from self._jump()
            return
        self._append(at, segment)
        self._drain()
        yield from self._messages()

    def finish(self) -> Iterator[Found]:
        """What is there at the end, whatever is missing. Raises Flaw, and may be called again then."""
        yield from self._messages()
        while self._waiting:
            yield from self._jump()
        if self._buffer:
            self._lose(self._next, "a DNS message over TCP of which the end is missing")

    def _wait(self, at: int, segment: _Segment) -> None:
        known = self._waiting.get(at)
        if known is None:
            heapq.heappush(self._order, at)
        if known is None or known.size < segment.size:
            self._waiting[at] = segment
            self._hold(segment.size - known.size if known else segment.size + _OVERHEAD_BYTES)

    def _hold(self, octets: int) -> None:
        """What waits grew by so much."""
        self._waits += octets
        self._budget.left -= octets

    def _jump(self) -> Iterator[Found]:
        """Over what is missing before the first that waits: it will not come any more."""
        missing = self._order[0] - self._next
        if missing > _MAX_MESSAGE_OCTETS:
            self._lose(self._order[0], "a TCP connection to a DNS server of which segments are missing")
        if missing > 0:
            self._append(self._next, _Segment(b"", missing, self._waiting[self._order[0]].heard))
        self._drain()
        yield from self._messages()

    def _drain(self) -> None:
        """What is next of all that waits."""
        while self._order and self._order[0] <= self._next:
            at = heapq.heappop(self._order)
            segment = self._waiting.pop(at)
            self._hold(-segment.size - _OVERHEAD_BYTES)
            if at + segment.size > self._next:
                self._append(at, segment)

    def _append(self, at: int, segment: _Segment) -> None:
        """What of it is new: what came first counts, as it does for most receivers."""
        known = self._next - at
        payload, size = segment.payload[known:], segment.size - known
        self._buffer += payload
        if len(payload) < size:
            self._holes.append((self._next + len(payload), self._next + size))
            self._buffer += bytes(size - len(payload))
        self._next += size
        self._brought.append((self._next, segment.heard))
        self._keep(size + _OVERHEAD_BYTES)

    def _keep(self, octets: int) -> None:
        """What is in the buffer grew by so much. Raises Flaw where all together is too much."""
        self._keeps += octets
        self._budget.left -= octets
        if self._budget.left < -self._budget.of_one:
            self._give_up()

    def _messages(self) -> Iterator[Found]:
        while len(self._buffer) >= _LENGTH_OCTETS:
            start = self._next - len(self._buffer)
            if self._known_until(start, start + _LENGTH_OCTETS) < start + _LENGTH_OCTETS:
                why = "a TCP connection to a DNS server of which a message's length is missing"
                self._lose(self._holes[0][1], why)
            size = self._buffer[0] << 8 | self._buffer[1]
            if not self._from_the_start and not self._is_a_beginning(size):
                return
            if len(self._buffer) < _LENGTH_OCTETS + size:
                return
            yield self._cut(start, size)

    def _is_a_beginning(self, size: int) -> bool:
        """Of a stream that nobody saw begin: a header with one question. False as long as it is not there."""
        if len(self._buffer) < _LENGTH_OCTETS + _HEADER_OCTETS:
            return False
        if size < _HEADER_OCTETS or self._buffer[6:8] != b"\0\1":
            self._lose(self._next, "a TCP connection to a DNS server, of which the beginning is missing")
        self._from_the_start = True
        return True

    def _cut(self, start: int, size: int) -> Found:
        """The first message off the buffer."""
        first, end = start + _LENGTH_OCTETS, start + _LENGTH_OCTETS + size
        payload = bytes(self._buffer[_LENGTH_OCTETS : self._known_until(first, end) - start])
        del self._buffer[: end - start]
        heard, until = [], start
        while self._brought and self._brought[0][0] <= end:
            until, one = self._brought.popleft()
            heard.append(one)
        if until < end:
            heard.append(self._brought[0][1])
        self._forget(end)
        return Found(payload, size, tuple(dict.fromkeys(heard)))

    def _known_until(self, first: int, end: int) -> int:
        """Up to where octets from `first` are known: holes before are gone."""
        hole = self._holes[0][0] if self._holes else end
        return min(end, max(first, hole))

    def _lose(self, until: int, why: str) -> NoReturn:
        """What is before that octet; a message is looked for behind."""
        start = self._next - len(self._buffer)
        del self._buffer[: until - start]
        self._next = max(self._next, until)
        self._forget(until)
        self._from_the_start = False
        raise Flaw(Kind.INCOMPLETE, why)

    def _forget(self, until: int) -> None:
        while self._brought and self._brought[0][0] <= until:
            self._brought.popleft()
        while self._holes and self._holes[0][1] <= until:
            self._holes.popleft()
        self._keep(len(self._buffer) + len(self._brought) * _OVERHEAD_BYTES - self._keeps)

    def _give_up(self) -> NoReturn:
        self._lost = True
        self._budget.left += self._waits + self._keeps
        self._waits = self._keeps = 0
        for part in (self._waiting, self._order, self._buffer, self._brought, self._holes):
            part.clear()
        raise Flaw(Kind.TOO_MUCH, "more unfinished DNS messages over TCP than are taken in")


def _distance(seq: int, after: int) -> int:
    """How far a sequence number is from another, either way."""
    distance = (seq - after) & _ALL
    return distance if distance < _HALF else distance - _ALL - 1
