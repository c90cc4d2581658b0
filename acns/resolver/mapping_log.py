"""Mappings that the shim has not confirmed, on disk: a line each, in the file before its answer leaves.

Each resolver process has a log of its own, for two live side by side while one takes over from the other. A
lock says that its owner lives; a log without one is an orphan, and whoever starts next adopts what it holds.
What cannot be written is reported and stays in memory only. Moments are of the monotonic clock, in the file
too, where they count for every process of this run of the machine; for the next run there is wall time.

Nothing is synced: a process that is killed loses nothing by that, and a machine that loses its power loses
the kernel's set as well. The loop that writes here is the one that answers pods.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from acns import clock, pieces, statefile
from acns.api import codec
from acns.api.codec import Mapping
from acns.errors import AcnsError
from acns.statelog import StateLog
from acns.telemetry import log as logs

log = logs.named(__name__)

FORMAT: Final = "acns-mappings"
VERSION: Final = 1

Entry = tuple[Mapping, float]
"""A mapping, and when its answer came."""


class MappingLog:
    """In `folder`, which is made if need be. What cannot be made can be written later, by `rewrite`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log_failed = logs.Seldom()
        self._lock = -1
        self._log = StateLog(folder / f"mappings-{secrets.token_hex(4)}.log", FORMAT, VERSION)

    def adopting(
        self, keep: Callable[[Entry], object], kept: Callable[[], Iterable[Entry]]
    ) -> Generator[None, None, int]:
        """Take over the logs of ended processes, bit by bit; returns how many entries they hold. `keep` is
        given these, oldest first; `kept` says what this log is to hold from then on, with all that is
        appended meanwhile. They go once it does; one that cannot be read stays for the next, and so do all
        where this one cannot be written."""
        held = list(filter(None, map(_Orphan.at, self._others(self._log.path))))
        try:
            read: list[_Orphan] = []
            entries: list[Entry] = []
            for orphan in held:
                if (found := (yield from orphan.entries())) is not None:
                    read.append(orphan)
                    entries += found
            for entry in sorted(entries, key=lambda entry: entry[1]):
                keep(entry)
                yield
            if (yield from self.rewriting(kept())) if entries else not self.is_broken:
                for orphan in read:
                    orphan.bury()
        finally:
            for orphan in held:
                orphan.release()
        return len(entries)

    def append(self, mapping: Mapping, learned_at: float) -> None:
        """One more."""
        try:
            self._log.append(_to_json(mapping, learned_at))
        except AcnsError as error:
            self._failed(error)

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be appended before a `rewrite`: a write has failed, or the file is gone."""
        return self._log.must_be_rewritten

    @property
    def has_grown(self) -> bool:
        """Whether `rewrite` is worth its time."""
        return self._log.has_grown

    def rewrite(self, entries: Iterable[Entry]) -> bool:
        """These are all that wait: whether the file says so now."""
        return pieces.at_once(self.rewriting(entries))

    def rewriting(self, entries: Iterable[Entry]) -> Generator[None, None, bool]:
        """`rewrite`, bit by bit; `entries` has what comes meanwhile, too."""
        try:
            self._own()
            yield from self._log.rewriting((_to_json(*entry) for entry in entries), durable=False)
        except AcnsError as error:
            self._failed(error)
            return False
        return True

    def clear(self) -> None:
        """Nothing waits."""
        try:
            self._log.clear()
        except AcnsError as error:
            self._failed(error)

    def close(self, *, empty: bool) -> None:
        """An empty log goes; another is left for whoever starts next."""
        if self._lock < 0:
            return
        if empty or not os.path.exists(self._log.path):  # a Path's raises where it may not look
            _remove(self._log.path)
        self._log.close()
        os.close(self._lock)

    def _own(self) -> None:
        """Before this process's log is made. Raises EnvironmentFault."""
        if self._lock >= 0:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            statefile.sweep(self._folder)
            self._lock = _locked(self._log.path.with_suffix(".owner"))
        except OSError as error:
            raise statefile.unusable(self._log.path, "written", error) from error

    def _others(self, own: Path) -> Iterator[Path]:
        return (path for path in sorted(self._folder.glob("mappings-*.log")) if path != own)

    def _failed(self, error: AcnsError) -> None:
        if self._log_failed():
            log.failure("mapping not kept on disk", error)


