"""Giving up capabilities, for good: what a process may do follows from what it has to.

Capabilities belong to threads, so this is done before the first other thread starts. What is given up does
not come back: not by exec (no_new_privs, and the bounding set where that may be changed), not by a program
that the process starts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from typing import Final

import pyprctl
from pyprctl import Cap, CapState

from acns.errors import Bug, EnvironmentFault

NET_ADMIN: Final = Cap.NET_ADMIN
NET_RAW: Final = Cap.NET_RAW
NET_BIND_SERVICE: Final = Cap.NET_BIND_SERVICE


def keep_only(wanted: Collection[Cap]) -> None:
    """From now on this process has these capabilities only. Raises EnvironmentFault where it lacks one."""
    if len(os.listdir("/proc/self/task")) > 1:
        raise Bug("capabilities are given up after a thread was started")
    have = CapState.get_current()
    missing = set(wanted) - have.permitted
    if missing:
        names = ", ".join(sorted(f"CAP_{one.name}" for one in missing))
        raise EnvironmentFault(f"{names} missing", hint="run as root, or give the program this capability")
    if Cap.SETPCAP in have.effective:
        pyprctl.capbset.replace(*wanted)
    if pyprctl.cap_ambient_supported():
        pyprctl.cap_ambient_clear_all()
    pyprctl.set_no_new_privs()
    CapState(effective=set(wanted), permitted=set(wanted), inheritable=set()).set_current()


def mark_needs_admin() -> bool:
    """Whether SO_MARK takes CAP_NET_ADMIN on this kernel: before Linux 5.17 CAP_NET_RAW was not enough."""
    with (
        pyprctl.scoped_effective_caps(CapState.get_current().effective - {NET_ADMIN}),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
    ):
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)
        except PermissionError:
            return True
    return False
