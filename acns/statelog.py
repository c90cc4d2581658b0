"""Checksummed state that grows: what is new is appended, what is there is never written again.

Every line is a digest and a JSON value; the digest covers the value and the digest of the line before, so a
line counts only with all that came before it. The first line's value says format and version. A reader takes
lines up to the first that does not fit: a line that is still being written, or was torn by a crash, counts as
not written. The owner, on opening, sets such a tail aside as `NAME.damaged`, reports it and cuts it off.
A torn line is cut off even where the disk takes no copy of it (a full one is what tears lines): its append
has failed, so nobody has acted on it. Other damage stays then; the lines before it count all the same, and
nothing is appended behind it. To others the lines before a torn one are the whole log. They hear of it once
no append can be under way; all else that does not fit is damage.

An append is one `write`, in the file for every reader as soon as it returns. It is not synced unless asked
for: a process that is killed loses nothing that it wrote, only a machine that loses its power does.
`rewrite` puts a shorter log in place of a long one, as a whole, and synced unless that is not wanted. `clear`
only cuts the file off: before a file is renamed over another ext4 writes it out (`auto_da_alloc`), which
takes tenths of a second and more on a busy disk. `opening` and `rewriting` yield after each line, for who has
other things to do.

An owner may be replaced while it lives, and even in the midst of a write. So nobody appends to a file that it
has not made: what the one before still appends goes to a file that nobody finds. And each write asks the
`fence` first: a whole log that an older owner put in the newer one's place would be found.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acns import pieces, statefile
from acns.errors import PeerError

_DIGEST_DIGITS = 32
_GROWTH, _GROWTH_BYTES = 4, 1 << 20
_TORN = "ends in a torn line"
_APPEND_S = 1.0
"""No append is under way for longer, however busy the machine: it is one `write`."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a log holds, and what is wrong with its end, if anything is."""

    values: tuple[Any, ...] = ()
    damage: PeerError | None = None
    is_whole: bool = True
    """Whether the file has nothing but these: a damaged end may have to stay in it."""


@dataclass(frozen=True, slots=True)
class _Read:
    values: tuple[Any, ...]
    digest: str
    """Of the last good line; the next one continues from it."""
    good_bytes: int
    fault: str
    """What is wrong with what comes after; "" when nothing does."""

    @property
    def is_only_torn(self) -> bool:
        """Whether all that is lost is a line whose append has not returned."""
        return self.fault == _TORN and self.good_bytes > 0


def read(path: Path, form: str, version: int) -> tuple[Any, ...]:
    """The values so far, for those who do not own the log; nothing on disk changes.

    Raises PeerError when it is no such log, or is damaged; EnvironmentFault when it cannot be read.
    """
    return look(path, form, version).values


def look(path: Path, form: str, version: int) -> Found:
    """As `read`; says too where the last line is torn and not under way any more."""
    found = _parse(_content(path), form, version)
    if not found.fault:
        return Found(found.values)
    damage = PeerError(f"{path} {found.fault}", hint="its owner sets that aside when it starts")
    if not found.is_only_torn:
        raise damage
    return Found(found.values, None if is_fresh(path) else damage, is_whole=False)


def is_fresh(path: Path) -> bool:
    """Whether an append may still be under way."""
    try:
        return abs(time.time() - path.stat().st_mtime) < _APPEND_S
    except OSError:
        return False


