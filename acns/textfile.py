"""Text files that people write: the whole text, or what is wrong with the file, and where."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from acns.errors import InputError, Problem

MAX_BYTES = 8 << 20


def read(path: Path) -> str:
    """UTF-8, with `\\n` at the ends of lines. Raises InputError with the place.

    Only of a regular file: a pipe would be waited for, for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _wrong(path, "not a regular file")
            octets = os.read(descriptor, MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from error
    if len(octets) > MAX_BYTES:
        raise _wrong(path, f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        wrong = f"octet 0x{octets[error.start]:02x} is not UTF-8"
        raise _wrong(path, wrong, line, column, hint="save the file as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _wrong(path: Path, message: str, line: int = 1, column: int = 1, hint: str = "") -> InputError:
    return InputError([Problem(str(path), line, column, message, hint)])
