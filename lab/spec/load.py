"""Topology files read, checked and found.

A wrong file is refused as a whole, with all of its problems at once, each at file:line:col and with what
to do about it. What the models of `lab.spec.topology` cannot see, names that must exist, addresses that
must be free, policy files that must be there, is `lab.spec.rules`' to check; it runs also on what is left
of a file after its structural mistakes are cut out, so that one typo does not hide ten others.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic

from acns import located, textfile
from acns.errors import InputError, Problem
from lab.spec import external_rules, overlay, rules
from lab.spec.topology import (
    DNS_LABEL,
    HOSTNAME,
    OPTION,
    RECORD,
    SEARCH,
    VARIABLE,
    CommandProgram,
    Node,
    Pod,
    Topology,
)

_WORDS = {
    DNS_LABEL: "not a DNS label (lower-case letters, digits and '-', 63 at most)",
    VARIABLE: "not a name of an environment variable (letters, digits and '_')",
    OPTION: "not an option of resolv.conf (ndots, timeout, use-vc, …)",
    SEARCH: "not a domain to search in",
    RECORD: "a record is one line of printable ASCII",
    HOSTNAME: "not a host name (lower-case DNS labels with dots between, such as api.example.com)",
}

SHIPPED = (Path(__file__).parents[1] / "topologies").resolve()
"""In a checkout a link to where people look for them."""


def load_topology(path: Path) -> Topology:
    """The topology in `path`. Raises InputError with every problem at file:line:col.

    In the result every `policies[].file` and every external program is an absolute path.
    """
    return read_topology(path)[0]


def read_topology(path: Path) -> tuple[Topology, located.Document]:
    """The same, and what is written where."""
    document, of_merging = overlay.read(path, find_base, _document)
    try:
        topology = located.validate(Topology, document)
    except InputError as error:
        problems = [replace(problem, message=_in_words(problem.message)) for problem in error.problems]
        raise InputError([*of_merging, *problems, *_problems_of_the_rest(document)]) from error
    if problems := [*of_merging, *rules.check(topology, document)]:
        raise InputError(problems)
    return _with_absolute_files(topology, document), document


def find_topology(name_or_path: str) -> Path:
    """The file of a shipped topology (`quickstart`) or of a path.

    Raises InputError that lists what is shipped.
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        with contextlib.suppress(OSError):  # a name too long, a folder that we may not enter
            if path.is_file():
                return path
        raise InputError(f"there is no topology file '{name_or_path}'")
    shipped = {path.stem: path for path in shipped_topologies()}
    if name_or_path in shipped:
        return shipped[name_or_path]
    hint = located.did_you_mean(name_or_path, shipped) or f"these are shipped: {', '.join(shipped)}"
    raise InputError(f"there is no topology '{name_or_path}'", hint=f"{hint}; a file's name ends in .yaml")


def find_base(name_or_path: str, folder: Path) -> Path:
    """The file that `base` names in a topology of that folder. Raises InputError."""
    if "/" not in name_or_path and not name_or_path.endswith((".yaml", ".yml")):
        shipped = {path.stem: path for path in (*SHIPPED.glob("bases/*.yaml"), *shipped_topologies())}
        if name_or_path in shipped:
            return shipped[name_or_path]
        hint = located.did_you_mean(name_or_path, shipped)
        raise InputError(
            f"no topology '{name_or_path}' is shipped", hint=hint or "a file's name ends in .yaml"
        )
    try:
        path = folder / name_or_path
        if not path.resolve().is_relative_to(folder):
            raise InputError(f"'{name_or_path}' is outside the topology's folder")
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # too long, a NUL, a folder that we may not enter
        raise InputError(f"the base cannot be read: {error}") from error
    if not is_file:
        hint = located.did_you_mean(name_or_path, (one.name for one in folder.glob("*.yaml")))
        raise InputError(f"there is no file '{name_or_path}' beside the topology", hint=hint)
    return path


def shipped_topologies() -> list[Path]:
    """The topology files shipped with this project, by name."""
    return sorted(SHIPPED.glob("*.yaml"))


def _document(path: Path) -> located.Document:
    documents = located.load(textfile.read(path), str(path))
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise InputError([Problem(str(path), 1, 1, "a topology is one YAML mapping (name, nodes, pods, …)")])
    return documents[0]


