"""The holder: the one process that *is* a lab.

PID 1 of its own PID namespace, with its own mount, network and host-name namespaces. It keeps the descriptors
of every namespace of the lab and runs its processes, so its death is the lab's: the kernel kills the
processes first, then takes down links, routes and rules. Nothing is ever made in the namespaces of the
machine.

Until its maker says `commit` it dies with its maker: by the parent-death signal, which is sent even to a
maker killed in the middle, through a process in between that lets go at the commit. From then on it belongs
to nobody, or stays tied to its maker if that wants it so. It also holds the lock of the lab's folder until
then, so that whoever comes next waits until it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from acns import leisure
from acns.errors import AcnsError
from lab.kernel import netns
from lab.runtime import early, state
from lab.runtime.control import Server, error_line

_PR_SET_PDEATHSIG = 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.runtime.holder", description="Internal to lab.up.")
    parser.add_argument("--folder", type=Path, help="the lab's state folder; else the maker tells it")
    parser.add_argument("--control-fd", type=int, required=True, help="socket to the lab's maker")
    parser.add_argument("--lock-fd", type=int, help="the folder, locked; else the maker tells it")
    parser.add_argument("--maker", type=int, required=True, help="pid of the lab's maker")
    options = parser.parse_args()
    _die_with_parent(options.maker)
    if options.folder is None:
        _import_all()
        import trustme  # noqa: F401 - for the certificates of a lab that is new

        if (told := early.told(options.control_fd)) is None:
            return 0
        options.folder, options.lock_fd = told
    try:
        return _start(options)
    except AcnsError as error:
        os.write(options.control_fd, error_line(error))
        return error.exit_code


def _start(options: argparse.Namespace) -> int:
    """Become the holder in a child; the process in between returns when the holder no longer needs it."""
    netns.unshare(netns.CLONE_NEWPID | netns.CLONE_NEWNS | netns.CLONE_NEWNET | netns.CLONE_NEWUTS)
    released, release = os.pipe2(os.O_CLOEXEC)
    between = os.getpid()
    if child := os.fork():
        os.close(release)
        return _stay_until_released(child, released, options.control_fd, options.lock_fd)
    os.close(released)
    # getppid() is 0 across PID namespaces, so ask the machine's /proc, which is still mounted.
    _die_with_parent(between, _parent_by_proc)
    _become_first_process(options.folder)
    return _hold(options.folder, options.control_fd, options.lock_fd, release)


def _stay_until_released(child: int, released: int, *inherited: int) -> int:
    """The process in between: it stays while the holder depends on its maker."""
    for descriptor in inherited:
        os.close(descriptor)
    if os.read(released, 1):
        os._exit(0)  # its maker waits, and to take all modules apart takes a tenth of a second
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256


def _die_with_parent(parent: int, now: Callable[[], int] = os.getppid) -> None:
    _set_parent_death_signal(signal.SIGKILL)
    if now() != parent:
        # It died before the signal was set.
        os._exit(1)


def _parent_by_proc() -> int:
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[1])


def _set_parent_death_signal(number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def _become_first_process(path: Path) -> None:
    """Write down who we are before there is anything to clean up, then see our own /proc."""
    folder = state.LabFolder(path)
    pid = int(os.readlink("/proc/self"))
    ticks = state.start_ticks("self")
    assert ticks is not None
    folder.save_record(state.HolderRecord(pid, ticks, state.boot_id(), created_at_s=time.time()))
    netns.mount("none", "/", None, netns.MS_REC | netns.MS_PRIVATE)
    netns.mount("proc", "/proc", "proc", netns.MS_NOSUID_NODEV_NOEXEC)
    socket.sethostname(folder.name)
    os.chdir("/")


def _import_all() -> None:
    with leisure.uncollected():
        import lab.runtime.events
        import lab.runtime.operations
        import lab.runtime.supervise  # noqa: F401


def _hold(path: Path, control_fd: int, lock_fd: int, release: int) -> int:
    """Serve until killed, or until the maker goes away without a commit."""
    _import_all()
    from lab.runtime.events import EventLog
    from lab.runtime.operations import Operations
    from lab.runtime.supervise import Reaper, Supervisor

    folder = state.LabFolder(path)
    _allow_many_descriptors()

    def let_go(*, is_tied: bool) -> None:
        os.close(lock_fd)
        if not is_tied:
            _set_parent_death_signal(0)
            os.write(release, b"1")

    async def serve() -> int:
        loop = asyncio.get_running_loop()
        # Nothing to tidy up: the kernel ends the lab with this process.
        loop.add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
        reaper = Reaper()
        reaper.install(loop)
        events = EventLog(folder.events_file)
        operations = Operations(folder, Supervisor(reaper, events.record), let_go, events)
        server = Server(operations.handlers())
        await server.listen(folder.control_socket)
        await server.serve_connection(socket.socket(fileno=control_fd))
        if not operations.committed:
            return 1
        await asyncio.Event().wait()
        return 0

    return asyncio.run(serve())


def _allow_many_descriptors() -> None:
    """Each pod takes three; 1024, the usual limit, is 340 pods."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
