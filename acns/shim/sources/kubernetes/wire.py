"""Lists and watch events: from the bytes of an API server to values.

Objects stay bytes until each is read by itself: a page of five hundred pods as Python values would be tens of
megabytes, of which next to nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")
Key = tuple[str, str]
"""An object's namespace ("" where its kind has none) and name: unique within a resource."""

MAX_LINE_BYTES: Final = 16 << 20
"""Of one watch event; etcd keeps no object above a few MiB."""


class Malformed(ValueError):
    """Not what an API server sends."""


class EventType(StrEnum):
    """The types of watch events."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; `rest` is the token for what follows, "" at the end."""

    items: tuple[bytes, ...]
    version: str
    rest: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`item` is the object, or for an ERROR the Status."""

    type: EventType
    item: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """What a failed request says of itself (meta/v1 Status)."""

    code: int
    reason: str
    message: str


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""
    rest: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: EventType
    object: msgspec.Raw


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


def read_page(body: bytes) -> Page:
    """A list's answer. Raises Malformed."""
    found = _decode(body, _List)
    return Page(
        tuple(bytes(item) for item in found.items or ()), found.metadata.resourceVersion, found.metadata.rest
    )


def read_event(line: bytes) -> WatchEvent:
    """A line of a watch. Raises Malformed."""
    found = _decode(line, _Event)
    return WatchEvent(found.type, bytes(found.object))


def read_status(body: bytes) -> Status | None:
    """The Status in a refusal's body; None where it is something else (404 and 429 come as plain text)."""
    try:
        found = _decode(body, _Status)
    except Malformed:
        return None
    return Status(found.code, found.reason, found.message)


def read_object(item: bytes) -> dict[str, Any]:
    """An object as plain values. Raises Malformed."""
    value: Any = _decode(item, dict)
    return dict(value)


def name_of(item: bytes) -> tuple[Key, str]:
    """An object's key and resourceVersion, without the rest of it. Raises Malformed."""
    meta = _decode(item, _Object).metadata
    return (meta.namespace, meta.name), meta.resourceVersion


def write(value: Mapping[str, Any]) -> bytes:
    """An object as JSON."""
    return msgspec.json.encode(value)


class Lines:
    """Puts lines together from parts that end anywhere."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The lines that are complete now. Raises Malformed for one that does not end."""
        *whole, rest = part.split(b"\n")
        for line in whole:
            self._parts.append(line)
            if joined := b"".join(self._parts):
                yield joined
            self._parts, self._size = [], 0
        self._parts.append(rest)
        self._size += len(rest)
        if self._size > MAX_LINE_BYTES:
            raise Malformed(f"a watch event of more than {MAX_LINE_BYTES >> 20} MiB")


def _decode(text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error
