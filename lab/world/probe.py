"""What a pod can do, tried from inside it: `python -m lab.world.probe`, stdlib only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.spec.expect import Expectation, Row


def command() -> list[str]:
    """argv without the interpreter; feed `request_text(…)` to stdin, give stdout to `rows`."""
    raise NotImplementedError


def request_text(expectations: Sequence[Expectation], ca: Path, *, deadline_s: float = 2.0) -> str:
    """What the probe reads from stdin: all expectations of one pod."""
    raise NotImplementedError


def rows(output: str) -> list[Row]:
    """The probe's output as rows, in the order of the request."""
    raise NotImplementedError
