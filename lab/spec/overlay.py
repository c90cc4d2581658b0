"""A topology that says only what is different: `base` names another, the rest of the file changes it.

What both have by name (nodes, pods, Services, links, DNS servers and names of the Internet, policy files) the
overlay replaces whole, at the base's place in the order, so that addresses given out by order stay; what only
the overlay has is added; `remove` takes away first. `name` and `description` are always the overlay's own.

A base is a shipped topology or a file below the overlay's folder, and may be an overlay itself; one that
leads back to itself is refused. Each part keeps the position it was written at, its file included, so that
every problem of what comes of it points to whichever file is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from acns import located
from acns.errors import InputError, Problem
from acns.located import Document, Position
from acns.policy import salvage
from lab.spec.topology import Section

MAX_BASES = 8

Where = located.Path
Finder = Callable[[str, Path], Path]
"""`find(base, folder)`: the file that is meant. Raises InputError."""


class Removal(Section):
    """What of the base goes: by name, or `all` of a section."""

    nodes: tuple[str, ...] | Literal["all"] = ()
    """By name."""
    pods: tuple[str, ...] | Literal["all"] = ()
    """`name`, or `namespace/name`."""
    services: tuple[str, ...] | Literal["all"] = ()
    """`name`, or `namespace/name`."""
    links: tuple[str, ...] | Literal["all"] = ()
    """By what they are of."""
    names: tuple[str, ...] | Literal["all"] = ()
    """Names of the Internet."""
    servers: tuple[str, ...] | Literal["all"] = ()
    """DNS servers of the Internet."""
    policies: tuple[str, ...] | Literal["all"] = ()
    """File names without their folder."""
    faults: tuple[str, ...] | Literal["all"] = ()
    """As the base has them."""
    expect: tuple[str, ...] | Literal["all"] = ()
    """Statements as the base has them."""


class Overlay(Section):
    """The part of a file that says what it changes."""

    base: str | None = None
    """The topology that this one changes: the name of a shipped one, or a file below this one's folder."""
    remove: Removal = Removal()
    """What goes of the base before anything is added."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A value whose parts know where they were written."""

    value: Any
    """`dict[str, _Part]`, `list[_Part]`, or what has no parts."""
    at: Position


def _named(part: _Part) -> str | None:
    return _text(part, "name")


def _in_namespace(part: _Part) -> str | None:
    name = _text(part, "name")
    return name and f"{_text(part, 'namespace') or 'default'}/{name}"


def _file_name(part: _Part) -> str | None:
    file = _text(part, "file")
    return file and Path(file).name


def _itself(part: _Part) -> str | None:
    return " ".join(part.value.split()) if isinstance(part.value, str) else None


def _text(part: _Part, field: str) -> str | None:
    found = part.value.get(field) if isinstance(part.value, dict) else None
    return found.value if found and isinstance(found.value, str) else None


_LISTS: Mapping[Where, Callable[[_Part], str | None]] = {
    ("nodes",): _named,
    ("pods",): _in_namespace,
    ("services",): _in_namespace,
    ("links",): lambda part: _text(part, "of"),
    ("internet", "servers"): _named,
    ("policies",): _file_name,
    ("faults",): _itself,
    ("expect",): _itself,
}
"""Lists, and by what their entries are known."""
_MAPPINGS: frozenset[Where] = frozenset({(), ("internet",), ("internet", "names")})
_OWN = ("name", "description")
_REMOVED_FROM: Mapping[str, Where] = {
    **{where[-1]: where for where in _LISTS if isinstance(where[-1], str)},
    "names": ("internet", "names"),
}


def read(path: Path, find: Finder, read_one: Callable[[Path], Document]) -> tuple[Document, list[Problem]]:
    """The document of a topology, its bases merged into it, and what is wrong with the merging.

    Raises InputError where a base is not there, or cannot be read.
    """
    first = read_one(path)
    if "base" not in first.value and "remove" not in first.value:
        return first, []
    problems: list[Problem] = []
    merged = _merged(first, (path.resolve(),), (find, read_one), problems)
    value, positions = merged.value, dict[Where, Position]()
    return Document(str(path), _flat(_Part(value, merged.at), (), positions), positions), problems


def folder_of(document: Document, where: Where = ()) -> Path:
    """The folder of the file in which that part was written: what a relative path in it starts from."""
    return Path(document.position(where).path or document.path).resolve().parent


def _merged(
    document: Document,
    seen: tuple[Path, ...],
    files: tuple[Finder, Callable[[Path], Document]],
    problems: list[Problem],
) -> _Part:
    """The whole topology that the document comes to; `seen` are the files that led to it, its own last."""
    ours = _tree(document, (), document.value)
    own = {key: part for key, part in ours.value.items() if key not in Overlay.model_fields}
    overlay = _overlay(document, problems)
    if overlay is None:
        return replace(ours, value=own)
    base = _base(document, overlay, seen, files, problems)
    for section, gone in overlay.remove:
        problems.extend(_remove(base, section, gone, document))
    kept = {key: part for key, part in base.value.items() if key not in _OWN}
    return _over(replace(base, value=kept), replace(ours, value=own), ())


