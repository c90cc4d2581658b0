"""YAML values that know where they stand: every error can name file:line:col.

PyYAML composes nodes with marks; this module turns them into plain values plus a table from path
(`("spec", "egress", 0, "toFQDNs")`) to position. It is stricter than YAML where YAML surprises: a duplicate
key is an error, anchors may not recurse, and size and depth of a document are bounded (manifests are hostile
input). libyaml does the reading where PyYAML was built with it: fifteen times as fast, with the same marks.
Models are pydantic's; all of a document's errors come back at once, each with its place and, for an unknown
field, the closest known one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import pydantic
import yaml
from pydantic.fields import FieldInfo

from acns import scalars, separators, textfile
from acns.errors import InputError, Problem

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=pydantic.BaseModel)

MAX_TEXT_BYTES = textfile.MAX_BYTES
MAX_NODES = 500_000
MAX_DEPTH = 200
_MAPPING = "a mapping belongs here (`key: value`)"
_NO_MAPPING = ("model_type", "model_attributes_type", "dict_type")
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB]")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_ESCAPE = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\.", re.DOTALL)
"""Of two UTF-16 surrogates; else any, so that none is looked for behind an escaped backslash."""
_QUOTED = re.compile(r"'([^']+)'")
_NOT_RESOLVED = re.compile(r"(?:&\S++(?:\s|#[^\r\n\x85\u2028\u2029]*+)++)?!(?:<!>)?(?!\S)")
"""YAML's non-specific tag, which makes text; no node has it, as libyaml drops it."""
_MISPLACED_AT_MOST = 100
"""Of what is between documents, so many are told: to find each place takes a pass over the text."""
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

_MERGE = "tag:yaml.org,2002:merge"

_Entries = dict[str, tuple[yaml.ScalarNode, yaml.Node]]
"""Those of a mapping, by key."""


Loader = scalars.as_kubernetes_reads(getattr(yaml, "CSafeLoader", yaml.SafeLoader))
"""libyaml's where there is one."""


@dataclass(frozen=True, slots=True)
class Position:
    """Line and column, counted from 1; `path` is empty but in a document that was put together of several."""

    line: int
    column: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its plain value, and where each part of it begins (keys, for mapping entries)."""

    path: str
    value: Any
    positions: dict[Path, Position]

    def position(self, where: Path = ()) -> Position:
        """The position of `where`, or of its nearest ancestor that exists."""
        for end in range(len(where), -1, -1):
            if found := self.positions.get(where[:end]):
                return found
        return Position(1, 1)

    def problem(
        self, where: Path, message: str, *, hint: str = "", warning: bool = False, code: str = ""
    ) -> Problem:
        at = self.position(where)
        return Problem(at.path or self.path, at.line, at.column, message, hint, warning, code)


def load(text: str, path: str) -> list[Document]:
    """All documents of a YAML (or JSON) text; empty ones are left out. Raises InputError, with positions."""
    if len(text) > MAX_TEXT_BYTES:
        raise InputError([Problem(path, 1, 1, f"file is larger than {MAX_TEXT_BYTES >> 20} MiB")])
    text = _with_joined_surrogates(text.removeprefix("\ufeff"))  # (a byte order mark)
    if not text.endswith("\n"):
        text += "\n"  # as Kubernetes' reader does, which a block scalar at the end shows
    try:
        problems = _check_events(text, path)
        return list(_documents(text, path, problems))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message, hint = _in_words(error, text, line, column)
        raise InputError([Problem(path, line, column, message, hint)]) from error
    except yaml.reader.ReaderError as error:  # a character that YAML does not have
        # (Its own position counts octets or characters, as the reader does.)
        wrong = yaml.reader.Reader.NON_PRINTABLE.search(text)
        line, column = _place(text, wrong.start() if wrong else 0)
        raise InputError([Problem(path, line, column, f"not YAML: {error.reason}")]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError([Problem(path, 1, 1, f"not YAML: {error}")]) from error


def _with_joined_surrogates(text: str) -> str:
    """JSON escapes what is beyond U+FFFF as two surrogates (RFC 8259 §7), which YAML knows not. Spaces behind
    the closing quote make up for the shorter escape: all else keeps its place."""
    if not _HIGH_SURROGATE.search(text) or not _is_json(text):
        return text
    return _JSON_STRING.sub(_joined, text)


def _joined(string: re.Match[str]) -> str:
    made = _ESCAPE.sub(_one_escape, string[0])
    return made.ljust(len(string[0]))


def _one_escape(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return escape[0]
    pair = bytes.fromhex(escape[1] + escape[2]).decode("utf-16-be")
    return f"\\U{ord(pair):08x}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _documents(text: str, path: str, problems: list[Problem]) -> Iterator[Document]:
    """Raises InputError with what is wrong in all of them, besides `problems`."""
    loader = Loader(text)
    tagged = text if "!" in text else ""
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                break
            builder = _Builder(path, loader, tagged)
            document = Document(path, builder.value(node, ()), builder.positions)
            problems += builder.problems
            if document.value is not None:
                yield document
    finally:
        loader.dispose()
    if problems:
        raise InputError(sorted(problems, key=lambda problem: (problem.line, problem.column)))


def _in_words(error: yaml.MarkedYAMLError, text: str, line: int, column: int) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    if error.problem and "nesting depth" in error.problem:  # libyaml has a limit of its own, before any event
        return _TOO_DEEP, ""
    message = f"not YAML: {error.problem or error}"
    written = "".join(text.split("\n")[line - 1 : line])
    if written[column - 1 : column] == "\t":
        return message, "this is a tab: YAML is indented by spaces"
    return message, "a template? Render it first" if "{{" in text else ""


def _check_events(text: str, path: str) -> list[Problem]:
    """What stands where Kubernetes does not read it."""
    problems = list[Problem]()
    for at, message, hint in separators.misplaced(text, _not_too_deep(text, path)):
        if len(problems) < _MISPLACED_AT_MOST:
            line, column = _place(text, at)
            problems.append(Problem(path, line, column, message, hint))
    return problems


def _not_too_deep(text: str, path: str) -> Iterator[yaml.Event]:
    """Before anything recurses: a stack that libyaml's composer overflows takes the whole process with it."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                at = _position(event)
                raise InputError([Problem(path, at.line, at.column, _TOO_DEEP)])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        yield event


