"""`invoke test.soak`, or `python -m tests.soak --minutes 20 --seed 7`: a storm over steady traffic, judged.

One lab, its agents killed, hung and replaced, its DNS servers and links at fault, policies edited under
traffic; an independent model says what of all that must pass, must not, and may be either. Ends with counts,
as a table and as one line of JSON. Exit code 0: nothing was wrongly dropped or passed, no mapping lost, no
leak. The same seed gives the same storm, the same traffic and the same edits.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import time
from pathlib import Path

from lab.runtime.commands import explained_errors
from lab.runtime.lab import Lab

from . import agents, world
from .leftovers import MARK
from .soak import Soak
from .tally import Tally, Violation


def soak(seed: int, seconds: float, keep: Path | None = None) -> Tally:
    """A lab of its own, a soak in it, and a look at what is left. `keep`: a folder for the agents' logs."""
    os.environ[MARK] = f"{os.getpid()}-{time.time_ns()}"
    before = agents.namespaces()
    lab = Lab.up(world.topology(), name=f"soak-{os.getpid()}")
    try:
        tally = asyncio.run(Soak(lab, seed, seconds, _show).run())
    finally:
        if keep is not None:
            _copy_logs(lab, keep)
        lab.down()
    left = agents.processes(f"{MARK}={os.environ.pop(MARK)}")
    own = agents.namespaces() - before
    if left or own:
        what = f"left after the end: {sorted(left.values())}, {len(own)} namespaces"
        tally.violated("leaks", "-", what, time.monotonic())
    return tally


def _copy_logs(lab: Lab, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in lab.folder.path.rglob("*"):
        if path.is_file() and path.name.endswith((".log", ".jsonl", ".jsonl.1")):
            shutil.copy(path, folder / "-".join(path.relative_to(lab.folder.path).parts))


def _show(violation: Violation) -> None:
    print(violation, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", description="A storm over steady traffic, judged.")
    parser.add_argument("--minutes", type=float, default=3.0, help="of traffic (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="default: a random one, printed")
    parser.add_argument("--keep", type=Path, help="folder for the agents' logs")
    asked = parser.parse_args()
    seed = asked.seed or random.SystemRandom().randrange(1, 1 << 31)
    print(f"seed {seed}: repeat with --minutes {asked.minutes:g} --seed {seed}", flush=True)
    with explained_errors():
        tally = soak(seed, asked.minutes * 60, asked.keep)
        print(f"\nseed {seed}, {asked.minutes:g} minutes\n{tally.table()}\n\n{tally.as_json()}")
        return 0 if tally.ok else 1


if __name__ == "__main__":
    sys.exit(main())
