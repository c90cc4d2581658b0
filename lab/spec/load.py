"""Topology files read, checked and found."""

from __future__ import annotations

from pathlib import Path

from lab.spec.topology import Topology


def load_topology(path: Path) -> Topology:
    """The topology in `path`. Raises InputError with every problem at file:line:col.

    In the result every `policies[].file` is an absolute path.
    """
    raise NotImplementedError


def find_topology(name_or_path: str) -> Path:
    """The file of a shipped topology (`quickstart`) or of a path. Raises InputError that lists what is shipped."""
    raise NotImplementedError


def shipped_topologies() -> list[Path]:
    """The topology files shipped with this project, by name."""
    raise NotImplementedError
