"""Who is told what a long command is doing: a function that takes a line."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody wants to see."""
