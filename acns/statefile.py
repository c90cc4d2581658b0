"""Checksummed state on disk: whole or not at all.

A state file is JSON `{"format", "version", "sha256", "payload"}`, mode 0600, written to a temporary name,
synced and renamed, so that a reader sees the old one or the new one. The temporary name is its writer's
alone: while one process takes over from another both may write, and in containers their IDs may be the same.
A file that is torn, altered or of another version is never half-used: it is set aside as `NAME.damaged` and
reported, and the caller starts without it. (For state that grows bit by bit there is `statelog`.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acns.errors import EnvironmentFault, PeerError

_UNFINISHED = re.compile(r"\..+\.(json|log)\.[0-9a-f]+")
_UNFINISHED_S = 60.0
"""Nobody writes one file for longer."""
_TOKEN_BYTES = 4


def save(path: Path, form: str, version: int, payload: Any) -> None:
    """Write `payload` (JSON-able) so that `load` gives it back; atomic and durable.

    Raises EnvironmentFault where it cannot be written; what was there before is then there still.
    """
    record = {"format": form, "version": version, "sha256": _digest(payload), "payload": payload}
    replace(path, json.dumps(record).encode())


def load(path: Path, form: str, version: int) -> Any | None:
    """The payload; None when there is no file.

    Raises PeerError when the file cannot be trusted; it has then been renamed to `NAME.damaged`. Raises
    EnvironmentFault when it cannot be read, or renamed.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(path, "read", error) from error
    except (ValueError, RecursionError) as error:
        raise _set_aside(path, "is not JSON") from error
    if not isinstance(record, dict) or record.get("format") != form:
        raise _set_aside(path, f"is not of format {form}")
    if record.get("version") != version:
        raise _set_aside(path, f"is of version {record.get('version')}, this program writes {version}")
    if record.get("sha256") != _digest(record.get("payload")):
        raise _set_aside(path, "does not match its checksum")
    return record["payload"]


def replace(
    path: Path, content: bytes, *, durable: bool = True, fence: Callable[[], object] = lambda: None
) -> None:
    """Make `content` what the file holds: atomic, mode 0600. Raises EnvironmentFault.

    Not `durable`: on the disk when the system finds time, so that nothing waits for it. `fence` is called
    last of all, and raises EnvironmentFault where the file is to stay as it is.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        fence()
        temporary.rename(path)
    except OSError as error:
        _drop(temporary)
        raise unusable(path, "written", error) from error
    except EnvironmentFault:
        _drop(temporary)
        raise


def _drop(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()


def make_folder(folder: Path, setting: str) -> None:
    """With those above it, mode 0700, if need be. Raises EnvironmentFault, which names `setting`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EnvironmentFault(
            f"the folder {folder} cannot be made: {error.strerror}", hint=f"see {setting}"
        ) from error


def unusable(path: Path, what: str, error: OSError) -> EnvironmentFault:
    """The file cannot be `what` (read, written)."""
    reason = error.strerror or str(error)
    return EnvironmentFault(f"{path} cannot be {what}: {reason}", hint="is its folder there, its disk full?")


def damaged_name(path: Path) -> Path:
    """Where what cannot be trusted is set aside."""
    return path.with_name(path.name + ".damaged")


def _digest(payload: Any) -> str:
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def _set_aside(path: Path, reason: str) -> PeerError:
    aside = damaged_name(path)
    try:
        path.rename(aside)
    except OSError as error:
        raise unusable(path, "set aside", error) from error
    return PeerError(f"{path} {reason}", hint=f"set aside as {aside.name}; starting without it")


def sweep(folder: Path) -> None:
    """Remove what `replace` left unfinished where a process was killed in it."""
    oldest = time.time() - _UNFINISHED_S
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if _UNFINISHED.fullmatch(path.name) and path.lstat().st_mtime < oldest:
                path.unlink()
