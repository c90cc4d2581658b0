"""A file of lines with a bound: past it the file becomes `NAME.1`, and the `NAME.1` of before is gone.

So a reader has at least the last `max_bytes` of lines, and the disk never more than twice as many. Lines are
appended whole; two programs that overlap for a moment (a restart) do not tear each other's.
"""

from __future__ import annotations

import os
from pathlib import Path

from acns.errors import EnvironmentFault

MAX_BYTES = 64 << 20


def older(path: Path) -> Path:
    """Where the lines before the file's own are."""
    return path.with_name(path.name + ".1")


class BoundedFile:
    """Mode 0600. `setting` is named in the hint of the error that `open` raises."""

    def __init__(self, path: Path, setting: str, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._setting = setting
        self._max_bytes = max_bytes
        self._descriptor = -1

    def open(self) -> None:
        """Go on at the end of what is there. Raises EnvironmentFault."""
        try:
            self._open()
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write {self.path}: {error.strerror}", hint=f"see {self._setting}"
            ) from error

    def append(self, lines: str | bytes) -> None:
        """Write whole lines. Raises OSError; the next call tries again."""
        if self._descriptor < 0:
            self._open()
        rest = memoryview(lines.encode() if isinstance(lines, str) else lines)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        if os.fstat(self._descriptor).st_size > self._max_bytes:
            self.path.replace(older(self.path))
            self.close()
            self._open()

    def close(self) -> None:
        """Nothing is written any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
