"""Commands as a person types them, and waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.runtime import state
from lab.runtime.lab import Lab

REPOSITORY = Path(__file__).parents[3]


def environment(lab: Lab) -> dict[str, str]:
    """For commands about this lab: other tests' labs may lie elsewhere."""
    root = str(lab.folder.path.parent)
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), state.STATE_ROOT_VARIABLE: root}


def argv(lab: Lab, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "invoke", *arguments, "--name", lab.name]


def invoke(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(lab, *arguments),
        cwd=REPOSITORY,
        env=environment(lab),
        capture_output=True,
        text=True,
        timeout=90,
    )
