"""Waiting for a condition, never for some time: one way for all tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
WAIT_S = 30.0
"""A process may take seconds to start where much else runs; who waits in vain has failed anyway."""


def until(condition: Callable[[], T], what: str = "what was waited for", timeout_s: float = WAIT_S) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        threading.Event().wait(0.01)  # not `sleep`, which some tests replace
    return value
