"""Unix sockets by path, bound so that nobody else gets in and nobody living is thrown out.

A path left by a dead process is replaced; one that still answers is not. The mode is right from the first
moment (0600): Linux takes it from the unbound socket's inode.

Where a next process of the same agent may start before the last has ended, each has a path of its own
(`PATH.<token>`) behind the link that everybody knows (`PATH`), and the link is switched in one step. So
neither takes the other's socket away, whatever process IDs they have: in containers they may be the same.
Once it has been switched, a link that does not lead here says that nobody finds this process any more, be it
that another has switched it, has been and has gone, or that somebody has removed it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import time
from pathlib import Path
from typing import Final

from acns.errors import EnvironmentFault, InputError

MAX_PATH_BYTES: Final = 107  # sun_path is 108 with its final NUL (unix(7))
_TOKEN_BYTES: Final = 3
_STARTS_WITHIN_S: Final = 2.0
"""A path so young may be one that is not listened at yet."""


def check_path(path: str | Path) -> Path:
    """`path` if the kernel can hold it; InputError otherwise."""
    if (size := len(os.fsencode(path))) > MAX_PATH_BYTES:
        raise InputError(
            f"unix socket path is {size} bytes long, the kernel takes {MAX_PATH_BYTES}: {path}",
            hint="choose a shorter folder",
        )
    return Path(path)


def check_link(path: str | Path) -> Path:
    """`path` if the kernel can hold those of the generations behind it; InputError otherwise."""
    if not Path(path).name:
        raise InputError(f"'{path}' is no path of a unix socket", hint="for example /run/acns/agent.sock")
    check_path(_own_path(Path(path)))
    return Path(path)


def _own_path(link: Path) -> Path:
    return link.with_name(f"{link.name}.{secrets.token_hex(_TOKEN_BYTES)}")


def is_there(path: Path) -> bool:
    """Whether a socket, of the living or the dead, is at `path`; EnvironmentFault when something else is."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise EnvironmentFault(f"cannot look at {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise EnvironmentFault(
            f"{path} exists and is not a socket", hint="move it away or change the setting"
        )
    return True


def clear_stale(path: str | Path) -> None:
    """Remove a socket file that nobody listens on; EnvironmentFault when somebody does or it is no socket."""
    path = check_path(path)
    if not is_there(path):
        return
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


class Generation:
    """The path `own`, to be listened at by this process, and `link`, which leads there after `switch`."""

    def __init__(self, link: str | Path) -> None:
        self.link = Path(link)
        self.own = check_path(_own_path(self.link))
        self._prepared = self.own.with_name(f".{self.own.name}")
        """A link that leads to `own`, and takes the place of `link`."""
        self._has_switched = False

    def clear(self) -> None:
        """Remove what generations left that were killed. Raises EnvironmentFault where something else than a
        link, or a dead socket, stands in the link's place."""
        if not self.link.is_symlink():
            clear_stale(self.link)
        oldest = time.time() - _STARTS_WITHIN_S
        for pattern, remove in ((self.link.name, clear_stale), (f".{self.link.name}", _remove_link)):
            for path in self.link.parent.glob(f"{pattern}.*"):
                with contextlib.suppress(OSError, EnvironmentFault):
                    if path.lstat().st_mtime < oldest:
                        remove(path)

    def prepare(self) -> None:
        """Do all of a `switch` but its last step, which needs no room any more. Raises EnvironmentFault."""
        try:
            if not self._prepared.is_symlink():
                self._prepared.symlink_to(self.own.name)
        except OSError as error:
            raise self._not_made(error) from error

    def switch(self) -> None:
        """From now on the link leads to `own`. Raises EnvironmentFault; then it leads where it led."""
        self.prepare()
        try:
            self._prepared.rename(self.link)
        except OSError as error:
            raise self._not_made(error) from error
        self._has_switched = True

    @property
    def is_overtaken(self) -> bool:
        """Whether the link led here and does no more: it leads to another, or is gone. Microseconds."""
        return self._has_switched and not self._is_led_to()

    @property
    def is_lost(self) -> bool:
        """Whether the link led here, and whoever follows it now finds nobody."""
        return self.is_overtaken and not self.is_served()

    def is_served(self) -> bool:
        """Whether somebody listens behind the link."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(str(self.link))
            except BlockingIOError:
                return True  # its queue is full: it hangs
            except OSError:
                return False
        return True

    def remove(self) -> None:
        """The end: the link goes only if it still leads here."""
        with contextlib.suppress(OSError):
            if self._is_led_to():
                self.link.unlink()
        self._prepared.unlink(missing_ok=True)
        self.own.unlink(missing_ok=True)

    def _is_led_to(self) -> bool:
        try:
            return os.readlink(self.link) == self.own.name
        except OSError:
            return False

    def _not_made(self, error: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            f"the link {self.link} cannot be made: {error.strerror or error}",
            hint="is its folder there, its disk full?",
        )


def _remove_link(path: Path) -> None:
    if path.is_symlink():
        path.unlink()


def remove(path: str | Path, inode: int) -> None:
    """Unlink `path` if it is still the file we bound (`inode`): a successor may have replaced it."""
    with contextlib.suppress(FileNotFoundError):
        if Path(path).lstat().st_ino == inode:
            Path(path).unlink()
