"""The lines of a file that an agent keeps adding to, and that becomes `NAME.1` when it is full.

Read from the oldest line that is left to the newest whole one, and then, call by call, what has been added.
A file that is rotated meanwhile is read to its end first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from acns.telemetry.bounded_file import older

_PART_BYTES = 1 << 18


class GrowingFile:
    """`path` need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._current: BinaryIO | None = None
        self._begun = b""
        self._has_begun = False

    def new_lines(self) -> Iterator[bytes]:
        """The whole lines since the last call, without their ends."""
        if not self._has_begun:
            self._has_begun = True
            yield from self._oldest_lines()
        yield from self._rest()
        while self._is_rotated():
            yield from self._rest()  # what was added between the two looks
            self._close()
            self._current = _opened(self.path)
            yield from self._rest()

    def close(self) -> None:
        self._close()

    def _oldest_lines(self) -> Iterator[bytes]:
        """Of the older file, which is opened after the newer one: so none is missed between them."""
        self._current = _opened(self.path)
        before = _opened(older(self.path))
        if before is None:
            return
        with before:
            if self._current is None or not _is_same(before, self._current):
                yield from self._lines(before)
                self._begun = b""

    def _rest(self) -> Iterator[bytes]:
        if self._current is None:
            self._current = _opened(self.path)
        if self._current is not None:
            yield from self._lines(self._current)

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        while part := file.read(_PART_BYTES):
            *whole, self._begun = (self._begun + part).split(b"\n")
            yield from whole

    def _is_rotated(self) -> bool:
        """Whether the path leads to another file by now."""
        if self._current is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._current.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current, self._begun = None, b""


def _opened(path: Path) -> BinaryIO | None:
    with contextlib.suppress(FileNotFoundError):
        return path.open("rb")
    return None


def _is_same(one: BinaryIO, other: BinaryIO) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))
