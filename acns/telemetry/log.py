"""Logs of the agents: one JSON object a line, to stderr or to a file.

A line has `ts` (UTC, microseconds), `level`, `event` (a short fixed sentence or dotted word, to search by),
`logger`, and the fields of that event. What varies goes into fields, never into `event`. Nothing is logged
per packet: a hostile pod must not be able to fill a disk (counters and the journal are for that).

    log = logs.named(__name__)
    log.info("policy applied", endpoints=12, request_id="…")
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from acns.errors import AcnsError, EnvironmentFault

LEVELS: Final = ("debug", "info", "warning", "error")


class Log:
    """A logger whose calls take fields by keyword."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        self._emit(logging.ERROR, event, fields)

    def failure(self, event: str, error: BaseException, /, **fields: object) -> None:
        """An error with its cause; the traceback only where it is our bug (no AcnsError)."""
        trace = None if isinstance(error, AcnsError) else error
        self._emit(logging.ERROR, event, {"error": str(error) or type(error).__name__, **fields}, trace)

    def _emit(
        self, level: int, event: str, fields: dict[str, object], trace: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={"fields": fields}, exc_info=trace)


def named(name: str) -> Log:
    """The log of a module; `name` is its `__name__`."""
    return Log(name)


class Seldom:
    """Lets one line through per interval, for what hostile or failing peers can cause at any rate."""

    __slots__ = ("_clock", "_interval_s", "_next")

    def __init__(self, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._next = float("-inf")

    def __call__(self) -> bool:
        """Whether to log now."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._interval_s
        return True


class JSONLines(logging.Formatter):
    """Records, foreign ones (asyncio, grpc) included, as JSON lines."""

    def __init__(self, agent: str) -> None:
        super().__init__()
        self._agent = agent

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "agent": self._agent,
            "event": record.getMessage(),
            "logger": record.name,
        }
        for key, value in getattr(record, "fields", {}).items():
            line[f"{key}_" if key in line else key] = value
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(agent: str, file: str = "", level: str = "info") -> None:
    """Send every log of this process to `file` (empty: stderr). A file may be rotated under us."""
    handler = _handler(file)
    handler.setFormatter(JSONLines(agent))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def _handler(file: str) -> logging.Handler:
    if not file:
        return logging.StreamHandler()
    try:
        return logging.handlers.WatchedFileHandler(Path(file), encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write the log {file}: {error.strerror}", hint="see log_file"
        ) from error
