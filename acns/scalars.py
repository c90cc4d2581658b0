"""Plain YAML scalars as Kubernetes reads them: what is a number, a truth value, or text.

Its reader (sigs.k8s.io/yaml, goyaml.v2's resolve.go) takes YAML 1.1's words for true and false with `y` and
`n`, as PyYAML does not; floats with an exponent and no dot; `08` as the number 8; and `1:40` as text, which
YAML 1.1 has as 100. Dates stay text: a label may be one. Integers have 64 bits: what is larger is a float, or
text where it is hexadecimal, octal (`0o`) or binary. What has a tag that it does not know is text.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_BOOL, _INT, _FLOAT, _NULL = (f"{_TAG}{name}" for name in ("bool", "int", "float", "null"))
TEXT = f"{_TAG}str"

_TRUE = ("y", "yes", "true", "on")
_WORDS = re.compile(
    "^(?:y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"
)
_NOTHING = re.compile("^(?:~|null|Null|NULL|)$")
_MERGE = re.compile("^<<$")
# Underscores count for nothing, wherever they stand behind the first digit or sign. (Possessive: the text may
# be as long as it likes.)
_INTEGER = re.compile(
    r"^[-+]?_*+(?:[1-9][0-9_]*+|0_*+(?:[bB]_*+[01][01_]*+|[oO]?_*+[0-7][0-7_]*+|[xX]_*+[0-9a-fA-F][0-9a-fA-F_]*+)?)$"
)
_FRACTION = re.compile(
    r"^[-+]?_*+(?:\._*+[0-9][0-9_]*+|[0-9][0-9_]*+(?:\.[0-9_]*+)?)(?:[eE]_*+[-+]?_*+[0-9][0-9_]*+)?$"
)
# Here they stand between digits.
_DOTTED = re.compile(r"^\.[0-9]++(?:_[0-9]++)*+(?:[eE][-+]?[0-9]++(?:_[0-9]++)*+)?$")
_INFINITE = re.compile(r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
_BASES = {"0b": 2, "0o": 8, "0x": 16}
_SIGNED, _UNSIGNED = range(-(1 << 63), 1 << 63), range(1 << 64)
_MAX_DIGITS = len(str(_UNSIGNED[-1]))
_SHOWN = 60


class Misfit(yaml.constructor.ConstructorError):
    """A scalar that cannot be what it stands for; `problem` says so."""

    def __init__(self, node: yaml.ScalarNode, problem: str) -> None:
        super().__init__(None, None, problem, node.start_mark)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """By first character; of several the first counts."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in (
        (_BOOL, _WORDS, "yYnNtTfFoO"),
        (_NULL, _NOTHING, ["~", "n", "N", ""]),
        (f"{_TAG}merge", _MERGE, "<"),
        (_INT, _INTEGER, "-+0123456789"),
        (_FLOAT, _FRACTION, "-+0123456789"),
        (_FLOAT, _DOTTED, "."),
        (_FLOAT, _INFINITE, "-+."),
    ):
        for first in firsts:
            found.setdefault(first, []).append((tag, pattern))
    return found


def as_kubernetes_reads(loader: type[Any]) -> type[Any]:
    """One of PyYAML's loaders, with scalars like that."""
    own = {"yaml_implicit_resolvers": _resolvers(), "yaml_constructors": {None: _by_kind}}
    made: type[Any] = type("Loader", (loader,), own)
    for tag, read, *patterns in (
        (_BOOL, _truth, _WORDS),
        (_NULL, _nothing, _NOTHING),
        (_INT, _integer, _INTEGER),
        (_FLOAT, _number, _INTEGER, _FRACTION, _DOTTED, _INFINITE),
    ):
        made.add_constructor(tag, _of_scalars(_constructor(read, patterns)))
    made.add_constructor(f"{_TAG}timestamp", _of_scalars(_date))
    made.add_constructor(f"{_TAG}binary", _of_scalars(_binary))
    return made


def as_kubernetes_is_told(dumper: type[Any]) -> type[Any]:
    """One of PyYAML's dumpers that quotes what would be read otherwise, by Kubernetes or by PyYAML itself."""
    resolvers = _resolvers()
    for first, others in dumper.yaml_implicit_resolvers.items():
        resolvers.setdefault(first, []).extend(others)
    return type("Dumper", (dumper,), {"yaml_implicit_resolvers": resolvers, "analyze_scalar": _analyzed})


