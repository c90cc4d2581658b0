"""What is known of labs on kind, between commands: one folder each, with the topology and the kubeconfig.

The cluster itself is Docker's; the folder says that it is ours, and with what it was brought up.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.errors import InputError
from lab.runtime import state
from lab.spec.topology import DNS_LABEL, Topology

ROOT_VARIABLE: Final = "ACNS_LAB_KIND_STATE"
_LONGEST_NAME: Final = 40  # of a cluster: nodes' host names are made of it


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of one lab."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    def exists(self) -> bool:
        return (self.path / "topology.json").exists()

    def save(self, topology: Topology, nodes: int) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write("lab.json", json.dumps({"version": 1, "nodes": nodes}))
        # Last: by this one a lab is there.
        self._write("topology.json", topology.model_dump_json(by_alias=True, exclude_unset=True))

    def topology(self) -> Topology:
        return Topology.model_validate_json((self.path / "topology.json").read_text())

    def nodes(self) -> int:
        return int(json.loads((self.path / "lab.json").read_text())["nodes"])

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time changes a lab."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.path.parent / f".{self.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.new"
        temporary.write_text(text)
        temporary.rename(self.path / name)


def root() -> Path:
    """Where the folders are: state of a user's, which outlives a restart of the machine as containers do."""
    if given := os.environ.get(ROOT_VARIABLE):
        return Path(given).absolute()
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "acns-lab" / "kind"


def of(name: str) -> Store:
    """The folder for that name. Raises InputError for one that no cluster can have."""
    if not re.fullmatch(DNS_LABEL, name) or len(name) > _LONGEST_NAME:
        raise InputError(
            f"'{name}' cannot be a cluster's name", hint=f"a DNS label, {_LONGEST_NAME} letters at most"
        )
    return Store(root() / name)


def known() -> list[Store]:
    """All labs on kind."""
    return [one for path in sorted(root().glob("*")) if (one := Store(path)).exists()]


def refuse_here(name: str | None) -> None:
    """For what only labs of namespaces can do. Raises InputError where a lab on kind is meant."""
    names = [one.name for one in known()]
    if name in names or (name is None and names and not state.all_folders()):
        raise InputError(
            f"{name or names[0]} is a lab on kind, which has no such command",
            hint="bring the same topology up without --backend kind for it; docs/kubernetes.md has a list",
        )
