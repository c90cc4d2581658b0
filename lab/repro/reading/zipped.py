"""Bundles as files: which files they are, and how reading one can fail."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Final

_START: Final = b"PK\x03\x04"
BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError, OSError,
    ValueError,
)  # fmt: skip
"""What a damaged or hostile zip file raises."""


def is_zip(path: Path) -> bool:
    """By its start: a capture may well end with somebody's zip file."""
    try:
        with path.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False