def _place(text: str, at: int) -> tuple[int, int]:
    """Line and column, as editors count them."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


class _Builder:
    """Plain values and positions from one composed node tree."""

    def __init__(self, path: str, loader: Any, tagged: str) -> None:
        """`tagged` is the text where it may have `!` before a scalar."""
        self.path = path
        self.loader = loader
        self.tagged = tagged
        self.positions: dict[Path, Position] = {}
        self.problems: list[Problem] = []
        self.open_nodes: set[int] = set()
        self.known: dict[int, _Entries] = {}
        self.nodes = 0

    def value(self, node: yaml.Node, where: Path) -> Any:
        if not self.has_room(1, node):
            return None
        if id(node) in self.open_nodes:
            self.fail(node, "an anchor contains itself")
            return None
        self.positions.setdefault(where, _position(node))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, where)
            return self.sequence(node, where)
        finally:
            self.open_nodes.discard(id(node))

    def scalar(self, node: yaml.ScalarNode) -> Any:
        self.resolve(node)
        try:
            return self.loader.construct_object(node)
        except scalars.Misfit as error:
            self.fail(node, str(error.problem))
            return None

    def resolve(self, node: yaml.Node) -> None:
        if self.tagged and _NOT_RESOLVED.match(self.tagged, node.start_mark.index, node.end_mark.index):
            node.tag = scalars.TEXT

    def sequence(self, node: yaml.Node, where: Path) -> list[Any]:
        return [self.value(item, (*where, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, where: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, (key_node, value_node) in self.entries(node).items():
            self.positions[(*where, key)] = _position(key_node)
            result[key] = self.value(value_node, (*where, key))
        return result

    def entries(self, node: yaml.MappingNode) -> _Entries:
        """Its own, and what `<<` merges into it. Kubernetes takes the later of two; here an own key may only
        be the later one."""
        if id(node) not in self.known:
            own: _Entries = {}
            merged: _Entries = {}
            for key_node, value_node in node.value:
                if key_node.tag == _MERGE and key_node.value == "<<":
                    found = self.merged(value_node, key_node)
                    self.check_merge(found, own, merged, key_node)
                    merged |= found
                elif (key := self.key(key_node)) in own:
                    self.fail(key_node, f"'{key}' is given twice")
                elif key is not None:
                    own[key] = key_node, value_node
            self.known[id(node)] = {**merged, **own}
        return self.known[id(node)]

    def check_merge(self, found: _Entries, own: _Entries, merged: _Entries, at: yaml.Node) -> None:
        """One key of each is enough: what mends it mends the others."""
        if (first := next((key for key in found if key in own), None)) is not None:
            hint = "Kubernetes takes the merged one: write '<<' first"
            self.fail(at, f"'{first}' stands before a '<<' that has it too", hint)
        if (first := next((key for key in found if key in merged), None)) is not None:
            hint = "Kubernetes takes the last one: write one '<<: [*a, *b]', of which the first one's count"
            self.fail(at, f"'{first}' is merged by an earlier '<<' too", hint)

    def key(self, node: yaml.Node) -> str | None:
        """None for what cannot be one."""
        self.resolve(node)
        try:
            return scalars.key(self.loader, node)
        except scalars.Misfit as error:
            self.fail(node, str(error.problem))
            return None

    def merged(self, node: yaml.Node, at: yaml.Node) -> _Entries:
        """What the key at `at` merges into its mapping: of several mappings' the first one's."""
        result: _Entries = {}
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            found = self.merged_one(each, at)
            if self.has_room(len(found), at):
                for key, entry in found.items():
                    result.setdefault(key, entry)
        return result

    def merged_one(self, node: yaml.Node, at: yaml.Node) -> _Entries:
        if not isinstance(node, yaml.MappingNode):
            self.fail(at, "only mappings can be merged by '<<'")
        elif id(node) in self.open_nodes:
            self.fail(at, "an anchor contains itself")
        elif len(self.open_nodes) > MAX_DEPTH:
            self.fail(at, _TOO_DEEP)
        else:
            self.open_nodes.add(id(node))
            found = self.entries(node)
            self.open_nodes.discard(id(node))
            return found
        return {}

    def has_room(self, count: int, node: yaml.Node) -> bool:
        """Whether there may be so many values more."""
        before, self.nodes = self.nodes, self.nodes + count
        if before <= MAX_NODES < self.nodes:
            self.fail(node, f"more than {MAX_NODES:,} values, those of each alias counted")
        return self.nodes <= MAX_NODES

    def fail(self, node: yaml.Node, message: str, hint: str = "") -> None:
        at = _position(node)
        self.problems.append(Problem(self.path, at.line, at.column, message, hint))


def _position(part: yaml.Node | yaml.Event) -> Position:
    mark = part.start_mark
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


def validate(model: type[Model], document: Document, where: Path = ()) -> Model:
    """`document` (or its part at `where`) as `model`. Raises InputError with every problem at its place."""
    value = document.value
    for step in where:
        value = value[step]
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        raise InputError(_problems(model, document, where, error)) from error


def _problems(
    model: type[pydantic.BaseModel], document: Document, where: Path, error: pydantic.ValidationError
) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        loc: Path = (*where, *detail["loc"])
        if detail["type"] == "extra_forbidden":
            known = field_names(model_at(model, detail["loc"][:-1]))
            yield document.problem(loc, f"unknown field '{loc[-1]}'", hint=did_you_mean(str(loc[-1]), known))
        elif detail["type"] == "missing":
            yield document.problem(loc[:-1], f"'{loc[-1]}' is missing")
        else:
            message = (
                _MAPPING if detail["type"] in _NO_MAPPING else detail["msg"].removeprefix("Value error, ")
            )
            hint = _closest(detail)
            yield document.problem(loc, f"{'.'.join(map(str, loc))}: {message}", hint=hint)


def _closest(detail: Any) -> str:
    """Of the words that a field may have, where one is meant; pydantic's message has them all."""
    context = detail.get("ctx", {})
    word = context.get("tag", detail["input"])
    allowed = _QUOTED.findall(str(context.get("expected_tags") or context.get("expected") or ""))
    return nearest(word, allowed) if isinstance(word, str) else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest of `known`; empty where none is close."""
    names = sorted(known)
    same = [name for name in names if name.lower() == word.lower()]
    close = same or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The same; all of them when none is close and they are few."""
    names = sorted(known)
    listed = f"known here: {', '.join(names)}" if 0 < len(names) <= 12 else ""
    return nearest(word, names) or listed


def model_at(model: type[pydantic.BaseModel], loc: Iterable[str | int]) -> type[pydantic.BaseModel] | None:
    """The model that describes what is at `loc`; None when `loc` leaves the models."""
    current: type[pydantic.BaseModel] | None = model
    for step in loc:
        if isinstance(step, int) or current is None:
            continue
        current = next(
            (
                _model_in(field.annotation)
                for name, field in current.model_fields.items()
                if step in (name, field.alias)
            ),
            current,  # no field: the key of a mapping of models, or the tag of a union
        )
    return current


def field_names(
    model: type[pydantic.BaseModel] | None, but: Callable[[FieldInfo], bool] = lambda field: False
) -> set[str]:
    """The names (aliases) of a model's fields, without those that `but` says."""
    fields = model.model_fields.items() if model else ()
    return {field.alias or name for name, field in fields if not but(field)}


def _model_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
