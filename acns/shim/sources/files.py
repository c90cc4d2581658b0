"""A folder of Kubernetes manifests as the source of objects.

The unit is the file: it counts as a whole or, when anything in it is wrong, as it last was right. That last
good text is kept on disk too (`memory`), so that a restart beside a broken file opens nothing. A file is read
once it has been left alone for a moment; an empty one is taken for one being written. Only removing a file
removes its objects, and only when it stays away for that moment: a file that is replaced, under its name or
another, takes nothing away in between. The same object in two files counts once, from the first file by name.
Without its memory a run that takes over a kernel's rules cannot tell what a broken file used to say: it waits
until there is none.

The folder is polled: a scan of 500 files costs about a millisecond, and unlike a watch it loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from acns import statefile
from acns.errors import EnvironmentFault, InputError, PeerError, Problem
from acns.policy import manifests
from acns.policy.objects import Object
from acns.policy.profiles import Profile
from acns.shim.sources import Observed
from acns.telemetry import log as logs

log = logs.named(__name__)

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
POLL_S = 0.2
MEMORY_FORMAT, MEMORY_VERSION = "acns-manifests", 1


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tells one version of a file from another."""

    inode: int
    mtime_ns: int
    size: int


UNKNOWN = Stamp(0, 0, 0)
"""Of a file that cannot even be looked at."""


@dataclass(frozen=True, slots=True)
class Read:
    """One file as last read: the text that counts, its objects, and what is wrong with the newest text."""

    stamp: Stamp
    good_text: str | None
    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]


