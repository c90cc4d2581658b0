"""Status and truth tables, and the tour printed after `lab.up`: for people, plain for pipes, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from lab.spec.expect import Row
from lab.spec.status import Status
from lab.spec.topology import Topology


def print_status(status: Status, out: TextIO | None = None) -> None:
    raise NotImplementedError


def print_truth(rows: Sequence[Row], out: TextIO | None = None) -> None:
    raise NotImplementedError


def print_tour(topology: Topology, lab: str, out: TextIO | None = None) -> None:
    """What to try next: a handful of commands that work in this lab, each with what it will show."""
    raise NotImplementedError


def status_json(status: Status) -> str:
    """One JSON object with `version`."""
    raise NotImplementedError


def truth_json(lab: str, rows: Sequence[Row]) -> str:
    """One JSON object with `version`, `agrees` and `rows`."""
    raise NotImplementedError
