"""Reading a process's log, also while it grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

_POLL_S = 0.1


def show(path: Path, out: TextIO, *, follow_while: Callable[[], bool] = lambda: False) -> None:
    """Copy a log to `out`; go on with what is added for as long as `follow_while` says so."""
    with path.open(errors="replace") as log:
        while True:
            while text := log.read(65536):
                out.write(text)
            out.flush()
            if not follow_while():
                return
            time.sleep(_POLL_S)
