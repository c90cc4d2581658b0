"""The decision journal: what the agents decided, as JSON lines that tests, captures and people read.

One vocabulary for both agents. `record` is a queue append and never waits: a thread writes the lines. When
the disk is slower than the decisions the newest are dropped and counted, and a `journal.dropped` line says
how many; a query never waits for its record. The file is bounded.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from acns.errors import EnvironmentFault
from acns.telemetry import log as logs
from acns.telemetry.bounded_file import MAX_BYTES, BoundedFile

_BATCH: Final = 512

log = logs.named(__name__)


class Event(StrEnum):
    """Everything that may appear under `event`; beside each, its fields."""

    DNS_QUERY = "dns.query"  # endpoint, source, server, transport, name, type, verdict, rcode, reason
    DNS_ANSWER = "dns.answer"  # endpoint, source, server, transport, name, rcode, addresses, ttl, outcome
    DNS_IGNORED = "dns.ignored"  # server, transport, reason: an answer that does not count
    OVER_BUDGET = "dns.over-budget"  # source, transport, kind, count: since the last such line of this pod
    MAPPING_SENT = "mapping.sent"  # name, addresses, ttl, endpoint, outcome, took_ms
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
    """Writes decisions to `path`; with an empty path it is off and `record` costs one comparison."""

    def __init__(
        self,
        path: str,
        agent: str,
        *,
        limit: int = 16_384,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.on = bool(path)
        self.dropped = 0
        self._file = BoundedFile(Path(path), "journal_file", max_bytes)
        self._agent = agent
        self._limit = limit
        self._clock = clock
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._reported = 0

    def start(self) -> None:
        if self.on:
            self._file.open()
            self._thread.start()

    def record(self, event: Event, /, **fields: object) -> None:
        """Note a decision now; fields must be JSON-able (others are printed with `str`)."""
        if not self.on:
            return
        if self._queue.qsize() >= self._limit:
            self.dropped += 1
            return
        self._queue.put({"ts": self._clock(), "agent": self._agent, "event": event, **fields})

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued and stop; gives up after `timeout_s`."""
        if self.on and self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout_s)
        self.on = False

    # --- the writer's thread ------------------------------------------------------------------------

    def _write(self) -> None:
        running = True
        while running:
            batch, running = self._batch()
            if self.dropped != self._reported:
                batch.append(self._dropped_line())
            try:
                self._file.append("".join(json.dumps(line, default=str) + "\n" for line in batch))
            except (OSError, ValueError) as error:
                self.dropped += len(batch)
                self.on = False
                log.failure("journal stopped", EnvironmentFault(str(error)), file=str(self._file.path))
                return
        self._file.close()

    def _batch(self) -> tuple[list[dict[str, Any]], bool]:
        """The lines that are there, at least one unless the end has come; and whether to go on."""
        item = self._queue.get()
        batch: list[dict[str, Any]] = []
        with contextlib.suppress(queue.Empty):
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH:
                    break
                item = self._queue.get_nowait()
        return batch, item is not None

    def _dropped_line(self) -> dict[str, Any]:
        count, self._reported = self.dropped - self._reported, self.dropped
        return {"ts": self._clock(), "agent": self._agent, "event": Event.JOURNAL_DROPPED, "count": count}
