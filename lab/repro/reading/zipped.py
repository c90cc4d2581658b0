"""Bundles as files: which files they are, how reading one can fail, and the capture in one."""

from __future__ import annotations

import lzma
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from lab.errors import InputError
from lab.repro.reading import capture
from lab.repro.reading.evidence import Evidence, Limits

_CAPTURE: Final = "capture.pcapng"
_PIECE: Final = 1 << 20
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


def captured(archive: zipfile.ZipFile, limits: Limits) -> Evidence:
    """What the capture in it is evidence of. Raises InputError, or what is `BROKEN`."""
    if _CAPTURE not in archive.namelist():
        raise InputError(f"the bundle has no {_CAPTURE}", hint="its missing.txt says why")
    with archive.open(_CAPTURE) as packed, tempfile.NamedTemporaryFile(prefix="acns-repro-") as file:
        _copy(packed, file, limits.file_bytes)  # type: ignore[arg-type]
        file.flush()
        return capture.read(Path(file.name), limits)


def _copy(packed: BinaryIO, file: BinaryIO, most: int) -> None:
    """Whatever the zip's directory says of its size."""
    while piece := packed.read(_PIECE):
        most -= len(piece)
        if most < 0:
            raise InputError(f"{_CAPTURE} in the bundle is too large")
        file.write(piece)
