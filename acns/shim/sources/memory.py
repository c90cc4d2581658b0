"""The last good text of every manifest, through restarts: so that none beside a broken file opens anything.

On disk it is a log of what changed, synced, since a restart after a power loss goes by it; in memory the
texts are compressed: nobody reads them while all is well. Of two shims beside each other only the node's
writes it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from acns import statelog
from acns.statelog import StateLog
from acns.telemetry import log as logs

log = logs.named(__name__)

FILE = "manifests.log"
FORMAT, VERSION = "acns-manifests", 2
_FASTEST = 1


def texts(path: Path) -> dict[str, str]:
    """What such a file holds, by file name, for who does not own it. Raises PeerError, EnvironmentFault."""
    return _latest(statelog.read(path, FORMAT, VERSION))


class Memory:
    """Texts by file name. What is set or dropped is on disk after `save`."""

    def __init__(self, path: Path, fence: Callable[[], object] = lambda: None) -> None:
        """`fence`: as a `StateLog`'s."""
        self.path = path
        self._packed: dict[str, bytes] = {}
        self._unsaved: set[str] = set()
        self._log = StateLog(path, FORMAT, VERSION, fence)
        self.is_sound = False
        """Whether an earlier run's texts are known: there is a memory, and all of it could be read."""
        self._read()

    def read_again(self) -> bool:
        """What the shim before has written since, as the node's shim that it was: whether it has. Raises
        EnvironmentFault."""
        has_changed = self._log.has_changed
        if has_changed:
            self._read()
        return has_changed

    def get(self, name: str) -> str | None:
        """The text of a file; None where none is known."""
        packed = self._packed.get(name)
        return None if packed is None else zlib.decompress(packed).decode()

    def set(self, name: str, text: str) -> None:
        """From now on this is the file's last good text."""
        packed = zlib.compress(text.encode(), _FASTEST)
        if self._packed.get(name) != packed:
            self._packed[name] = packed
            self._unsaved.add(name)

    def keep_only(self, names: Iterable[str]) -> None:
        """The other files are gone."""
        gone = self._packed.keys() - names
        for name in gone:
            del self._packed[name]
        self._unsaved |= gone

    def save(self) -> None:
        """Write what has changed. Raises EnvironmentFault; it is then still to be written."""
        # What is set by another thread meanwhile is of the next time.
        unsaved, self._unsaved = self._unsaved, set()
        try:
            if self._is_to_be_rewritten(bool(unsaved)):
                self._log.rewrite([{name: self.get(name) for name in list(self._packed)}])
            elif unsaved:
                self._log.append({name: self.get(name) for name in sorted(unsaved)}, durable=True)
        except BaseException:
            self._unsaved |= unsaved
            raise
        self.is_sound = True

    def _is_to_be_rewritten(self, has_news: bool) -> bool:
        """What an earlier run has left stays as it is until there is something to add."""
        if not self.is_sound or self._log.has_grown:
            return True
        return self._log.must_be_rewritten if has_news else self._log.is_gone

    def _read(self) -> None:
        opened = self._log.open()
        self._packed = {}
        self.is_sound = bool(opened.values) and opened.damage is None
        if opened.damage:
            log.failure("state damaged", opened.damage)
        elif self.is_sound:
            self._recall(opened.values)

    def _recall(self, values: Iterable[dict[str, str | None]]) -> None:
        self._packed = {
            name: zlib.compress(text.encode(), _FASTEST) for name, text in _latest(values).items()
        }


def _latest(values: Iterable[dict[str, str | None]]) -> dict[str, str]:
    found: dict[str, str | None] = {}
    for value in values:
        found.update(value)
    return {name: text for name, text in sorted(found.items()) if text is not None}
