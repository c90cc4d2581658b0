"""Readiness by a passed descriptor: whoever started a server waits for a byte, not for some time."""

from __future__ import annotations

import os


def say_ready(descriptor: int | None) -> None:
    """Write one byte to `descriptor` and close it; nothing without one."""
    if descriptor is not None:
        os.write(descriptor, b"\n")
        os.close(descriptor)
