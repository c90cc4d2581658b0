"""The decision journal: what the agents decided, as JSON lines that tests, captures and people read.

One vocabulary for both agents. Recording is an append to a list and never waits: a thread writes the lines.
When the disk is slower than the decisions the newest are dropped and counted, and a `journal.dropped` line
says how many; a query never waits for its record. The file is bounded.

On the path of a query even printing JSON is too much. `record_ready` takes a line in pieces that were made
beforehand; only the time of the moment is new, and it is printed once for all lines of a burst.
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

log = logs.named(__name__)

Part = dict[str, Any] | bytes
"""The fields of a line, or a piece of a finished one."""


class Event(StrEnum):
    """Everything that may appear under `event`; beside each, its fields."""

    DNS_QUERY = "dns.query"  # endpoint, source, server, transport, name, type, verdict, rcode, reason
    DNS_ANSWER = "dns.answer"  # endpoint, source, server, transport, name, rcode, addresses, ttl, outcome
    DNS_IGNORED = "dns.ignored"  # server, transport, reason: an answer that does not count
    OVER_BUDGET = "dns.over-budget"  # source, transport, kind, count: since the last such line of this pod
    MAPPING_SENT = "mapping.sent"  # name, addresses, ttl, outcome, took_ms
    MAPPING_QUEUED = "mapping.queued"  # name, addresses, ttl, why
    MAPPING_REPLAYED = "mapping.replayed"  # name, addresses, ttl, outcome
    MAPPING_COMMITTED = "mapping.committed"  # name, addresses, ttl, sets: the shim's side
    MAPPING_REFUSED = "mapping.refused"  # name, reason
    ADDRESS_GONE = "address.gone"  # name, address, selectors, why; selector, count, why: with its set
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

    At most `limit` pieces of lines wait to be written, about.
    """

    def __init__(
        self,
        path: str,
        agent: str,
        *,
        limit: int = 262_144,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.on = bool(path)
        self.dropped = 0
        self._file = BoundedFile(Path(path), "journal_file", max_bytes)
        self._agent = agent
        self._limit = limit
        self._clock = clock
        self.lines: list[Part] = []
        """What is to be written, oldest first, in pieces: the same list always."""
        self.full = False
        self._wanted = threading.Event()
        self._idle = True
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._reported = 0
        self.now = b""

    def start(self) -> None:
        if self.on:
            self._file.open()
            self._thread.start()

    def record(self, event: Event, /, **fields: object) -> None:
        """Note a decision now; fields must be JSON-able (others are printed with `str`)."""
        if self.on:
            self._add(({"ts": self._clock(), "agent": self._agent, "event": event, **fields},))

    def burst(self) -> None:
        """A moment, whose time the lines of `record_ready` get from now on. Others may extend `lines`
        themselves, by a whole line at once with `now` as its first piece, while it is `on` and not `full`,
        and then `nudge`."""
        self.now = b'{"ts": %.6f' % self._clock()
        self.full = len(self.lines) >= self._limit

    def record_ready(self, *pieces: bytes) -> None:
        """Note a decision of the last `burst`: the rest of its line, from `, "agent"` to the line's end."""
        self._add((self.now, *pieces))

    def nudge(self) -> None:
        """Wake the writer if there is something for it."""
        if self._idle and self.lines:
            self._idle = False
            self._wanted.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued and stop; gives up after `timeout_s`."""
        if self.on and self._thread.is_alive():
            self._closing = True
            self._wanted.set()
            self._thread.join(timeout_s)
        self.on = False

    def _add(self, line: tuple[Part, ...]) -> None:
        if len(self.lines) >= self._limit:
            self.dropped += 1
            return
        self.lines.extend(line)
        self.nudge()

    # --- the writer's thread ------------------------------------------------------------------------

    def _write(self) -> None:
        closing = False
        while not closing:
            closing = self._gather()
            batch = self._take()
            if self.dropped != self._reported:
                batch.append(self._dropped_line())
            if not batch:
                continue
            try:
                self._file.append(_octets(batch))
            except (OSError, ValueError) as error:
                self.dropped += sum(map(_ends_line, batch))
                self.on = False
                log.failure("journal stopped", EnvironmentFault(str(error)), file=str(self._file.path))
                return
        self._file.close()

    def _gather(self) -> bool:
        """Wait until there is something to write; whether it is the last."""
        if not self.lines:
            self._idle = True
            # A line that came before `_idle` was set has woken nobody.
            if not self.lines and not self._closing:
                self._wanted.wait()
            self._wanted.clear()
        if not self._closing:
            time.sleep(_GATHERED_S)
        return self._closing

    def _take(self) -> list[Part]:
        """What is there. Others append to the same list meanwhile: what they add stays."""
        count = len(self.lines)
        batch = self.lines[:count]
        del self.lines[:count]
        return batch

    def _dropped_line(self) -> dict[str, Any]:
        count, self._reported = self.dropped - self._reported, self.dropped
        return {"ts": self._clock(), "agent": self._agent, "event": Event.JOURNAL_DROPPED, "count": count}


def _octets(parts: list[Part]) -> bytes:
    try:
        return b"".join(parts)  # type: ignore[arg-type]  # mostly they are finished
    except TypeError:
        return b"".join([one if isinstance(one, bytes) else _printed(one) for one in parts])


def _printed(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, default=str).encode() + b"\n"


def _ends_line(part: Part) -> bool:
    return not isinstance(part, bytes) or part.endswith(b"\n")
