"""A lab as an ordinary user: in a user namespace of its own, where that user counts as root.

A process enters it once, early, while it has one thread (the kernel takes no other), and has from then on
every privilege a lab needs, over what belongs to that namespace and nothing else. One uid is mapped, the
user's own, so that neither newuidmap nor an entry in /etc/subuid is needed; what is lost by that,
`lab.doctor` says. Whoever comes later enters the namespace of the lab's holder.
"""

from __future__ import annotations

import os
from pathlib import Path

from acns.errors import EnvironmentFault
from lab.kernel import netns
from lab.runtime import state

CLONE_NEWUSER = 0x1000_0000


def is_needed() -> bool:
    """Whether this process is an ordinary user's. (Root without privileges, as in a container, is told what
    it lacks.)"""
    return os.geteuid() != 0


def enter(holder: state.HolderRecord | None = None) -> bool:
    """Enter the user namespace of a lab's holder, or a new one; False where there is no need.

    Raises EnvironmentFault where the kernel, or a thread that runs already, does not let us.
    """
    if not is_needed():
        return False
    _require_one_thread()
    # Seen from inside we are root, and would look for labs where root's are.
    os.environ[state.STATE_ROOT_VARIABLE] = str(state.state_root())
    if holder is None:
        _make()
    else:
        _join(holder.pid)
    return True


def _make() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        netns.unshare(CLONE_NEWUSER)
    except EnvironmentFault as error:
        raise EnvironmentFault(
            f"no lab as an ordinary user: {error.message}",
            hint="run as root, or allow user namespaces (sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        ) from error
    # A group is mapped by who cannot change groups any more (user_namespaces(7)).
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", file).write_text(text)


def _join(pid: int) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.setns(descriptor, CLONE_NEWUSER)
    finally:
        os.close(descriptor)


def _require_one_thread() -> None:
    if len(os.listdir("/proc/self/task")) > 1:
        raise EnvironmentFault(
            "no lab as an ordinary user: this process has several threads already",
            hint="run as root, or start the whole program by: unshare --user --map-root-user",
        )
