"""Which manifests lie in a folder, and which of them can be gone by.

A file is there once it has been left alone for a moment: nobody writes one in one instant. It is gone once it
has stayed away for that moment: a file that is replaced, under its name or another, is missing in between. A
link that leads nowhere is not gone: its name is there, and who took its target away may not know of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def is_manifest(path: Path) -> bool:
    """Whether a file so called is read; editors keep theirs behind a dot."""
    return path.suffix in SUFFIXES and not path.name.startswith(".")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tells one version of a file from another."""

    inode: int
    mtime_ns: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_ino, status.st_mtime_ns, status.st_size)


UNKNOWN = Stamp(0, 0, 0)
"""Of a file that cannot even be looked at."""


def stamps(folder: Path) -> dict[str, Stamp]:
    """The manifests that lie there, ordered by name. Raises OSError when the folder cannot be read."""
    found = {}
    for path in sorted(filter(is_manifest, folder.iterdir())):
        try:
            status = path.stat()
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or path.is_symlink():
                found[path.name] = UNKNOWN  # for reading to report, and no reason to stop at
            continue  # else removed since the listing
        found[path.name] = Stamp.of(status)
    return found


@dataclass(frozen=True, slots=True)
class Listed:
    """One look at the folder: the files to go by, and of those known before the ones that are gone."""

    settled: Mapping[str, Stamp]
    gone: Set[str]


class Listing:
    """Looks at `folder`; `settle_s` is the moment. `missing`: known files that are away, not yet gone."""

    def __init__(self, folder: Path, settle_s: float) -> None:
        self.folder = folder
        self.settle_s = settle_s
        self._missing_since: dict[str, float] = {}

    @property
    def missing(self) -> Set[str]:
        return self._missing_since.keys()

    def look(self, known: Set[str]) -> Listed:
        """Raises OSError when the folder cannot be read."""
        present = stamps(self.folder)
        now = time.monotonic()
        since = {name: self._missing_since.get(name, now) for name in known - present.keys()}
        gone = {name for name, missing_since in since.items() if now - missing_since >= self.settle_s}
        self._missing_since = {name: since[name] for name in since.keys() - gone}
        return Listed({name: stamp for name, stamp in present.items() if self._is_settled(stamp)}, gone)

    def unsettled(self) -> bool:
        """Whether a file was touched just now."""
        return any(not self._is_settled(stamp) for stamp in stamps(self.folder).values())

    def _is_settled(self, stamp: Stamp) -> bool:
        age_s = (time.time_ns() - stamp.mtime_ns) / 1e9
        return not 0 <= age_s < self.settle_s  # a time in the future says nothing: read it
