"""Files that a command writes for its user: whole at once, nobody else's to read, nobody else's to redirect.

Root may write into a folder that others can write to. So the file is a new one, under a name that cannot be
known beforehand, of mode 0600, and takes the place of what is there when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lab.errors import InputError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """To be written in the block; it is at `path` afterwards. Raises InputError where that cannot be."""
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder", hint="choose another --output")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
        try:
            temporary.rename(path)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror}", hint="choose another --output")
