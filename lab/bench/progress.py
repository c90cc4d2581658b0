"""Says on stderr what is being measured: stdout is for results."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """One line; that nobody listens is no reason to stop measuring."""
    with contextlib.suppress(BrokenPipeError):
        print(f"bench: {text}", file=sys.stderr, flush=True)
