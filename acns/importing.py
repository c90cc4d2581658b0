"""How a process imports much at its start, without looking for garbage meanwhile."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def at_leisure() -> Iterator[None]:
    """For the import of much: what modules are made of stays, and looking for garbage in it, again and again,
    takes a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
