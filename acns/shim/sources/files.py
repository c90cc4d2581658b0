"""A folder of Kubernetes manifests as the source of objects.

The unit is the file: it counts as a whole or, when anything in it is wrong, as it last was right. That last
good text is kept on disk too (`memory`), so that a restart beside a broken file opens nothing. An empty file
is taken for one being written, and so is one that had objects and has none, only comments: a copy that broke
off looks like that. Only removing a file removes the last of its objects. The same object in two files counts
once, from the first file by name. Without its memory a run that takes over a kernel's rules cannot tell what
a broken file used to say: it waits until there is none.

Only files that have changed are read again; the objects of the others are the same ones as before (`is`), by
which all that follows tells what has changed.

The folder is polled: a scan of 500 files costs a few milliseconds, and unlike a watch it loses nothing. From
a file's last byte to its observation it takes `settle_s` and up to one poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from acns import textfile
from acns.errors import EnvironmentFault, InputError, Problem
from acns.policy import manifests
from acns.policy.objects import Object, Ref
from acns.policy.profiles import Profile
from acns.shim.preflight import ClusterFacts
from acns.shim.sources import Observed
from acns.shim.sources.listing import Listing, Stamp
from acns.shim.sources.memory import Memory

POLL_S = 0.2
_REMOVE = "remove the file to remove its objects"


@dataclass(frozen=True, slots=True)
class Read:
    """One file as last read: the objects that count and what is wrong with the newest text. `good`: whether
    there is, or was, a text in which nothing is."""

    stamp: Stamp
    good: bool
    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]


def check(folder: Path) -> None:
    """Raises InputError when the folder is missing."""
    if not folder.is_dir():
        raise InputError(f"manifests folder {folder} does not exist", hint="create it or correct `manifests`")


class FolderSource:
    """Watches `folder`; `memory` is the state file for the last good texts.

    `adopting`: the kernel enforces already what an earlier run read here. `fence` raises EnvironmentFault
    where this process may write no more.
    """

    def __init__(
        self,
        folder: Path,
        profile: Profile,
        memory: Path,
        settle_s: float,
        *,
        adopting: bool = False,
        fence: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder = folder
        self.profile = profile
        self._listing = Listing(folder, settle_s)
        self._memory = Memory(memory, fence)
        self._files: dict[str, Read] = {}
        self._adopting = adopting
        self._unsure = adopting and not self._memory.is_sound
        self._unsaved: tuple[Problem, ...] = ()
        self._unreadable: tuple[Problem, ...] = ()

    async def watch(self) -> AsyncIterator[Observed]:
        """The folder's objects now, then after each change. Raises InputError when the folder is missing."""
        check(self.folder)
        if self._memory.read_again():
            self._unsure = self._adopting and not self._memory.is_sound
        while self._listing.unsettled():
            await asyncio.sleep(self._listing.settle_s / 2)
        # In a thread: YAML takes a second per few thousand objects, and mappings must not wait for it.
        await asyncio.to_thread(self._scan)
        yield self._observe()
        while True:
            await asyncio.sleep(POLL_S)
            if await asyncio.to_thread(self._scan):
                yield self._observe()

    @property
    def obstacles(self) -> tuple[str, ...]:
        """None that would last: a folder that is missing ends the shim."""
        return ()

    async def cluster_facts(self, node: str) -> ClusterFacts | None:
        """A folder says nothing of the cluster."""
        return None

    def described(self) -> Mapping[str, object]:
        return {"folder": str(self.folder)}

    def _scan(self) -> bool:
        """Read what is new and settled, forget what is gone; whether there is news of files or folder."""
        try:
            listed = self._listing.look(self._files.keys())
        except OSError as error:
            return self._is_unreadable(error.strerror or str(error))
        came_back, self._unreadable = bool(self._unreadable), ()
        for name in listed.gone:
            del self._files[name]
        changed = [name for name, stamp in listed.settled.items() if self._is_new(name, stamp)]
        for name in changed:
            self._files[name] = self._read(name, listed.settled[name])
        self._unsure = self._unsure and not all(read.good for read in self._files.values())
        news = bool(listed.gone or changed)
        return self._save(news) or news or came_back

    def _is_unreadable(self, reason: str) -> bool:
        """Of the folder, in which nothing counts as removed; whether that is news."""
        before = self._unreadable
        what = f"the manifests folder cannot be read: {reason}"
        self._unreadable = (Problem(str(self.folder), 1, 1, what, "what was read last stays in force"),)
        return self._unreadable != before

    def _is_new(self, name: str, stamp: Stamp) -> bool:
        return name not in self._files or self._files[name].stamp != stamp

    def _read(self, name: str, stamp: Stamp) -> Read:
        path = self.folder / name
        try:
            text = textfile.read(path)
        except InputError as error:
            return self._keep(name, stamp, list(error.problems))
        if not text.strip():
            return self._keep(name, stamp, [Problem(str(path), 1, 1, "is empty", _REMOVE)])
        parsed = manifests.parse(text, str(path), self.profile)
        if not parsed.ok:
            return self._keep(name, stamp, parsed.problems)
        if not parsed.objects and (kept := self._keep(name, stamp, parsed.problems)).objects:
            gone = Problem(str(path), 1, 1, "has no objects any more", _REMOVE)
            return replace(kept, problems=(gone, *kept.problems))
        self._memory.set(name, text)
        return Read(stamp, True, parsed.objects, parsed.problems)

    def _keep(self, name: str, stamp: Stamp, problems: Iterable[Problem]) -> Read:
        """The last good version of the file, in this run or, for a first read, in an earlier one."""
        if name in self._files:
            before = self._files[name]
            return Read(stamp, before.good, before.objects, tuple(problems))
        text = self._memory.get(name)
        if text is None:
            return Read(stamp, False, (), tuple(problems))
        parsed = manifests.parse(text, str(self.folder / name), self.profile)
        return Read(stamp, True, parsed.objects, tuple(problems))

    def _observe(self) -> Observed:
        objects: dict[Ref, Object] = {}
        problems: list[Problem] = [*self._unsaved, *self._unreadable]
        missing = self._listing.missing
        # A missing file's objects count only where no other file has them by now.
        for name, read in sorted(self._files.items(), key=lambda one: (one[0] in missing, one[0])):
            problems += read.problems
            for item in read.objects:
                if objects.setdefault(item.ref, item) is not item and name not in missing:
                    problems.append(self._twice(name, item))
        versions = {name: str(read.stamp.mtime_ns) for name, read in self._files.items()}
        never_read = bool(self._unreadable) and not self._files
        complete = not (self._unsure or never_read)
        return Observed(tuple(objects.values()), tuple(problems), versions, complete)

    def _twice(self, name: str, item: Object) -> Problem:
        where = "/".join(part for part in item.ref if part)
        text = f"{where} is in another file already; this one is left out"
        return Problem(str(self.folder / name), 1, 1, text, "keep one of the two")

    def _save(self, changed: bool) -> bool:
        """Remember what has changed or could not be saved before; whether there is news of that."""
        if self._unsure or not (changed or self._unsaved):
            return False
        before = self._unsaved
        self._memory.keep_only(self._files.keys())
        try:
            self._memory.save()
            self._unsaved = ()
        except EnvironmentFault as fault:
            # The texts count all the same; only a restart beside a broken file would miss them.
            path = str(self._memory.path)
            self._unsaved = (Problem(path, 1, 1, fault.message, fault.hint, warning=True),)
        return self._unsaved != before
