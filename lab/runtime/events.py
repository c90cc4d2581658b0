"""The lab's own journal: what happened to it, as JSON lines beside those of its agents.

The holder writes what its processes do, and whoever breaks something that he does: each line is appended in
one write, so several writers need no lock. What cannot be written is not worth a lab: it goes unsaid. The
file is bounded; its last line says that it is full.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 16 << 20
_MAX_LINE_BYTES: Final = 4096


class LabEvent(StrEnum):
    """Everything that may appear under `event`; beside each, its fields."""

    LAB_BUILT = "lab.built"  # topology
    LAB_CHANGED = "lab.changed"  # change
    PROCESS_STARTED = "process.started"  # process, pid, restarts
    PROCESS_READY = "process.ready"  # process, pid
    PROCESS_ENDED = "process.ended"  # process, how, held: by an operator, who wants it down
    MANIFEST_WRITTEN = "manifest.written"  # file
    MANIFEST_REMOVED = "manifest.removed"  # file
    NAMES_CHANGED = "names.changed"  # names
    FAULT_BEGINS = "fault.begins"  # fault
    FAULT_MENDED = "fault.mended"  # fault
    EVENTS_FULL = "events.full"


class EventLog:
    """Appends to `path`, which is made with the first line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, event: LabEvent, /, **fields: object) -> None:
        """Note that this happened now; fields are JSON-able, or printed."""
        with contextlib.suppress(OSError):
            self._append(event, fields)

    def _append(self, event: LabEvent, fields: dict[str, object]) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size < MAX_BYTES:
                full = size + _MAX_LINE_BYTES >= MAX_BYTES
                line = (
                    _line(LabEvent.EVENTS_FULL, {}).ljust(_MAX_LINE_BYTES) if full else _line(event, fields)
                )
                os.write(descriptor, line + b"\n")
        finally:
            os.close(descriptor)


def _line(event: LabEvent, fields: dict[str, object]) -> bytes:
    head = {"ts": time.time(), "agent": "lab", "event": event}
    line = json.dumps({**head, **fields}, default=str).encode()
    return line if len(line) < _MAX_LINE_BYTES else json.dumps({**head, "cut": True}).encode()
