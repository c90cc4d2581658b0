"""Topology files read, checked and found.

A wrong file is refused as a whole, with all of its problems at once, each at file:line:col and with what
to do about it. What the models of `lab.spec.topology` cannot see, names that must exist, addresses that
must be free, policy files that must be there, is `lab.spec.rules`' to check; it runs also on what is left
of a file after its structural mistakes are cut out, so that one typo does not hide ten others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic

from acns import located
from acns.errors import InputError, Problem
from lab.spec import rules
from lab.spec.topology import Topology

SHIPPED = Path(__file__).resolve().parents[2] / "topologies"


def load_topology(path: Path) -> Topology:
    """The topology in `path`. Raises InputError with every problem at file:line:col.

    In the result every `policies[].file` is an absolute path.
    """
    document = _document(path)
    problems: list[Problem] = []
    try:
        topology: Topology | None = located.validate(Topology, document)
    except InputError as error:
        problems.extend(error.problems)
        topology = _remainder(document.value)
    if topology:
        problems.extend(rules.check(topology, document, path.resolve().parent))
    if problems or topology is None:
        raise InputError(problems)
    return _with_absolute_files(topology, path.resolve().parent)


def find_topology(name_or_path: str) -> Path:
    """The file of a shipped topology (`quickstart`) or of a path.

    Raises InputError that lists what is shipped.
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if path.is_file():
            return path
        raise InputError(f"there is no topology file '{name_or_path}'")
    shipped = {path.stem: path for path in shipped_topologies()}
    if name_or_path in shipped:
        return shipped[name_or_path]
    hint = located.did_you_mean(name_or_path, shipped)
    raise InputError(
        f"there is no topology '{name_or_path}'", hint=hint or "give the path of a file, or see lab.list"
    )


def shipped_topologies() -> list[Path]:
    """The topology files shipped with this project, by name."""
    return sorted(SHIPPED.glob("*.yaml"))


def _document(path: Path) -> located.Document:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    documents = located.load(text, str(path))
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise InputError([Problem(str(path), 1, 1, "a topology is one YAML mapping (name, nodes, pods, …)")])
    return documents[0]


def _remainder(value: Any) -> Topology | None:
    """What is left when every part with a structural mistake is cut out; None when too little is."""
    try:
        return Topology.model_validate(value)
    except pydantic.ValidationError as error:
        places = {_part(detail["loc"]) for detail in error.errors(include_url=False)}
    pruned = {key: _without(item, key, places) for key, item in value.items() if (key,) not in places}
    try:
        return Topology.model_validate(pruned)
    except pydantic.ValidationError:
        return None


def _part(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """What `loc` lies in: an item of a list (`pods[2]`), a name of the Internet, else the section."""
    if len(loc) > 1 and isinstance(loc[1], int):
        return loc[:2]
    return loc[:3] if loc[:2] == ("internet", "names") else loc[:1]


def _without(item: Any, key: str, places: set[tuple[int | str, ...]]) -> Any:
    if isinstance(item, list):
        return [entry for index, entry in enumerate(item) if (key, index) not in places]
    if key == "internet" and isinstance(item, dict) and isinstance(names := item.get("names"), dict):
        kept = {name: entry for name, entry in names.items() if (key, "names", name) not in places}
        return {**item, "names": kept}
    return item


def _with_absolute_files(topology: Topology, folder: Path) -> Topology:
    policies = tuple(
        policy.model_copy(update={"file": str(folder / policy.file)}) if policy.file else policy
        for policy in topology.policies
    )
    return topology.model_copy(update={"policies": policies})