class FolderSource:
    """Watches `folder`; `memory` is the state file for the last good texts.

    `adopting`: the kernel enforces already what an earlier run read here.
    """

    def __init__(
        self, folder: Path, profile: Profile, memory: Path, settle_s: float, *, adopting: bool = False
    ) -> None:
        self.folder = folder
        self.profile = profile
        self.memory = memory
        self.settle_s = settle_s
        self._files: dict[str, Read] = {}
        self._missing_since: dict[str, float] = {}
        remembered = self._recall()
        self._remembered = remembered or {}
        self._unsure = adopting and remembered is None
        self._unsaved: tuple[Problem, ...] = ()

    async def watch(self) -> AsyncIterator[Observed]:
        """The folder's objects now, then after each change. Raises InputError when the folder is missing."""
        if not self.folder.is_dir():
            raise InputError(
                f"manifests folder {self.folder} does not exist", hint="create it or correct `manifests`"
            )
        while self._unsettled():
            await asyncio.sleep(self.settle_s / 2)
        # In a thread: YAML takes a second per few thousand objects, and mappings must not wait for it.
        await asyncio.to_thread(self._scan)
        yield self._observe()
        while True:
            await asyncio.sleep(POLL_S)
            if await asyncio.to_thread(self._scan):
                yield self._observe()

    def _scan(self) -> bool:
        """Read what is new and settled, forget what is gone; whether there was any."""
        try:
            present = dict(self._present())
        except OSError as error:
            log.error("manifests folder unreadable", folder=str(self.folder), error=str(error))
            return False
        gone = self._gone(present.keys())
        for name in gone:
            del self._files[name]
        changed = [
            name for name, stamp in present.items() if self._is_new(name, stamp) and self._is_settled(stamp)
        ]
        for name in changed:
            self._files[name] = self._read(name, present[name])
        self._unsure = self._unsure and any(read.good_text is None for read in self._files.values())
        news = bool(gone or changed)
        return self._save(news) or news

    def _gone(self, present: Set[str]) -> list[str]:
        """The files that have stayed away; those that are missing since a moment ago may be on their way."""
        now = time.monotonic()
        missing = self._files.keys() - present
        self._missing_since = {name: self._missing_since.get(name, now) for name in missing}
        return [name for name, since in self._missing_since.items() if now - since >= self.settle_s]

    def _unsettled(self) -> bool:
        return any(not self._is_settled(stamp) for _, stamp in self._present())

    def _present(self) -> Iterator[tuple[str, Stamp]]:
        for path in sorted(self.folder.iterdir()):
            if path.suffix not in SUFFIXES or path.name.startswith("."):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # removed, or a dangling link, since the listing
                continue
            except OSError:  # a link to itself: for reading to report, and no reason to stop at
                yield path.name, UNKNOWN
                continue
            yield path.name, Stamp(status.st_ino, status.st_mtime_ns, status.st_size)

    def _is_new(self, name: str, stamp: Stamp) -> bool:
        return name not in self._files or self._files[name].stamp != stamp

    def _is_settled(self, stamp: Stamp) -> bool:
        age_s = (time.time_ns() - stamp.mtime_ns) / 1e9
        return not 0 <= age_s < self.settle_s  # a time in the future says nothing: read it

    def _read(self, name: str, stamp: Stamp) -> Read:
        path = self.folder / name
        try:
            text = _text_of(path)
        except (OSError, UnicodeDecodeError) as error:
            return self._keep(name, stamp, [Problem(str(path), 1, 1, f"cannot be read: {error}")])
        if not text.strip():
            return self._keep(
                name, stamp, [Problem(str(path), 1, 1, "is empty", "remove the file to remove its objects")]
            )
        parsed = manifests.parse(text, str(path), self.profile)
        if any(not problem.warning for problem in parsed.problems):
            return self._keep(name, stamp, parsed.problems)
        return Read(stamp, text, tuple(parsed.objects), tuple(parsed.problems))

    def _keep(self, name: str, stamp: Stamp, problems: list[Problem] | tuple[Problem, ...]) -> Read:
        """The last good version of the file, in this run or, for a first read, in an earlier one."""
        if name in self._files:
            before = self._files[name]
            return Read(stamp, before.good_text, before.objects, tuple(problems))
        text = self._remembered.get(name)
        if text is None:
            return Read(stamp, None, (), tuple(problems))
        parsed = manifests.parse(text, str(self.folder / name), self.profile)
        return Read(stamp, text, tuple(parsed.objects), tuple(problems))

    def _observe(self) -> Observed:
        objects: dict[tuple[str, str, str], Object] = {}
        problems: list[Problem] = [*self._unsaved]
        # A missing file's objects count only where no other file has them by now.
        for name, read in sorted(
            self._files.items(), key=lambda one: (one[0] in self._missing_since, one[0])
        ):
            problems += read.problems
            for item in read.objects:
                if item.ref not in objects:
                    objects[item.ref] = item
                elif name not in self._missing_since:
                    where = "/".join(part for part in item.ref if part)
                    text = f"{where} is in another file already; this one is left out"
                    problems.append(Problem(str(self.folder / name), 1, 1, text, "keep one of the two"))
        versions = {name: str(read.stamp.mtime_ns) for name, read in self._files.items()}
        return Observed(tuple(objects.values()), tuple(problems), versions, complete=not self._unsure)

    def _recall(self) -> dict[str, str] | None:
        """The last good texts of earlier runs; None where none are known."""
        try:
            texts = statefile.load(self.memory, MEMORY_FORMAT, MEMORY_VERSION)
        except PeerError as error:
            log.failure("state damaged", error)
            return None
        return None if texts is None else dict(texts)

    def _save(self, changed: bool) -> bool:
        """Remember what has changed or could not be saved before; whether there is news of that."""
        if self._unsure or not (changed or self._unsaved):
            return False
        before = self._unsaved
        try:
            self._remember()
            self._unsaved = ()
        except EnvironmentFault as fault:
            # The texts count all the same; only a restart beside a broken file would miss them.
            self._unsaved = (Problem(str(self.memory), 1, 1, fault.message, fault.hint, warning=True),)
        return self._unsaved != before

    def _remember(self) -> None:
        texts = {name: read.good_text for name, read in self._files.items() if read.good_text is not None}
        statefile.save(self.memory, MEMORY_FORMAT, MEMORY_VERSION, texts)


def _text_of(path: Path) -> str:
    """Only of a regular file: a pipe would be waited for, for ever."""
    if not path.is_file():
        raise OSError("not a regular file")
    return path.read_text()
