"""`lab.observe` for a lab on kind: flow logs and journals, read on the nodes that agents write them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from acns.policy.cluster import Cluster
from acns.policy.resolve import resolve
from acns.shim.flow_scene import Scene
from acns.telemetry.bounded_file import older
from lab.backends.kind import cluster as cluster_of
from lab.backends.kind import explaining, objects, tools
from lab.backends.kind.kind_lab import KindLab
from lab.errors import InputError
from lab.runtime import observe
from lab.runtime.dns_view import View
from lab.runtime.observe import FlowFile, JournalFile, Source, Typed
from lab.spec.topology import AGENTS

POLL_S: Final = 1.0
_ABSENT: Final = 44
_SCRIPT: Final = f'command exec 3<"$1" || exit {_ABSENT}; stat -Lc %i /dev/fd/3 && exec tail -c "+$2" <&3'
"""What `$1` is and has from byte `$2` on: one file, whoever rotates it meanwhile. A shell ends where a
special builtin such as `exec` cannot redirect (POSIX XCU 2.8.1); after `command` it goes on."""


class NodeFile:
    """A file on a node that grows, and becomes `NAME.1` when it is full. `inside` runs a command there."""

    def __init__(self, inside: Callable[[list[str]], tuple[int, bytes]], path: str) -> None:
        self._inside = inside
        self._path = path
        self._inode = b""
        self._read = 0

    def new_lines(self) -> Iterator[bytes]:
        """The whole lines since the last call."""
        inode, text = self._from(self._path, self._read)
        if inode and inode != self._inode:
            before, rest = self._from(str(older(Path(self._path))), self._read)
            if not self._inode or before == self._inode:
                yield from rest.split(b"\n")[:-1]
            self._inode, self._read = inode, 0
            inode, text = self._from(self._path, 0)
        if inode == self._inode:  # else it was rotated just now: next time
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            yield from whole.split(b"\n")[:-1]

    def _from(self, path: str, read: int) -> tuple[bytes, bytes]:
        """Which file it is, and what it has from there on; nothing where it is not there."""
        code, out = self._inside(["sh", "-c", _SCRIPT, "sh", path, str(read + 1)])
        if code:
            return b"", b""
        inode, _, text = out.partition(b"\n")
        return inode, text


def run(lab: KindLab, typed: Typed) -> int:
    """What `invoke lab.observe` does."""
    pod = "/".join(lab.pod(typed.pod)) if typed.pod else None
    return observe.show(lambda: list(sources(lab)), typed, pod, alive=lab.store.exists, poll_s=POLL_S)


def sources(lab: KindLab, cluster: Cluster | None = None) -> Iterator[Source]:
    """Of each node the shim's and the resolver's. Raises InputError where no shim writes flows."""
    flows = objects.file_of(lab.topology, "shim", "flow_log_file")
    names = objects.file_of(lab.topology, "resolver", "journal_file")
    if not flows:
        raise InputError(f"lab {lab.name} keeps no flow log", hint="`flow_log_file` is off in its topology")
    cluster = cluster or explaining.given(lab).overview.cluster
    for node in cluster.nodes:
        policy = resolve(cluster, node.name)
        yield FlowFile(NodeFile(inside(node.name), flows))
        view = View(Scene(cluster, policy))
        if names:
            yield JournalFile(NodeFile(inside(node.name), names), node.name, view)


def journal_file(lab: KindLab, agent: str) -> str:
    """Where on the nodes it is; "" where there is none."""
    return objects.file_of(lab.topology, agent, "journal_file")


def journal_files(lab: KindLab) -> Iterator[tuple[str, NodeFile]]:
    """Node and file of each journal that an agent keeps."""
    for node in cluster_of.node_names(lab.name, lab.store.nodes()):
        for agent in AGENTS:
            if path := journal_file(lab, agent):
                yield node, NodeFile(inside(node), path)


def journals(lab: KindLab) -> Iterator[tuple[str, bytes]]:
    """Node and line of each of them."""
    for node, file in journal_files(lab):
        yield from ((node, line) for line in file.new_lines())


def inside(node: str) -> Callable[[list[str]], tuple[int, bytes]]:
    def run(command: list[str]) -> tuple[int, bytes]:
        argv = ["docker", "exec", node, *command]
        done, out = tools.run_for_bytes(argv, timeout_s=tools.PATIENCE_S)
        if done.code not in (0, _ABSENT):
            raise tools.failure(argv, done)
        return done.code, out

    return run
