"""What a lab is to the machine, found without asking the lab: processes, network namespaces, kernel state.

Processes are known by a variable that everything a lab starts inherits; network namespaces by the kernel's
cookie, which is never given twice (an inode number is, and soon).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from acns.datapath.elements import Elements
from lab.kernel import netns
from lab.runtime import state
from lab.runtime.handles import Inside
from lab.runtime.lab import Lab

_SO_NETNS_COOKIE = 71
_COOKIE = struct.Struct("=Q")
_NS_GET_NSTYPE = 0xB703  # ioctl_nsfs(2)


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from a later one with its pid by its start."""

    pid: int
    start_ticks: int
    command: str


def processes_with(mark: str) -> set[Process]:
    """The living processes with `mark` (`NAME=value`) in their environment, but for this one."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.add(Process(int(folder.name), state.start_ticks(folder.name) or 0, command))
        except OSError:  # it ended meanwhile
            continue
    return found


def cookie(namespace: int) -> int:
    """The number that the kernel gave this network namespace, and will give to no other."""

    def ask() -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anybody:
            packed = anybody.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE.size)
        return int(_COOKIE.unpack(packed)[0])

    return netns.in_namespace(namespace, ask)


def namespaces_of(processes: Iterable[Process]) -> set[int]:
    """Cookies of the network namespaces that these live in or hold, but for the machine's own."""
    paths = (path for process in processes for path in _namespace_files(Path(f"/proc/{process.pid}")))
    return set(_cookies(paths)) - set(_cookies([Path("/proc/self/ns/net")]))


def namespaces_of_the_machine() -> set[int]:
    """Cookies of all network namespaces: where a process is, held by one, or with a name of their own."""
    processes = [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    held = (path for folder in processes for path in _namespace_files(folder))
    named = Path("/run/netns").iterdir() if Path("/run/netns").is_dir() else ()
    return set(_cookies([*held, *named]))


def namespaces_of_lab(lab: Lab) -> set[int]:
    """Cookies of all network namespaces of a running lab."""
    fd = f"/proc/{lab.record.pid}/fd"
    return set(_cookies(Path(fd, str(numbers.net)) for numbers in lab.record.namespaces.values()))


def generation(place: Inside) -> int:
    """The generation of the nftables ruleset there; it grows with every commit, whatever that changes."""

    def read() -> int:
        elements = Elements(refresh_by_re_adding=True)
        try:
            return elements.generation()
        finally:
            elements.close()

    with netns.keeping(place.place.open()) as inside:
        return netns.in_namespace(inside.net, read)


def root_namespace() -> dict[str, str]:
    """Links, rules, routes, nftables and mounts of the machine's own namespaces."""
    return {
        "links": output("ip", "-o", "link"),
        "rules": output("ip", "rule"),
        "routes": output("ip", "route", "show", "table", "all"),
        "nftables": output("nft", "list", "ruleset"),
        "mounts": Path("/proc/self/mounts").read_text(),
    }


def output(*argv: str, stdin: str = "") -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def _namespace_files(process: Path) -> Iterator[Path]:
    yield process / "ns/net"
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # it ended meanwhile
        return
    for path in descriptors:
        try:
            if os.readlink(path).startswith("net:["):
                yield path
        except OSError:
            continue


def _cookies(paths: Iterable[Path]) -> Iterator[int]:
    asked: set[int] = set()
    for path in paths:
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:  # its process ended meanwhile
            continue
        try:
            # Another process's descriptor may have become something else meanwhile; now this one is ours, and
            # while it is open its inode number is nobody else's.
            if _is_network_namespace(opened) and (inode := os.fstat(opened).st_ino) not in asked:
                asked.add(inode)
                yield cookie(opened)
        finally:
            os.close(opened)


def _is_network_namespace(opened: int) -> bool:
    try:
        return fcntl.ioctl(opened, _NS_GET_NSTYPE) == netns.CLONE_NEWNET
    except OSError:  # no namespace at all
        return False