class _Orphan:
    """The log of a process that is no more, held so that nobody else adopts it too."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._is_whole = True

    @classmethod
    def at(cls, path: Path) -> _Orphan | None:
        """None: its owner lives, or nobody can tell."""
        owner = path.with_suffix(".owner")
        try:
            return cls(path, _locked(owner))
        except BlockingIOError:
            return None
        except OSError as error:
            log.failure("mappings on disk not read", statefile.unusable(owner, "opened", error))
            return None

    def entries(self) -> Generator[None, None, list[Entry] | None]:
        """None: they cannot be read."""
        found = StateLog(self._path, FORMAT, VERSION)
        try:
            opened = yield from found.opening()
        except AcnsError as error:
            log.failure("mappings on disk not read", error)
            return None
        found.close()
        self._is_whole = opened.is_whole
        if opened.damage:
            log.failure("mappings on disk damaged", opened.damage)
            if opened.is_whole:
                self._forget_older_damage()
        return (yield from self._readable(opened.values))

    def _readable(self, values: Sequence[Any]) -> Generator[None, None, list[Entry]]:
        found: list[Entry] = []
        for value in values:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                found.append(_from_json(value))
            yield
        if odd := len(values) - len(found):
            log.error("lines on disk are no mappings", path=str(self._path), count=odd)
        return found

    def _forget_older_damage(self) -> None:
        """Each log has a name of its own: what was set aside would be there for ever. The last is enough."""
        last = statefile.damaged_name(self._path)
        for path in self._path.parent.glob(statefile.damaged_name(Path("mappings-*.log")).name):
            if path != last:
                with contextlib.suppress(OSError):
                    path.unlink()

    def bury(self) -> None:
        """Nobody needs it any more, but for an end that could not be set aside: the next one tries again."""
        if not self._is_whole:
            return
        _remove(self._path)

    def release(self) -> None:
        """Whoever comes next may look at it."""
        os.close(self._lock)


def _remove(path: Path) -> None:
    """With its owner's file. One that stays, in a folder that became somebody else's, is taken up twice: that
    is no harm, and no reason to end."""
    try:
        path.unlink(missing_ok=True)
        path.with_suffix(".owner").unlink(missing_ok=True)
    except OSError as error:
        log.failure("mappings stay on disk", statefile.unusable(path, "removed", error))


def _locked(path: Path) -> int:
    """A descriptor that holds the lock. Raises BlockingIOError where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def _to_json(mapping: Mapping, learned_at: float) -> dict[str, Any]:
    return {
        "name": [label.hex() for label in mapping.name],
        "addresses": [address.hex() for address in mapping.addresses],
        "ttl_s": mapping.ttl_s,
        "source_identity": mapping.source_identity,
        "source": mapping.source.hex(),
        "answered_at": clock.to_epoch(learned_at),
        "boot_id": clock.boot_id(),
        "monotonic_s": learned_at,
    }


def _from_json(value: dict[str, Any]) -> Entry:
    """Raises KeyError, TypeError or ValueError for what is no mapping, or cannot be told as one."""
    mapping = Mapping(
        name=tuple(bytes.fromhex(label) for label in value["name"]),
        addresses=tuple(bytes.fromhex(address) for address in value["addresses"]),
        ttl_s=value["ttl_s"],
        source_identity=value["source_identity"],
        source=bytes.fromhex(value["source"]),
    )
    codec.mapping_to_wire(mapping)  # as it is to be told
    return mapping, time.monotonic() - max(0.0, _age_s(value))


def _age_s(value: dict[str, Any]) -> float:
    """By the clock that nobody sets, if it has not begun anew since. Older versions wrote wall time only."""
    by_wall_s = time.time() - float(value["answered_at"])
    if not clock.boot_id() or value.get("boot_id") != clock.boot_id():
        return by_wall_s
    return time.monotonic() - float(value["monotonic_s"])
