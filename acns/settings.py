"""Settings files of the daemons: flat TOML into a frozen dataclass, every mistake named at once.

The dataclass is the documentation: field name, type, default and, in its docstring, unit and reason. Unknown
keys are errors (a misspelt limit that is silently ignored is a limit that is off).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

import pydantic
import pydantic_core

from acns.errors import InputError, Problem
from acns.located import did_you_mean

Settings = TypeVar("Settings")


def load(
    kind: type[Settings], path: Path | None, overrides: Mapping[str, str] = MappingProxyType({})
) -> Settings:
    """`path` as a `kind` (a dataclass); without one, all defaults. Raises InputError with all problems.

    `overrides`: settings as text, which win over the file's: what differs where all have the same file. Only
    these are read as their setting's type: `listen_port = true` in a file is no port.
    """
    text, values = _read(path) if path else ("", {})
    values |= overrides
    where = str(path) if path else "settings"
    if found := list(mistakes(kind, values, as_text=overrides.keys())):
        raise InputError(
            Problem("--set", 0, 0, one.message, one.hint)
            if one.key in overrides
            else Problem(where, _line(text, one.key), 1, one.message, one.hint)
            for one in found
        )
    return pydantic.TypeAdapter(kind).validate_python(values)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read settings {path}: {error}") from error
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from error


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with the setting `key`; with several together, or one that is missing, it is empty."""

    key: str
    message: str
    hint: str = ""


def mistakes(kind: type[Any], values: Mapping[str, Any], as_text: Collection[str] = ()) -> Iterator[Mistake]:
    """All that is wrong with `values` as a `kind`. Each has the type of its setting, but for those `as_text`:
    these are of the type that they read as."""
    names = {field.name for field in dataclasses.fields(kind)}
    for key in sorted(values.keys() - names):
        yield Mistake(key, f"unknown setting '{key}'", did_you_mean(key, names))
    known = {key: values[key] for key in names & values.keys()}
    mistyped = list(_mistyped(kind, {key: value for key, value in known.items() if key not in as_text}))
    yield from mistyped
    told = {one.key for one in mistyped}
    try:
        pydantic.TypeAdapter(kind).validate_python(known)
    except pydantic.ValidationError as error:
        for detail in error.errors(include_url=False):
            if (one := _mistake(detail, names)).key not in told:
                yield one


def _mistyped(kind: type[Any], values: Mapping[str, Any]) -> Iterator[Mistake]:
    types = get_type_hints(kind)
    for key, value in values.items():
        try:
            pydantic.TypeAdapter(types[key]).validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            yield Mistake(key, f"setting '{key}': {error.errors(include_url=False)[0]['msg']}")


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
    # JSON's strings are TOML's, but for one character.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _mistake(detail: pydantic_core.ErrorDetails, names: set[str]) -> Mistake:
    key = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] in ("missing", "missing_argument"):
        return Mistake("", f"setting '{key}' is missing")
    message = detail["msg"].removeprefix("Value error, ")
    if key:
        return Mistake(key, f"setting '{key}': {message}")
    first = message.partition(" ")[0].removesuffix(":")  # what the dataclass says of one begins with its name
    return Mistake(first if first in names else "", message)


def _line(text: str, key: str) -> int:
    found = key and re.search(rf"(?m)^[ \t]*{re.escape(key)}[ \t]*=", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1