def _problems_of_the_rest(document: located.Document) -> list[Problem]:
    """What else is wrong in a file with structural mistakes, found by cutting out the fields with them, else
    the parts."""
    try:
        Topology.model_validate(document.value)
        return []
    except pydantic.ValidationError as error:
        wrong = [detail["loc"] for detail in error.errors(include_url=False)]
    with contextlib.suppress(pydantic.ValidationError):
        topology = Topology.model_validate(_without_fields(document.value, wrong))
        # What is said of an entry as a whole may come of the field that it lacks now.
        spoilt = {document.positions.get(loc[:-1]) for loc in wrong}
        places = {(one.line, one.column) for one in spoilt if one is not None}
        found = rules.check(topology, document)
        return [one for one in found if (one.line, one.column) not in places]
    cut = {_part(loc) for loc in wrong}
    pruned = {key: _without(item, key, cut) for key, item in document.value.items() if (key,) not in cut}
    try:
        topology = Topology.model_validate({"name": "unnamed", "nodes": [], **pruned})
    except pydantic.ValidationError:
        return []
    # The rules still see all names that are written, so that what was cut out is not reported as missing.
    return list(rules.check(topology, replace(document, positions=_moved_up(document.positions, cut))))


def _in_words(message: str) -> str:
    """pydantic's message, with the regular expressions of names put into words."""
    for pattern, words in _WORDS.items():
        message = message.replace(f"String should match pattern '{pattern}'", words)
    return message


def _part(loc: located.Path) -> located.Path:
    """What `loc` lies in: an item of a list (`pods[2]`), a part of the Internet, else the section."""
    if len(loc) > 1 and (isinstance(loc[1], int) or loc[0] == "internet"):
        return loc[:3] if loc[1] == "names" else loc[:2]
    return loc[:1]


def _without_fields(value: Any, wrong: Iterable[located.Path]) -> Any:
    """Without these fields of mappings, where that is what they are."""
    made = copy.deepcopy(value)
    for loc in wrong:
        place = made
        # A loc may say more than where: as which of several kinds it was read. Such a one stays.
        with contextlib.suppress(LookupError, TypeError):
            for step in loc[:-1]:
                place = place[step]
            if isinstance(place, dict):
                place.pop(loc[-1], None)
    return made


def _without(item: Any, key: str, cut: set[located.Path]) -> Any:
    if isinstance(item, list):
        return [entry for index, entry in enumerate(item) if (key, index) not in cut]
    if key == "internet" and isinstance(item, dict):
        item = {name: entry for name, entry in item.items() if (key, name) not in cut}
        if isinstance(names := item.get("names"), dict):
            kept = {name: entry for name, entry in names.items() if (key, "names", name) not in cut}
            return {**item, "names": kept}
    return item


def _moved_up(
    positions: Mapping[located.Path, located.Position], cut: set[located.Path]
) -> dict[located.Path, located.Position]:
    """Positions by the indices that list items have once others are cut out."""
    moved = {}
    for where, position in positions.items():
        if len(where) > 1 and isinstance(where[1], int):
            if where[:2] in cut:
                continue
            before = sum(
                part[0] == where[0] and len(part) > 1 and 0 <= _index(part) < where[1] for part in cut
            )
            where = (where[0], where[1] - before, *where[2:])
        moved[where] = position
    return moved


def _index(part: located.Path) -> int:
    return part[1] if isinstance(part[1], int) else -1


def _with_absolute_files(topology: Topology, document: located.Document) -> Topology:
    policies = tuple(
        policy.model_copy(
            update={"file": str(overlay.folder_of(document, ("policies", index, "file")) / policy.file)}
        )
        if policy.file
        else policy
        for index, policy in enumerate(topology.policies)
    )
    pods = tuple(
        _with_absolute_command(pod, overlay.folder_of(document, ("pods", index)))
        for index, pod in enumerate(topology.pods)
    )
    nodes = tuple(
        _with_absolute_programs(node, overlay.folder_of(document, ("nodes", index)))
        for index, node in enumerate(topology.nodes)
    )
    return topology.model_copy(update={"policies": policies, "nodes": nodes, "pods": pods})


def _with_absolute_command(pod: Pod, folder: Path) -> Pod:
    if not isinstance(pod.program, CommandProgram):
        return pod
    name, *arguments = pod.program.command
    command = (str(external_rules.found(name, folder)), *arguments)
    return pod.model_copy(update={"program": pod.program.model_copy(update={"command": command})})


def _with_absolute_programs(node: Node, folder: Path) -> Node:
    programs: dict[str, Any] = {
        agent: program.model_copy(
            update={"command": (str(external_rules.found(program.command[0], folder)), *program.command[1:])}
        )
        for agent, program in node.external.programs()
    }
    return node.model_copy(update={"external": node.external.model_copy(update=programs)})
