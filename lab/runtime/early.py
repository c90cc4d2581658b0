"""A holder whose Python starts while its maker's still imports: that is half a second until a lab is up.

It knows nothing yet, and has done nothing but import. Its maker tells it the lab's folder, with the folder's
lock and log, over the socket that they talk by from then on; if the maker needs none, or dies, it goes. Not
for ordinary users: their holder has to be started inside their user namespace.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.backends.environment import base_environment

_MOST_BYTES: Final = 4096
_TOLD: Final = b"1"
_PATIENCE_S: Final = 30.0
Holder = tuple[subprocess.Popen[bytes], socket.socket]
"""Its process, or the one in between, and the way to talk to it."""
_started: list[Holder] = []


def start() -> None:
    """One that waits to be told."""
    if os.geteuid() == 0:
        _started.append(spawned([]))


def spawned(arguments: Sequence[str], descriptors: Sequence[int] = (), log: int | None = None) -> Holder:
    """Any holder. One that is not early is told its folder and lock by these arguments and descriptors."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lab.runtime.holder"),
                *("--maker", str(os.getpid()), "--control-fd", str(theirs.fileno()), *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=base_environment(),
            cwd="/",
            pass_fds=(theirs.fileno(), *descriptors),
            start_new_session=True,
        )
    return process, ours


def taken(folder: Path, lock: int, log: int) -> Holder | None:
    """The one that waits, if one does: from now on the holder of that folder."""
    while _started:
        process, control = _started.pop()
        with contextlib.suppress(OSError):
            control.settimeout(_PATIENCE_S)
            socket.send_fds(control, [os.fsencode(folder)], [lock, log])
            if control.recv(1) == _TOLD:
                return process, control
        _end(process, control)
    return None


def dismiss() -> None:
    """None is needed."""
    while _started:
        _end(*_started.pop())


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()


def told(control_fd: int) -> tuple[Path, int] | None:
    """In the holder: waits for its folder and its lock, and logs where it is told; None if none is needed."""
    control = socket.socket(fileno=control_fd)
    try:
        name, received, _, _ = socket.recv_fds(control, _MOST_BYTES, 2)
        if not name:
            return None
        lock, log = received
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(log, descriptor)
        os.close(log)
        control.sendall(_TOLD)
    finally:
        control.detach()
    return Path(os.fsdecode(name)), lock
