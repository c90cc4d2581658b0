"""Commands as a person types them, and waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.runtime.lab import Lab

REPOSITORY = Path(__file__).parents[3]


def environment() -> dict[str, str]:
    """As it is now: other tests' labs may lie elsewhere."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def argv(lab: Lab, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "invoke", *arguments, "--name", lab.name]


def invoke(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(lab, *arguments), cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=90
    )


def until(condition: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """The condition's value as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
