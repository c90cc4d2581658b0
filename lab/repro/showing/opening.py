"""What `repro.show` is given: a capture file, or a lab's bundle, read without unpacking it anywhere."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from lab.errors import InputError
from lab.repro.reading import capture, zipped
from lab.repro.reading.evidence import Decision, Evidence, Limits

_CAPTURE: Final = "capture.pcapng"
_JOURNAL: Final = re.compile(r"nodes/([^/\x00-\x1f]{1,253})/(shim|resolver)-journal\.jsonl(\.1)?")
_PIECE: Final = 1 << 20
_MAX_JOURNAL_BYTES: Final = 64 << 20
_MAX_LINE_BYTES: Final = 1 << 16
_MAX_LINES: Final = 200_000


def evidence_of(path: Path, limits: Limits | None = None) -> tuple[Evidence, tuple[Decision, ...]]:
    """The capture, and what the journals beside it say. Raises InputError."""
    limits = limits or Limits()
    if not zipped.is_zip(path):
        return capture.read(path, limits), ()
    try:
        with zipfile.ZipFile(path) as archive:
            return _captured(archive, path, limits), tuple(_journals(archive))
    except InputError:
        raise
    except zipped.BROKEN as error:
        raise InputError(f"{path} is no bundle that can be read: {error}") from error


def _captured(archive: zipfile.ZipFile, path: Path, limits: Limits) -> Evidence:
    if _CAPTURE not in archive.namelist():
        raise InputError(f"{path} has no {_CAPTURE}", hint="a bundle of lab.bundle; its missing.txt says why")
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


def _journals(archive: zipfile.ZipFile) -> Iterator[Decision]:
    left = _MAX_LINES
    for name in archive.namelist():
        if found := _JOURNAL.fullmatch(name):
            with archive.open(name) as file:
                data = file.read(_MAX_JOURNAL_BYTES)
            for line in data.splitlines()[:left]:
                left -= 1
                if len(line) <= _MAX_LINE_BYTES:
                    yield Decision(0, f"{found[1]}/{found[2]}", "", 0, line)
