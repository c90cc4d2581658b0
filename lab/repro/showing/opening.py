"""What `repro.show` is given: a capture file, or a lab's bundle, read without unpacking it anywhere."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lab.errors import InputError
from lab.repro.reading import capture, zipped
from lab.repro.reading.evidence import Decision, Evidence, Limits

_JOURNAL: Final = re.compile(r"nodes/([^/\x00-\x1f]{1,253})/(shim|resolver)-journal\.jsonl(\.1)?")
_MAX_JOURNALS_BYTES: Final = 64 << 20
_MAX_LINE_BYTES: Final = 1 << 16
_MAX_LINES: Final = 200_000


def evidence_of(path: Path, limits: Limits | None = None) -> tuple[Evidence, tuple[Decision, ...]]:
    """The capture, and what the journals beside it say. Raises InputError."""
    limits = limits or Limits()
    if not zipped.is_zip(path):
        return capture.read(path, limits), ()
    try:
        with zipfile.ZipFile(path) as archive:
            return zipped.captured(archive, limits), tuple(_journals(archive))
    except InputError:
        raise
    except zipped.BROKEN as error:
        raise InputError(f"{path} is no bundle that can be read: {error}") from error


def _journals(archive: zipfile.ZipFile) -> Iterator[Decision]:
    """So many, and so much, of all together."""
    left, left_bytes = _MAX_LINES, _MAX_JOURNALS_BYTES
    for name in archive.namelist():
        if found := _JOURNAL.fullmatch(name):
            with archive.open(name) as file:
                while left > 0 < left_bytes and (line := file.readline(_MAX_LINE_BYTES)):
                    left, left_bytes = left - 1, left_bytes - len(line)
                    yield Decision(0, f"{found[1]}/{found[2]}", "", 0, line.rstrip(b"\n"))
