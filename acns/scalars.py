"""Plain YAML scalars as Kubernetes reads them: what is a number, a truth value, or text.

Its reader (sigs.k8s.io/yaml, goyaml.v2's resolve.go) takes YAML 1.1's words for true and false with `y` and
`n`, as PyYAML does not; floats with an exponent and no dot; `08` as the number 8; and `1:40` as text, which
YAML 1.1 has as 100. Dates stay text: a label may be one. Integers have 64 bits: what is larger is a float, or
text where it is hexadecimal, octal (`0o`) or binary. What has a tag that it does not know is text.
"""

from __future__ import annotations

import base64
import datetime
import math
import re
import struct
import types
from collections.abc import Callable
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_BOOL, _INT, _FLOAT, _NULL = (f"{_TAG}{name}" for name in ("bool", "int", "float", "null"))
TEXT = f"{_TAG}str"
_PLAIN = "number"
"""The tag of one without: it is what it has room in, and `!!int` and `!!float` are nothing else."""

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
_DAY, _CLOCK = "([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})", "([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?"
_ZONE = "(?:Z|[-+](?:[01][0-9]|2[0-4]):(?:[0-5][0-9]|60))"
_MOMENTS = [re.compile(form) for form in (_DAY, f"{_DAY} +{_CLOCK}", f"{_DAY}[Tt]{_CLOCK}{_ZONE}")]
_BASES = {"0b": 2, "0o": 8, "0x": 16}
_SIGNED, _UNSIGNED = range(-(1 << 63), 1 << 63), range(1 << 64)
_MAX_DIGITS = len(str(_UNSIGNED[-1]))
_LEAP = 2000
"""As is the year 0, which `datetime` does not have."""
_SHOWN = 60


class Misfit(yaml.constructor.ConstructorError):
    """What cannot be what it stands for; `problem` says so."""

    def __init__(self, node: yaml.Node, problem: str) -> None:
        super().__init__(None, None, problem, node.start_mark)


def _resolvers(integer: str = _INT, number: str = _FLOAT) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """By first character; of several the first counts. With these tags for numbers."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in (
        (_BOOL, _WORDS, "yYnNtTfFoO"),
        (_NULL, _NOTHING, ["~", "n", "N", ""]),
        (f"{_TAG}merge", _MERGE, "<"),
        (integer, _INTEGER, "-+0123456789"),
        (number, _FRACTION, "-+0123456789"),
        (number, _DOTTED, "."),
        (number, _INFINITE, "-+."),
    ):
        for first in firsts:
            found.setdefault(first, []).append((tag, pattern))
    return found


def as_kubernetes_reads(loader: type[Any]) -> type[Any]:
    """One of PyYAML's loaders, with scalars like that."""
    own = {
        "yaml_implicit_resolvers": _resolvers(_PLAIN, _PLAIN),
        "yaml_constructors": {None: _by_kind},
        "construct_mapping": _mapping,
    }
    made: type[Any] = type("Loader", (loader,), own)
    numbers = (_INTEGER, _FRACTION, _DOTTED, _INFINITE)
    for tag, read, kind, *patterns in (
        (_BOOL, _truth, bool, _WORDS),
        (_NULL, _nothing, types.NoneType, _NOTHING),
        (_PLAIN, _plain, object, *numbers),
        (_INT, _integer, int, _INTEGER),
        (_FLOAT, _number, float, *numbers),
    ):
        made.add_constructor(tag, _of_scalars(_constructor(read, kind, patterns)))
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


def _mapping(loader: Any, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
    loader.flatten_mapping(node)
    return {key(loader, name): loader.construct_object(value, deep=deep) for name, value in node.value}


def key(loader: Any, node: yaml.Node) -> str:
    """A key as the JSON has it that Kubernetes makes of YAML. Raises Misfit."""
    if not isinstance(node, yaml.ScalarNode):
        raise Misfit(node, "a key must be a plain word")
    if node.tag == TEXT:
        return str(node.value)
    value = loader.construct_object(node)
    if value is None:
        raise Misfit(node, "null cannot be a key")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value not in _SIGNED:
        raise Misfit(node, f"the number {node.value[:_SHOWN]} is too large for a key (put it in quotes)")
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


def _constructor(
    read: Callable[[str], Any], kind: type[Any], patterns: list[re.Pattern[str]]
) -> Callable[[Any, Any], Any]:
    """One that has its tag by its text fits a pattern; one that has it written beside it may not."""

    def construct(_: Any, node: yaml.ScalarNode) -> Any:
        if any(pattern.fullmatch(node.value) for pattern in patterns):
            found = read(node.value)
            if isinstance(found, kind):
                return found
        raise _unfit(node)

    return construct


def _unfit(node: yaml.ScalarNode) -> Misfit:
    return Misfit(node, f"{node.value[:_SHOWN]!r} is no !!{node.tag.removeprefix(_TAG)}")


def _truth(text: str) -> bool:
    return text.lower() in _TRUE


def _nothing(_: str) -> None:
    return None


def _plain(text: str) -> int | float | str:
    return _integer(text) if _INTEGER.match(text) else _number(text)


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


def _date(_: Any, node: yaml.ScalarNode) -> str:
    """Text, if it is one."""
    parts = next((found for form in _MOMENTS if (found := form.fullmatch(node.value))), None)
    if not parts:
        raise _unfit(node)
    year, *others = map(int, parts.groups())
    try:
        datetime.datetime(year or _LEAP, *others)  # type: ignore[arg-type]
    except ValueError as error:  # no such day
        raise _unfit(node) from error
    return str(node.value)


def _binary(_: Any, node: yaml.ScalarNode) -> str:
    octets = node.value.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(octets, validate=True).decode(errors="replace")
    except ValueError as error:
        raise _unfit(node) from error