class StateLog:
    """The log at `path`, in the hands of its one owner. Call `open` first."""

    def __init__(
        self, path: Path, form: str, version: int, fence: Callable[[], object] = lambda: None
    ) -> None:
        """`fence` raises EnvironmentFault where this process may write no more: another is the owner."""
        self.path = path
        self.form, self.version = form, version
        self._fence = fence
        self._descriptor = -1
        self._is_own = False
        """Whether the file is of this process's making."""
        self._has_failed = False
        """Whether a part of a line may stand at its end."""
        self._digest = ""
        self._size_bytes = self._rewritten_bytes = 0

    def open(self) -> Found:
        """What the log holds. A damaged tail is set aside, and what is before it stays. Where that cannot be
        done all is left as it is, and must be rewritten.

        Raises EnvironmentFault when it cannot be read.
        """
        return pieces.at_once(self.opening())

    def opening(self) -> Generator[None, None, Found]:
        """`open`, bit by bit."""
        content = _content(self.path)
        found = yield from _parsing(content, self.form, self.version)
        what_became, is_whole = self._cut_off(content, found) if found.fault else ("", True)
        if is_whole and found.good_bytes:
            self._attach(found.good_bytes, found.digest)
        damage = self._damage(found, what_became) if found.fault else None
        return Found(found.values, damage, is_whole)

    @property
    def must_be_rewritten(self) -> bool:
        """Whether nothing can be appended: the file is an earlier owner's, or is gone."""
        return not self._is_own or self.is_gone

    @property
    def is_gone(self) -> bool:
        """Whether what was written or found is not to be relied on: there is no log yet, its file is gone, or
        a write has failed."""
        return self._descriptor < 0 or self._has_failed or os.fstat(self._descriptor).st_nlink == 0

    @property
    def is_there(self) -> bool:
        """Whether readers find all that was found here or written. What failed after it may show."""
        if self._descriptor < 0:
            return False
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._descriptor))
        except OSError:
            return False

    @property
    def has_changed(self) -> bool:
        """Whether another than this process has written to it since, or put another file in its place."""
        if not os.path.exists(self.path):
            return False
        return not self.is_there or os.fstat(self._descriptor).st_size != self._size_bytes

    @property
    def has_grown(self) -> bool:
        """Whether a rewrite is worth its time."""
        return self._size_bytes > _GROWTH * self._rewritten_bytes + _GROWTH_BYTES

    def append(self, value: Any, *, durable: bool = False) -> None:
        """Add one value, all of it or nothing. Raises EnvironmentFault; then rewrite before the next one.

        A next owner may have opened the file in the midst of an append, and cut off what it took for torn: a
        line that continues from there would be damage to every reader."""
        line, digest = _line(self._digest, value)
        self._fence()
        try:
            if os.fstat(self._descriptor).st_size != self._size_bytes:
                raise OSError("somebody else has changed it")
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError("disk full")
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            # What stands there of the line does no harm: a reader stops before it.
            self._has_failed = True
            raise statefile.unusable(self.path, "written", error) from error
        self._digest = digest
        self._size_bytes += len(line)

    def rewrite(self, values: Iterable[Any], *, durable: bool = True) -> None:
        """Make these all that the log holds. Raises EnvironmentFault; what was there is then there still."""
        pieces.at_once(self.rewriting(values, durable=durable))

    def rewriting(self, values: Iterable[Any], *, durable: bool = True) -> Generator[None, None, None]:
        """`rewrite`, bit by bit: `values` is asked for one at a time, and when it has no more all is in the
        file at once. What is appended meanwhile has to be among them."""
        lines, digest = [], ""
        for value in itertools.chain((_header(self.form, self.version),), values):
            line, digest = _line(digest, value)
            lines.append(line)
            yield
        content = b"".join(lines)
        statefile.replace(self.path, content, durable=durable, fence=self._fence)
        self._attach(len(content), digest)
        self._is_own = True

    def clear(self) -> None:
        """Make it hold nothing, in place and unsynced. Raises EnvironmentFault; then rewrite before the next
        append."""
        line, digest = _line("", _header(self.form, self.version))
        try:
            os.ftruncate(self._descriptor, len(line))
        except OSError as error:
            self._has_failed = True
            raise statefile.unusable(self.path, "written", error) from error
        self._digest = digest
        self._size_bytes = self._rewritten_bytes = len(line)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _attach(self, size_bytes: int, digest: str) -> None:
        self.close()
        try:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise statefile.unusable(self.path, "written", error) from error
        self._digest = digest
        self._has_failed = False
        self._size_bytes = self._rewritten_bytes = size_bytes

    def _cut_off(self, content: bytes, found: _Read) -> tuple[str, bool]:
        """What has become of the tail, and whether it is off."""
        aside = statefile.damaged_name(self.path)
        try:
            what_became = _set_aside(aside, content[found.good_bytes :])
        except OSError as error:
            reason = error.strerror or str(error)
            if not found.is_only_torn:
                return f"not set aside ({reason})", False
            what_became = f"cut off, not set aside ({reason})"
        try:
            os.truncate(self.path, found.good_bytes)
        except OSError as error:
            return f"not cut off ({error.strerror or error})", False
        return what_became, True

    def _damage(self, found: _Read, what_became: str) -> PeerError:
        rest = (
            f"going on with the {len(found.values)} lines before it" if found.good_bytes else "starting anew"
        )
        return PeerError(f"{self.path} {found.fault}", hint=f"{what_became}; {rest}")


def _set_aside(aside: Path, tail: bytes) -> str:
    """What has become of the tail. Raises OSError."""
    aside.write_bytes(tail)
    aside.chmod(0o600)
    return f"set aside as {aside.name}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise statefile.unusable(path, "read", error) from error


def _parse(content: bytes, form: str, version: int) -> _Read:
    return pieces.at_once(_parsing(content, form, version))


def _parsing(content: bytes, form: str, version: int) -> Generator[None, None, _Read]:
    *lines, rest = content.split(b"\n")
    values: list[Any] = []
    digest, good_bytes = "", 0
    for number, line in enumerate(lines, start=1):
        try:
            value, digest = _value(digest, line)
        except ValueError:
            return _Read(tuple(values), digest, good_bytes, f"is damaged in line {number}")
        if number > 1:
            values.append(value)
        elif value != _header(form, version):
            return _Read((), "", 0, f"is not of format {form}, version {version}")
        good_bytes += len(line) + 1
        yield
    return _Read(tuple(values), digest, good_bytes, _fault_of(rest, digest))


def _fault_of(rest: bytes, before: str) -> str:
    """What is wrong with the octets after the last whole line. Another whole line and an octet are no torn
    append: that octet has been the line's end."""
    if not rest:
        return ""
    try:
        _value(before, rest[:-1])
    except ValueError:
        return _TORN
    return "is damaged in its last line"


def _header(form: str, version: int) -> dict[str, Any]:
    return {"format": form, "version": version}


def _line(before: str, value: Any) -> tuple[bytes, str]:
    """The line of a value, and its digest."""
    text = json.dumps(value).encode()
    digest = _digest(before, text)
    return b"%s %s\n" % (digest.encode(), text), digest


def _value(before: str, line: bytes) -> tuple[Any, str]:
    """The value in a line, and its digest. Raises ValueError."""
    digest, _, text = line.partition(b" ")
    if digest.decode("ascii", "replace") != (expected := _digest(before, text)):
        raise ValueError("wrong digest")
    return json.loads(text), expected


def _digest(before: str, text: bytes) -> str:
    return hashlib.sha256(before.encode() + text).hexdigest()[:_DIGEST_DIGITS]
