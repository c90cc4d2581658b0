"""Plain YAML scalars as Kubernetes reads them: what is a number, a truth value, or text.

Its reader (sigs.k8s.io/yaml, goyaml.v2's resolve.go) takes YAML 1.1's words for true and false with `y` and
`n`, as PyYAML does not; floats with an exponent and no dot; `08` as the number 8; and `1:40` as text, which
YAML 1.1 has as 100. Dates stay text: a label may be one.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
BOOL, INT, FLOAT = (f"{_TAG}{name}" for name in ("bool", "int", "float"))

_TRUE = ("y", "yes", "true", "on")
_WORDS = re.compile(
    "^(?:y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"
)
_NULL = re.compile("^(?:~|null|Null|NULL|)$")
_MERGE = re.compile("^<<$")
# Underscores count for nothing, wherever they stand behind the first digit or sign. (Possessive: the text may
# be as long as it likes.)
_INTEGER = re.compile(
    r"^[-+]?_*+(?:[1-9][0-9_]*+|0_*+(?:[bB]_*+[01][01_]*+|[oO]?_*+[0-7][0-7_]*+|[xX]_*+[0-9a-fA-F][0-9a-fA-F_]*+)?)$"
)
_FRACTION = re.compile(
    r"^[-+]?_*+(?:\._*+[0-9][0-9_]*+|[0-9][0-9_]*+(?:\.[0-9_]*+)?)(?:[eE]_*+[-+]?_*+[0-9][0-9_]*+)?$"
)
_DOTTED = re.compile(r"^\.[0-9]++(?:[eE][-+]?[0-9]++)?$")
_INFINITE = re.compile(r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
_BASES = {"b": 2, "o": 8, "x": 16}


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """By first character; of several the first counts."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in (
        (BOOL, _WORDS, "yYnNtTfFoO"),
        (f"{_TAG}null", _NULL, ["~", "n", "N", ""]),
        (f"{_TAG}merge", _MERGE, "<"),
        (INT, _INTEGER, "-+0123456789"),
        (FLOAT, _FRACTION, "-+0123456789"),
        (FLOAT, _DOTTED, "."),
        (FLOAT, _INFINITE, "-+."),
    ):
        for first in firsts:
            found.setdefault(first, []).append((tag, pattern))
    return found


def as_kubernetes_reads(loader: type[Any]) -> type[Any]:
    """One of PyYAML's loaders, with scalars like that."""
    made: type[Any] = type("Loader", (loader,), {"yaml_implicit_resolvers": _resolvers()})
    made.add_constructor(BOOL, lambda _, node: node.value.lower() in _TRUE)
    made.add_constructor(INT, lambda _, node: _integer(node.value))
    made.add_constructor(FLOAT, lambda _, node: _number(node.value))
    return made


def as_kubernetes_is_told(dumper: type[Any]) -> type[Any]:
    """One of PyYAML's dumpers that quotes what would be read otherwise, by Kubernetes or by PyYAML itself."""
    resolvers = _resolvers()
    for first, others in dumper.yaml_implicit_resolvers.items():
        resolvers.setdefault(first, []).extend(others)
    return type("Dumper", (dumper,), {"yaml_implicit_resolvers": resolvers})


Dumper = as_kubernetes_is_told(yaml.SafeDumper)


def key(node: yaml.ScalarNode) -> str:
    """A key as the JSON has it that Kubernetes makes of YAML."""
    if node.tag == BOOL:
        return "true" if node.value.lower() in _TRUE else "false"
    return str(node.value)


def _integer(text: str) -> int:
    plain = text.replace("_", "").lower()
    sign, digits = (-1 if plain.startswith("-") else 1), plain.lstrip("+-")
    if digits[:1] == "0" and digits != "0":
        base = _BASES.get(digits[1], 8)
        return sign * int(digits[2:] if digits[1] in _BASES else digits[1:], base)
    return sign * int(digits)


def _number(text: str) -> float | str:
    """One that is too large for a float is text to Go."""
    if _INFINITE.match(text):
        return math.nan if text[1:].lower() == "nan" else float(text.replace(".", ""))
    found = float(text.replace("_", ""))
    return text if math.isinf(found) else found
