"""The commands in a checkout: `invoke --list`. Those about labs and policies are the package's (`lab.cli`),
as `acns-lab` has them; those about the project's own tests are here.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from lab.cli import program


@task(name="all", help={"arguments": "more arguments for pytest, in one string"})
def everything(context: Context, arguments: str = "") -> None:
    """Every test (those with network namespaces need root). In CI three at most that fail are tried again.

    What passed only then stands in the summary as RERUN, with its traceback: a race, to be found.
    """
    again = (
        "--reruns 1 --max-suite-reruns 3 --rerun-show-tracebacks" if os.environ.get("CI") == "true" else ""
    )
    context.run(f"{sys.executable} -m pytest {again} {arguments}", pty=sys.stdout.isatty())


@task(
    help={
        "minutes": "how long to search (default 1, or without end with --inputs)",
        "seconds": "the same in seconds, added to the minutes",
        "inputs": "end after so many messages",
        "seed": "repeats a search at random (default: a random one, printed)",
        "plain": "at random, even where atheris is installed",
        "alone": "our readers only, without dnspython beside them: more messages in the same time",
        "captures": "search for a capture file that does harm instead",
    }
)
def fuzz(
    context: Context,
    minutes: float = 0.0,
    seconds: float = 0.0,
    inputs: int = 0,
    seed: int = 0,
    plain: bool = False,
    alone: bool = False,
    captures: bool = False,
) -> None:
    """Search for a DNS message that does the reader harm, or that dnspython reads otherwise."""
    options = f"--minutes {minutes} --seconds {seconds} --inputs {inputs} --seed {seed}"
    options += " --plain" * plain + " --alone" * alone + " --captures" * captures
    context.run(f"{sys.executable} -m tests.fuzz {options}", pty=sys.stdout.isatty())


@task(
    help={
        "minutes": "of traffic (default 3)",
        "seed": "repeats a storm, its traffic and its edits (default: a random one, printed)",
        "keep": "a folder for the agents' logs",
    }
)
def soak(context: Context, minutes: float = 3.0, seed: int = 0, keep: str = "") -> None:
    """Faults of all kinds under steady traffic: nothing wrongly dropped or passed, nothing lost or leaked."""
    options = f"--minutes {minutes} --seed {seed}" + (f" --keep {shlex.quote(keep)}" if keep else "")
    context.run(f"{sys.executable} -m tests.soak {options}", pty=sys.stdout.isatty())


@task
def lint(context: Context) -> None:
    """Formatting, lint, types and layers."""
    for module in ("ruff format --check .", "ruff check .", "mypy"):
        context.run(f"{sys.executable} -m {module}")
    context.run(str(Path(sys.executable).with_name("lint-imports")))


namespace = program.commands()
namespace.add_collection(Collection("test", everything, fuzz, soak, lint), name="test")
