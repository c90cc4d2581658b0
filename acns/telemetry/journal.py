"""The decision journal: what the agents decided, as JSON lines that tests, captures and people read.

One vocabulary for both agents. Recording is an append to a list and never waits: a thread writes the lines.
When the disk is slower than the decisions the newest are dropped and counted, and a `journal.dropped` line
says how many; a query never waits for its record. The file is bounded.

On the path of a query even printing JSON is too much. `record_ready` takes a line that was made beforehand;
only the time of the moment is new, and it is printed once for all lines of a burst, when these are through.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from acns.errors import EnvironmentFault
from acns.telemetry import log as logs
from acns.telemetry.bounded_file import MAX_BYTES, BoundedFile

_GATHERED_S: Final = 0.02
"""Lines of so much time are written together: a thread that wakes for each costs more than the lines."""

_FIELDS_BYTES: Final = 256
"""What a line is that is not printed yet, about."""

log = logs.named(__name__)

Part = dict[str, Any] | bytes
"""The fields of a line, or finished lines."""


class Event(StrEnum):
    """Everything that may appear under `event`; beside each, its fields."""

    DNS_QUERY = "dns.query"  # endpoint, source, server, transport, name, type, verdict, rcode, reason
    DNS_ANSWER = "dns.answer"  # endpoint, source, server, transport, name, rcode, addresses, ttl, outcome
    DNS_IGNORED = "dns.ignored"  # server, transport, reason: an answer that does not count
    OVER_BUDGET = "dns.over-budget"  # source, transport, kind, count: since the last such line of this pod
    MAPPING_SENT = "mapping.sent"  # name, addresses, ttl, outcome, took_ms
    MAPPING_QUEUED = "mapping.queued"  # name, addresses, ttl, why
    MAPPING_REPLAYED = "mapping.replayed"  # name, addresses, ttl, outcome
    MAPPING_COMMITTED = "mapping.committed"  # name, addresses, ttl, sets (the selectors): the shim's side
    MAPPING_REFUSED = "mapping.refused"  # name, reason
    ADDRESS_GONE = "address.gone"  # name, address, selectors, why; selector, count, why: all of a selector's
    POLICY_SNAPSHOT = "policy.snapshot"  # request_id, endpoints, rules, outcome
    POLICY_COMMITTED = "policy.committed"  # endpoints, took_ms, laps_ms: the kernel has it
    POLICY_REFUSED = "policy.refused"  # problems
    KERNEL_DRIFT = "kernel.drift"  # changes, first: somebody else's, undone
    AGENT_CONNECTED = "agent.connected"  # peer
    AGENT_LOST = "agent.lost"  # peer, reason
    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    JOURNAL_DROPPED = "journal.dropped"  # count


class Journal:
    """Writes decisions to `path`; with an empty path it is off and `record` costs one comparison.

    At most `limit_bytes` of lines wait to be written, about.
    """

    def __init__(
        self,
        path: str,
        agent: str,
        *,
        limit_bytes: int = 16 << 20,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.on = bool(path)
        self.dropped = 0
        self._file = BoundedFile(Path(path), "journal_file", max_bytes)
        self._agent = agent
        self._limit_bytes = limit_bytes
        self._clock = clock
        self.lines: list[bytes] = []
        """Finished lines of the last `burst`, but for their time: always the same list."""
        self.full = False
        self._queued: list[Part] = []
        self._queued_bytes = 0  # ever; counted by who records
        self._written_bytes = 0  # the writer
        self._wanted = threading.Event()
        self._idle = True
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._reported = 0
        self._now = 0.0

    def start(self) -> None:
        if self.on:
            self._file.open()
            self._thread.start()

    def record(self, event: Event, /, **fields: object) -> None:
        """Note a decision now; fields must be JSON-able (others are printed with `str`)."""
        if not self.on:
            return
        if self._is_full():
            self.dropped += 1
            return
        self._join()
        self._queued_bytes += _FIELDS_BYTES
        self._queued.append({"ts": self._clock(), "agent": self._agent, "event": event, **fields})
        if self._idle:
            self._wake()

    def burst(self) -> None:
        """A moment, whose time the lines of `record_ready` get from now on. Others may append to `lines`
        themselves, while it is `on` and not `full`, and then `nudge`."""
        if self.lines:
            self.nudge()
        self._now = self._clock()
        self.full = self._queued_bytes - self._written_bytes >= self._limit_bytes  # as `_is_full`

    def record_ready(self, line: bytes) -> None:
        """Note a decision of the last `burst`: the rest of its line, from `, "agent"` to the line's end. It
        is written after the next `nudge`."""
        if self.full:
            self.dropped += 1
        else:
            self.lines.append(line)

    def nudge(self) -> None:
        """Hand what has come together to the writer: joined here, so that it has few things to touch."""
        if self.lines:
            self._join()
            if self._idle:
                self._wake()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued and stop; gives up after `timeout_s`."""
        self._join()
        if self.on and self._thread.is_alive():
            self._closing = True
            self._wanted.set()
            self._thread.join(timeout_s)
        self.on = False

    def _is_full(self) -> bool:
        return self._queued_bytes - self._written_bytes >= self._limit_bytes

    def _join(self) -> None:
        if self.lines:
            begin = b'{"ts": %.6f' % self._now
            joined = begin + begin.join(self.lines)
            self.lines.clear()
            self._queued_bytes += len(joined)
            self._queued.append(joined)

    def _wake(self) -> None:
        self._idle = False
        self._wanted.set()

    # --- the writer's thread ------------------------------------------------------------------------

    def _write(self) -> None:
        closing = False
        while not closing:
            closing = self._gather()
            batch = self._take()
            weight = sum(map(_weight, batch))
            if self.dropped != self._reported:
                batch.append(self._dropped_line())
            if not batch:
                continue
            try:
                self._file.append(_octets(batch))
            except (OSError, ValueError) as error:
                self.dropped += sum(map(_lines_in, batch))
                self.on = False
                log.failure("journal stopped", EnvironmentFault(str(error)), file=str(self._file.path))
                return
            self._written_bytes += weight
        self._file.close()

    def _gather(self) -> bool:
        """Wait until there is something to write; whether it is the last."""
        if not self._queued:
            self._idle = True
            # A line that came before `_idle` was set has woken nobody.
            if not self._queued and not self._closing:
                self._wanted.wait()
            self._wanted.clear()
        if not self._closing:
            time.sleep(_GATHERED_S)
        return self._closing

    def _take(self) -> list[Part]:
        """What is there. Others append to the same list meanwhile: what they add stays."""
        count = len(self._queued)
        batch = self._queued[:count]
        del self._queued[:count]
        return batch

    def _dropped_line(self) -> bytes:
        count, self._reported = self.dropped - self._reported, self.dropped
        line = {"ts": self._clock(), "agent": self._agent, "event": Event.JOURNAL_DROPPED, "count": count}
        return _printed(line)


def _octets(parts: list[Part]) -> bytes:
    return b"".join([one if isinstance(one, bytes) else _printed(one) for one in parts])


def _printed(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, default=str).encode() + b"\n"


def _weight(part: Part) -> int:
    return len(part) if isinstance(part, bytes) else _FIELDS_BYTES


def _lines_in(part: Part) -> int:
    return part.count(b"\n") if isinstance(part, bytes) else 1
