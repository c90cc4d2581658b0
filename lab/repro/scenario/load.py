"""Scenario files read, checked and written.

A wrong file is refused as a whole, with all that is wrong at file:line:col and the nearest right word. What
is written reads as the same scenario again; texts of several lines stand as blocks, so that a policy reads
like one. A scenario may come from anybody: reading it touches nothing but the file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pydantic
import yaml

from acns import located, scalars, textfile
from acns.errors import InputError, Problem
from acns.located import Document
from lab.report import output
from lab.repro.scenario import rules
from lab.repro.scenario.model import Scenario

_FLOW_WIDTH: Final = 104
_END: Final = "\n...\n"
"""Of a document whose last text ends with empty lines."""
_Emitter: Final[Any] = scalars.as_kubernetes_is_told(getattr(yaml, "CSafeDumper", yaml.SafeDumper))
"""libyaml's where there is one."""


def load(path: Path) -> Scenario:
    """Raises InputError with every problem."""
    return loads(textfile.read(path), str(path))


def loads(text: str, path: str) -> Scenario:
    """As `load`, of a text; `path`: what problems call it."""
    documents = located.load(text, path)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise InputError([Problem(path, 1, 1, "a scenario is one YAML mapping (scenario, pods, steps, …)")])
    document = documents[0]
    try:
        scenario = located.validate(Scenario, document)
    except InputError as error:
        raise InputError([*error.problems, *_of_the_rest(document)]) from error
    if problems := list(rules.check(scenario, document)):
        raise InputError(problems)
    return scenario


def save(scenario: Scenario, path: Path) -> None:
    """Whole at once. Raises InputError where it cannot be written."""
    with output.new_file(path) as file:
        file.write(dumps(scenario).encode())


def dumps(scenario: Scenario) -> str:
    """As the text of a file."""
    return "".join(_dumped({key: part}) for key, part in as_value(scenario).items())


def as_value(scenario: Scenario) -> dict[str, Any]:
    """As what the text of its file means: without what is as it always is."""
    value = scenario.model_dump(mode="json", exclude_defaults=True, exclude={"version"})
    value = {"scenario": value.pop("scenario"), "version": scenario.version, **value}
    return {key: _numbers(part) for key, part in value.items()}


def _of_the_rest(document: Document) -> list[Problem]:
    """What else is wrong where steps, pods or servers are: found without the entries that are wrong."""
    try:
        Scenario.model_validate(document.value)
        return []
    except pydantic.ValidationError as error:
        wrong = {detail["loc"][:2] for detail in error.errors(include_url=False)}
    kept = {
        key: [one for index, one in enumerate(part) if (key, index) not in wrong]
        if isinstance(part, list)
        else part
        for key, part in document.value.items()
        if (key,) not in wrong
    }
    moved = _moved(document, wrong)
    try:
        return list(rules.check(Scenario.model_validate({"scenario": "unnamed", **kept}), moved, partly=True))
    except pydantic.ValidationError:
        return []


def _moved(document: Document, wrong: Iterable[tuple[Any, ...]]) -> Document:
    """Positions by the indices that entries have once the wrong ones are gone."""
    cut = set(wrong)
    positions = {}
    for where, position in document.positions.items():
        if len(where) > 1 and isinstance(where[1], int):
            if where[:2] in cut:
                continue
            gone = sum(len(one) > 1 and one[0] == where[0] and one[1] < where[1] for one in cut)
            where = (where[0], where[1] - gone, *where[2:])
        positions[where] = position
    return replace(document, positions=positions)


# --- writing ------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Short lists and mappings on one line, texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value and all(line == line.rstrip() for line in value.split("\n")) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _dumped(value: Any) -> str:
    """A key with its part; what fits on a line stands on one."""
    node = _Dumper(io.StringIO(), sort_keys=False).represent_data(value)
    _fold(node, 0)
    text: str = yaml.serialize(node, Dumper=_Emitter, width=4096, allow_unicode=True)
    return text.removesuffix(_END) + "\n" * text.endswith(_END)  # more keys follow


def _fold(node: yaml.Node, depth: int) -> None:
    if not isinstance(node, yaml.CollectionNode):
        return
    children = _children(node)
    node.flow_style = depth > 1 and _octets(node) <= _FLOW_WIDTH - 2 * depth and not _has_block(node)
    for child in children:
        if node.flow_style:
            _all_flow(child)
        else:
            _fold(child, depth + 1)


def _all_flow(node: yaml.Node) -> None:
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = True
        for child in _children(node):
            _all_flow(child)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [value for _, value in node.value]
    return list(node.value)


def _octets(node: yaml.Node) -> int:
    """What it takes on one line, about."""
    if isinstance(node, yaml.ScalarNode):
        return len(node.value) + 2
    keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    return 2 + sum(_octets(one) + 2 for one in (*keys, *_children(node)))


def _has_block(node: yaml.Node) -> bool:
    if isinstance(node, yaml.ScalarNode):
        return "\n" in node.value
    return any(map(_has_block, _children(node)))


def _numbers(value: Any) -> Any:
    """Whole numbers without `.0`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items()}
    return [_numbers(part) for part in value] if isinstance(value, list) else value