def _overlay(document: Document, problems: list[Problem]) -> Overlay | None:
    """None where it is no overlay, or one that cannot be read."""
    given = {key: document.value[key] for key in Overlay.model_fields if key in document.value}
    try:
        overlay = located.validate(Overlay, replace(document, value=given))
    except InputError as error:
        problems.extend(error.problems)
        rest, _ = salvage.salvaged(Overlay, given)
        return rest if rest and rest.base else None
    if overlay.base is None and given:
        problems.append(
            document.problem(("remove",), "'remove' takes away from a base, and there is no 'base'")
        )
        return None
    return overlay if given else None


def _base(
    document: Document,
    overlay: Overlay,
    seen: tuple[Path, ...],
    files: tuple[Finder, Callable[[Path], Document]],
    problems: list[Problem],
) -> _Part:
    """Raises InputError: what is wrong above a base that is not there cannot be said."""
    find, read_one = files
    try:
        path = find(overlay.base or "", folder_of(document))
        if path.resolve() in seen:
            raise InputError(f"the base '{overlay.base}' leads back to itself")
        if len(seen) > MAX_BASES:
            raise InputError(f"more than {MAX_BASES} bases, one on top of the other")
        found = read_one(path)
    except InputError as error:
        own = [document.problem(("base",), error.message, hint=error.hint)]
        raise InputError([*problems, *(error.problems or own)]) from error
    return _merged(found, (*seen, path.resolve()), files, problems)


def _remove(
    base: _Part, section: str, gone: tuple[str, ...] | Literal["all"], document: Document
) -> Iterator[Problem]:
    """Take it out of the base; what is not there is a problem."""
    *above, last = _REMOVED_FROM[section]
    holder = base
    for step in above:
        holder = holder.value.get(step) or _Part({}, base.at)
    entries = holder.value.get(last) if isinstance(holder.value, dict) else None
    if gone == "all":
        if entries:
            del holder.value[last]
        return
    known = _keys(entries, _LISTS.get(_REMOVED_FROM[section]))
    for index, name in enumerate(gone):
        wanted = " ".join(name.split())
        key = wanted if wanted in known or section not in ("pods", "services") else f"default/{wanted}"
        if key in known:
            assert entries is not None
            _take_out(entries, key, _LISTS.get(_REMOVED_FROM[section]))
        else:
            hint = located.did_you_mean(name, {one.removeprefix("default/") for one in known})
            yield document.problem(("remove", section, index), f"the base has no '{name}' there", hint=hint)


def _keys(entries: _Part | None, key_of: Callable[[_Part], str | None] | None) -> set[str]:
    """Of entries of another shape than they should have, which others will say, none."""
    if entries is None or not isinstance(entries.value, dict if key_of is None else list):
        return set()
    if key_of is None:
        return set(entries.value)
    return {key for entry in entries.value if (key := key_of(entry))}


def _take_out(entries: _Part, key: str, key_of: Callable[[_Part], str | None] | None) -> None:
    if key_of is None:
        del entries.value[key]
    else:
        entries.value[:] = [entry for entry in entries.value if key_of(entry) != key]


def _over(base: _Part, ours: _Part, where: Where) -> _Part:
    """`ours` on top of `base`."""
    if where in _MAPPINGS and isinstance(base.value, dict) and isinstance(ours.value, dict):
        both = {
            key: _over(base.value[key], part, (*where, key)) if key in base.value else part
            for key, part in ours.value.items()
        }
        return replace(ours, value={**base.value, **both})
    if (key_of := _LISTS.get(where)) and isinstance(base.value, list) and isinstance(ours.value, list):
        return replace(
            ours, value=_list_over(base.value, ours.value, key_of, is_said_twice=key_of is _itself)
        )
    return ours


def _list_over(
    base: list[_Part], ours: list[_Part], key_of: Callable[[_Part], str | None], *, is_said_twice: bool
) -> list[_Part]:
    """Entries by name replaced where they stood, the others added. A statement replaces none: it is there."""
    if is_said_twice:
        return [*base, *ours]
    place = {key: index for index, entry in enumerate(base) if (key := key_of(entry))}
    result = list(base)
    for entry in ours:
        key = key_of(entry)
        if key in place and result[place[key]] is base[place[key]]:
            result[place[key]] = entry
        else:
            result.append(entry)  # one that is new, or given twice, which the rules will say
    return result


def _tree(document: Document, where: Where, value: Any) -> _Part:
    at = replace(document.position(where), path=document.path)
    if isinstance(value, dict):
        return _Part({key: _tree(document, (*where, key), item) for key, item in value.items()}, at)
    if isinstance(value, list):
        return _Part([_tree(document, (*where, i), item) for i, item in enumerate(value)], at)
    return _Part(value, at)


def _flat(part: _Part, where: Where, positions: dict[Where, Position]) -> Any:
    positions[where] = part.at
    if isinstance(part.value, dict):
        return {key: _flat(item, (*where, key), positions) for key, item in part.value.items()}
    if isinstance(part.value, list):
        return [_flat(item, (*where, i), positions) for i, item in enumerate(part.value)]
    return part.value
