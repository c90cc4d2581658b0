"""The end of labs: by name, and of those that have died, whatever state they are in.

Needs no topology and knows none: a lab is its holder and its folder. What a crashed run left is told by who
owns it, never by how it is called: a folder of the state root that a lab's record or order lies in, and whose
holder is dead. `gc` leaves a lab alone that lives, or that somebody works on right now; nobody here touches a
folder that is no lab's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lab.errors import InputError, LabNotFound
from lab.runtime import enter, state
from lab.runtime.progress import Progress, silent
from lab.runtime.state import LabFolder

Fate = Literal["removed", "lives", "in use", "not a lab"]


@dataclass(frozen=True, slots=True)
class Found:
    """One folder of the state root, and what became of it."""

    name: str
    fate: Fate


def take_down(name: str, progress: Progress = silent) -> bool:
    """End the lab of that name, whatever state it is in, without its topology. False when there is none.

    A lab that is still being built is waited for; `progress` is told. Raises InputError for a folder of
    somebody else's.
    """
    folder = state.folder_of(name)
    if not folder.exists():
        return False
    with state.locked(folder, lambda: progress(waiting(folder))):
        must_be_a_labs(folder)
        was_there = any(folder.path.iterdir())
        state.remove(folder, enter.collect)
    return was_there


def gc() -> list[Found]:
    """Remove what labs have left whose holder is dead; says what became of every folder."""
    return [Found(folder.name, _collected(folder)) for folder in state.all_folders()]


def all_labs() -> list[LabFolder]:
    """Every lab with a state folder, whether it lives or not, by name."""
    return [folder for folder in state.all_folders() if _is_a_labs(folder)]


def sole_name() -> str | None:
    """The name of the only lab that has a folder, or None. Raises LabNotFound where there are several."""
    folders = all_labs()
    if len(folders) > 1:
        raise LabNotFound("there are several labs: say which", hint=f"--name; {known()}")
    return folders[0].name if folders else None


def must_be_a_labs(folder: LabFolder) -> None:
    """Raises InputError where somebody has something else in this folder."""
    if not _is_a_labs(folder):
        raise InputError(
            f"{folder.path} is no lab's: nothing is touched there", hint="another --name, or ACNS_LAB_STATE"
        )


def waiting(folder: LabFolder) -> str:
    return f"another command is working on lab {folder.name}: waiting for it"


def known() -> str:
    return listed("labs", (folder.name for folder in all_labs()))


def listed(what: str, names: Iterator[str]) -> str:
    return f"{what}: {', '.join(names) or 'none'}"


def _collected(folder: LabFolder) -> Fate:
    with state.locked_if_free(folder) as is_free:
        if not is_free:
            return "in use"
        record = folder.record()
        if record is not None and record.ready and record.alive():
            return "lives"
        if not _is_a_labs(folder):
            return "not a lab"
        state.remove(folder, enter.collect)
    return "removed"


def _is_a_labs(folder: LabFolder) -> bool:
    """A lab's folder is made empty, then has its order, then its holder's record."""
    names = {path.name for path in folder.path.iterdir()}
    if folder.record() is not None or names <= {folder.unfinished_topology_file.name}:
        return True
    try:
        return "manifests" in json.loads(folder.topology_file.read_text())
    except (OSError, ValueError, TypeError):
        return False