def _analyzed(emitter: Any, text: str) -> Any:
    """PyYAML (not libyaml, which does not ask) writes U+0085 as it is unless it stands in double quotes, and
    reads it as the end of a line."""
    found = yaml.emitter.Emitter.analyze_scalar(emitter, text)
    if "\N{NEXT LINE}" in text:
        found.allow_single_quoted = found.allow_block = False
    return found


Dumper: Any = as_kubernetes_is_told(yaml.SafeDumper)


class ManifestDumper(Dumper):  # type: ignore[misc]
    """Manifests as people and API servers write them: without anchors, what comes twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def key(loader: Any, node: yaml.ScalarNode) -> str:
    """A key as the JSON has it that Kubernetes makes of YAML. Raises Misfit."""
    if node.tag == TEXT:
        return str(node.value)
    value = loader.construct_object(node)
    if value is None:
        raise Misfit(node, "null cannot be a key")
    if isinstance(value, bool):
        return "true" if value else "false"
    return _shortest(value) if isinstance(value, float) else str(value)


def _shortest(number: float) -> str:
    """As Go writes one of 32 bits: the fewest digits that mean it."""
    single = _single(number)
    if not math.isfinite(single):
        return ".nan" if math.isnan(single) else ".inf" if single > 0 else "-.inf"
    digits = next(count for count in range(17) if _single(float(f"{single:.{count}e}")) == single)
    text = f"{single:.{digits}e}"
    exponent = int(text.partition("e")[2])
    return f"{single:.{max(0, digits - exponent)}f}" if -4 <= exponent < 6 else text


def _single(number: float) -> float:
    """The nearest of 32 bits."""
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def _by_kind(loader: Any, node: yaml.Node) -> Any:
    """Where no tag is, or one that means nothing: `<<` that is no key, `!foo`, `!!set`."""
    if isinstance(node, yaml.MappingNode):
        return loader.construct_yaml_map(node)
    return loader.construct_yaml_seq(node) if isinstance(node, yaml.SequenceNode) else str(node.value)


def _of_scalars(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """What else has such a tag is what it is without."""
    return lambda loader, node: (construct if isinstance(node, yaml.ScalarNode) else _by_kind)(loader, node)


def _constructor(read: Callable[[str], Any], patterns: list[re.Pattern[str]]) -> Callable[[Any, Any], Any]:
    """One that has its tag by its text fits a pattern; one that has it written beside it may not."""

    def construct(_: Any, node: yaml.ScalarNode) -> Any:
        if not any(pattern.fullmatch(node.value) for pattern in patterns):
            raise _unfit(node)
        return read(node.value)

    return construct


def _unfit(node: yaml.ScalarNode) -> Misfit:
    return Misfit(node, f"{node.value[:_SHOWN]!r} is no !!{node.tag.removeprefix(_TAG)}")


def _truth(text: str) -> bool:
    return text.lower() in _TRUE


def _nothing(_: str) -> None:
    return None


def _integer(text: str) -> int | float | str:
    plain = text.replace("_", "").lower()
    digits = plain.lstrip("+-")
    base = _BASES.get(digits[:2]) or (8 if digits.startswith("0") else 10)
    if base != 10 or len(digits) <= _MAX_DIGITS:
        found = int(plain, base)
        if found in _SIGNED or (plain == digits and found in _UNSIGNED):
            return found
    return text if digits[:2] in _BASES else _float(text)


def _number(text: str) -> float | str:
    if _INFINITE.match(text):
        return math.nan if text[1:].lower() == "nan" else float(text.replace(".", ""))
    if _INTEGER.match(text):
        found = _integer(text)
        return float(found) if isinstance(found, int) else found
    return _float(text)


def _float(text: str) -> float | str:
    """One that is too large is text to Go."""
    found = float(text.replace("_", ""))
    return text if math.isinf(found) else found


def _date(loader: Any, node: yaml.ScalarNode) -> str:
    """Text, if it is one."""
    if not loader.timestamp_regexp.match(node.value):
        raise _unfit(node)
    try:
        loader.construct_yaml_timestamp(node)
    except ValueError as error:  # no such day
        raise _unfit(node) from error
    return str(node.value)


def _binary(_: Any, node: yaml.ScalarNode) -> str:
    try:
        return base64.b64decode("".join(node.value.split()), validate=True).decode(errors="replace")
    except ValueError as error:
        raise _unfit(node) from error
