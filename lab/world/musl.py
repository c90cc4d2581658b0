"""A program that looks names up with musl, the C library of Alpine images: compiled where it is first needed.

Static, so that it runs in any pod. musl's own resolver is what matters here: it differs from glibc's in what
it makes of REFUSED.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from acns.errors import EnvironmentFault

SOURCE = Path(__file__).with_name("resolve.c")
COMPILER = ("musl-gcc", "-static")


def program(folder: Path) -> Path:
    """The program, in this folder; made when it is not there yet. Raises EnvironmentFault."""
    made = folder / "resolve-by-musl"
    if made.exists():
        return made
    if shutil.which(COMPILER[0]) is None:
        raise EnvironmentFault(
            f"there is no {COMPILER[0]}, and a statement 'by musl' needs a program for musl",
            hint="apt-get install gcc musl-tools",
        )
    unfinished = folder / f".resolve-by-musl.{os.getpid()}"
    argv = [*COMPILER, "-O2", "-o", str(unfinished), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFault(f"{COMPILER[0]} fails:\n{done.stderr.strip()}", hint="apt-get install gcc")
    unfinished.rename(made)
    return made
