"""Unix sockets by path, bound so that nobody else gets in and nobody living is thrown out.

A path left by a dead process is replaced; one that still answers is not. The mode is right from the first
moment (0600): Linux takes it from the unbound socket's inode.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

from acns.errors import EnvironmentFault, InputError

MAX_PATH_BYTES: Final = 107  # sun_path is 108 with its final NUL (unix(7))


def check_path(path: str | Path) -> Path:
    """`path` if the kernel can hold it; InputError otherwise."""
    if (size := len(os.fsencode(path))) > MAX_PATH_BYTES:
        raise InputError(
            f"unix socket path is {size} bytes long, the kernel takes {MAX_PATH_BYTES}: {path}",
            hint="choose a shorter folder",
        )
    return Path(path)


def clear_stale(path: str | Path) -> None:
    """Remove a socket file that nobody listens on; EnvironmentFault when somebody does or it is no socket."""
    path = check_path(path)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EnvironmentFault(
            f"{path} exists and is not a socket", hint="move it away or change the setting"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise EnvironmentFault(f"cannot tell whether {path} is in use: {error}") from error
    raise EnvironmentFault(f"{path} is in use by another process", hint="stop it, or choose another path")


def listen(path: str | Path, *, backlog: int = 64) -> socket.socket:
    """A listening stream socket at `path`, mode 0600."""
    path = check_path(path)
    clear_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise EnvironmentFault(f"cannot listen on {path}: {error.strerror}") from error
    return listener


def remove(path: str | Path, inode: int) -> None:
    """Unlink `path` if it is still the file we bound (`inode`): a successor may have replaced it."""
    with contextlib.suppress(FileNotFoundError):
        if Path(path).lstat().st_ino == inode:
            Path(path).unlink()
