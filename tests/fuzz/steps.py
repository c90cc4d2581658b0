"""How much work a reader does, in lines of the product's code: the same on every machine, unlike seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class TooManySteps(AssertionError):
    """The work was more than it may be."""


def steps(work: Callable[[], object], most: int, package: str = "acns.") -> int:
    """Lines of `package` that `work` ran, comprehensions' turns too. Raises TooManySteps past `most`."""
    count = 0

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        if count > most:
            raise TooManySteps(f"more than {most} lines, at {frame.f_code.co_qualname}:{frame.f_lineno}")
        return line

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        return line if frame.f_globals.get("__name__", "").startswith(package) else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
