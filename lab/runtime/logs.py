"""Reading a process's log, also while it grows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol, TextIO

_POLL_S = 0.1


class Out(Protocol):
    """What a log is copied to."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> None: ...


class AsJSON:
    """Prints each line as a JSON object; one without its end waits for it."""

    def __init__(self, out: TextIO, version: int, process: str) -> None:
        self._out = out
        self._head = {"version": version, "process": process}
        self._begun = ""

    def write(self, text: str, /) -> None:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._out.write(json.dumps({**self._head, "line": line}) + "\n")

    def flush(self) -> None:
        self._out.flush()


def copy(stream: IO[str], out: Out) -> None:
    """Copy to `out` what comes, as it comes, until nothing will."""
    for line in stream:
        out.write(line)
        out.flush()


def show(path: Path, out: Out, *, follow_while: Callable[[], bool] = lambda: False) -> None:
    """Copy a log to `out`; go on with what is added for as long as `follow_while` says so."""
    with path.open(errors="replace") as log:
        while True:
            while text := log.read(65536):
                out.write(text)
            out.flush()
            if not follow_while():
                return
            time.sleep(_POLL_S)
