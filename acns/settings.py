"""Settings files of the daemons: flat TOML into a frozen dataclass, every mistake named at once.

The dataclass is the documentation: field name, type, default and, in its docstring, unit and reason. Unknown
keys are errors (a misspelt limit that is silently ignored is a limit that is off).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from acns.errors import InputError, Problem
from acns.located import did_you_mean

Settings = TypeVar("Settings")


def load(kind: type[Settings], path: Path | None) -> Settings:
    """`path` as a `kind` (a dataclass); without one, all defaults. Raises InputError with all problems."""
    if path is None:
        return kind()
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read settings {path}: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    problems = [*_unknown(kind, values, text, path)]
    known = {key: value for key, value in values.items() if key in _names(kind)}
    try:
        settings = pydantic.TypeAdapter(kind).validate_python(known)
    except pydantic.ValidationError as error:
        problems += _invalid(error, text, path)
    if problems:
        raise InputError(problems)
    return settings


def describe(kind: type[Any]) -> Iterator[tuple[str, str | None, str]]:
    """(name, default as TOML or None, meaning) of every setting, from the docstrings under the fields."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for item, following in zip(tree.body, tree.body[1:], strict=False):
        match item, following:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(meaning))):
                default = defaults[name]
                yield name, None if default is dataclasses.MISSING else _literal(default), meaning


def render(values: dict[str, Any]) -> str:
    """A flat TOML text of strings, numbers and booleans; the inverse of `load` for what the lab writes."""
    return "".join(f"{key} = {_literal(value)}\n" for key, value in values.items())


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _unknown(kind: type[Any], values: dict[str, Any], text: str, path: Path) -> Iterator[Problem]:
    names = _names(kind)
    for key in values.keys() - names:
        yield Problem(str(path), _line(text, key), 1, f"unknown setting '{key}'", did_you_mean(key, names))


def _invalid(error: pydantic.ValidationError, text: str, path: Path) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        key = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] in ("missing", "missing_argument"):
            yield Problem(str(path), 1, 1, f"setting '{key}' is missing")
        else:
            message = detail["msg"].removeprefix("Value error, ")
            yield Problem(str(path), _line(text, key), 1, f"setting '{key}': {message}" if key else message)


def _line(text: str, key: str) -> int:
    found = re.search(rf"(?m)^[ \t]*{re.escape(key)}[ \t]*=", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1
