"""What must hold of the external programs in a topology: they are there, and their placeholders exist."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from acns.errors import Problem
from acns.located import Document, did_you_mean
from acns.located import Path as Where
from lab.spec import external
from lab.spec.overlay import folder_of
from lab.spec.topology import CommandProgram, ExternalProgram, Topology


def check(topology: Topology, document: Document) -> Iterator[Problem]:
    """Every problem with them."""
    for index, node in enumerate(topology.nodes):
        folder = folder_of(document, ("nodes", index))
        ours = {"shim": node.shim, "resolver": node.resolver}
        for agent, program in node.external.programs():
            yield from _program(program, document, ("nodes", index, "external", agent), folder)
            if ours[agent]:
                yield document.problem(
                    ("nodes", index, agent),
                    f"settings of our {agent}, and 'external' has another in its place",
                )
    for index, pod in enumerate(topology.pods):
        if isinstance(pod.program, CommandProgram):
            where: Where = ("pods", index, "program", "command", 0)
            if reason := _unusable(pod.program.command[0], folder_of(document, ("pods", index))):
                yield document.problem(where, reason)


def found(name: str, folder: Path) -> Path | None:
    """The program of that name: a path, from the topology's folder on, or on the search path."""
    if "/" in name:
        return folder / name
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def _program(program: ExternalProgram, document: Document, where: Where, folder: Path) -> Iterator[Problem]:
    words: list[tuple[Where, str]] = [
        *(((*where, "command", number), word) for number, word in enumerate(program.command)),
        *(((*where, "environment", name), word) for name, word in program.environment.items()),
    ]
    if reason := _unusable(program.command[0], folder):
        yield document.problem(words[0][0], reason)
        del words[0]
    for place, word in words:
        for unknown in external.unknown(word):
            hint = did_you_mean(unknown.strip("{}"), external.PLACEHOLDERS)
            yield document.problem(place, f"there is no placeholder '{unknown}'", hint=hint)


def _unusable(name: str, folder: Path) -> str:
    """Why that program cannot be run; empty when it can."""
    program = found(name, folder)
    if program is None:
        return f"there is no program '{name}' on the search path"
    try:
        if not program.exists():
            return f"there is no program '{name}'"
        return "" if program.is_file() and os.access(program, os.X_OK) else f"'{name}' cannot be run"
    except (OSError, ValueError) as error:  # too long, a folder that we may not enter
        return f"the program cannot be looked at: {error}"
