"""Domain names as they are on the wire: tuples of labels, lower-cased.

A label may hold any byte, a dot too (RFC 2181 §11), so printed names cannot be compared: `a.b` as one label
and as two print alike. Everything that decides therefore compares `Name` values; text is for people and for
the FQDNData contract. Case is folded for ASCII only (RFC 4343).

What this module keeps true: reading is bounded whatever the bytes say. A pointer must lead to before the
part that it ends, and what it leads to must end there too (RFC 1035 §4.1.4: a *prior* occurrence), so no
chain of pointers returns to where it was; one name follows few of them and never exceeds 255 octets.
`NameReader` reads the many names of one message without doing the same work twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from acns.errors import cut

Name = tuple[bytes, ...]

ROOT: Name = ()
MAX_LABEL_OCTETS = 63
MAX_NAME_OCTETS = 255  # with length octets and the root's: RFC 1035 §3.1
MAX_LABELS = 50_000  # of one message: its own are fewer, but pointers may have each read again
MAX_POINTERS = 126  # more than any name can use, each but the first behind a label

_MAX_TEXT_CHARACTERS = 4 * MAX_NAME_OCTETS  # each octet as `\\DDD`
_POINTER = 0xC0
_SPECIAL = frozenset(b'"().;\\@$')  # RFC 1035 §5.1: these mean something in a printed name
_PIECE = re.compile(r"\\([0-9]{3})|\\([^0-9])|([^\\.])|(\.)", re.DOTALL)


class MalformedDNS(ValueError):
    """These bytes are not a DNS message. The readers raise this with a short reason, and nothing else."""


def read(buf: bytes, offset: int) -> tuple[Name, int]:
    """The name at `offset`, lower-cased, and the offset behind it. Raises MalformedDNS."""
    labels, end = read_labels(buf, offset)
    return tuple([label.lower() for label in labels]), end


def read_labels(buf: bytes, offset: int) -> tuple[list[bytes], int]:
    """As `read`, but the labels in the case they were sent in."""
    labels, end, target = read_segment(buf, offset)
    pointers, stop = 0, offset
    while target is not None:
        pointers += 1
        if pointers > MAX_POINTERS:
            raise MalformedDNS("a name follows too many compression pointers")
        stop, (more, _, target) = target, read_segment(buf, target, stop)
        labels += more
    if len(labels) > 1 and sum(map(len, labels)) + len(labels) + 1 > MAX_NAME_OCTETS:
        raise MalformedDNS("a name exceeds 255 octets")
    return labels, end


def read_segment(buf: bytes, start: int, stop: int | None = None) -> tuple[list[bytes], int, int | None]:
    """The labels up to a pointer or the root, the offset behind, and where the pointer leads (None: root).

    `stop`: where it has to have ended, for the target of a pointer the part that the pointer ends.
    """
    labels: list[bytes] = []
    offset = start
    stop = len(buf) if stop is None else stop
    limit = min(stop, start + MAX_NAME_OCTETS)
    while 0 <= offset < limit:
        length = buf[offset]
        offset += 1
        if length == 0:
            return labels, offset, None
        if length >= _POINTER:
            return labels, offset + 1, _pointer_target(buf, offset, stop, start)
        if length > MAX_LABEL_OCTETS:
            raise MalformedDNS("unknown label type")
        labels.append(buf[offset : offset + length])
        offset += length
    raise MalformedDNS("a name runs past the end or exceeds 255 octets")


class _Tail(NamedTuple):
    """What pointers to one place lead to. `end`: of the part that stands there itself."""

    labels: tuple[bytes, ...]
    octets: int
    pointers: int
    end: int


_NOTHING = _Tail((), 0, 0, 0)


class NameReader:
    """The names of one message. Each part that a pointer leads to is read once, however often they do."""

    __slots__ = ("_buf", "_fold", "_known", "_labels")

    def __init__(self, buf: bytes, *, fold: bool = True) -> None:
        """`fold`: in lower case, to be compared."""
        self._buf = buf
        self._fold = fold
        self._known: dict[int, _Tail] = {}
        self._labels = 0

    def read(self, offset: int) -> tuple[Name, int]:
        """As the functions `read` and `read_labels`."""
        labels, end, target = self._segment(offset)
        name = self._folded(labels)
        if target is not None:
            tail = self._known.get(target)
            if tail is None or tail.end > offset:
                tail = self._read_tail(target, offset)
            name += tail.labels
            if labels and tail.octets + sum(map(len, labels)) + len(labels) + 1 > MAX_NAME_OCTETS:
                raise MalformedDNS("a name exceeds 255 octets")
        return name, end

    def _read_tail(self, target: int, stop: int) -> _Tail:
        """What stands at `target`, and all that it leads to in turn, remembered part by part."""
        parts: list[tuple[int, list[bytes], int]] = []
        place: int | None = target
        tail = _NOTHING
        while place is not None:
            known = self._known.get(place)
            if known is not None and known.end <= stop:
                tail = known
                break
            labels, end, following = self._segment(place, stop)
            parts.append((place, labels, end))
            stop, place = place, following
        for start, labels, end in reversed(parts):
            octets = tail.octets + sum(map(len, labels)) + len(labels)
            if octets >= MAX_NAME_OCTETS or tail.pointers >= MAX_POINTERS:
                raise MalformedDNS("a name exceeds 255 octets or follows too many compression pointers")
            tail = _Tail(self._folded(labels) + tail.labels, octets, tail.pointers + 1, end)
            self._known[start] = tail
        return tail

    def _segment(self, start: int, stop: int | None = None) -> tuple[list[bytes], int, int | None]:
        found = read_segment(self._buf, start, stop)
        self._labels += len(found[0])
        if self._labels > MAX_LABELS:
            raise MalformedDNS("too many labels to be read")
        return found

    def _folded(self, labels: list[bytes]) -> tuple[bytes, ...]:
        return tuple([label.lower() for label in labels]) if self._fold else tuple(labels)


def to_wire(labels: Sequence[bytes]) -> bytes:
    """The uncompressed wire form of a name (of any case)."""
    return b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"


def to_text(name: Name) -> str:
    """For people and peers: trailing dot, `\\.` for a dot in a label, `\\DDD` for odd bytes; root is `.`."""
    if not name:
        return "."
    return "".join([_label_text(label) + "." for label in name])


def from_text(text: str) -> Name:
    """The name that `text` prints; trailing dot optional, escapes understood. Raises ValueError."""
    if text == ".":
        return ROOT
    if len(text) > _MAX_TEXT_CHARACTERS:
        raise ValueError(f"{cut(text)!r} is not a domain name: it exceeds {MAX_NAME_OCTETS} octets")
    plain = text.isascii() and "\\" not in text
    labels = text.removesuffix(".").encode().lower().split(b".") if plain else _escaped_labels(text)
    for label in labels:
        _check_label(label, text)
    if sum(map(len, labels)) + len(labels) + 1 > MAX_NAME_OCTETS:
        raise ValueError(f"{text!r} is not a domain name: it exceeds {MAX_NAME_OCTETS} octets")
    return tuple(labels)


def _escaped_labels(text: str) -> list[bytes]:
    labels: list[bytes] = []
    label = bytearray()
    position, separated = 0, False
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            raise ValueError(f"{text!r} is not a domain name: a backslash with nothing it could escape")
        position, separated = piece.end(), bool(piece[4])
        if separated:
            labels.append(bytes(label).lower())
            label.clear()
        else:
            label.append(_octet(piece, text))
    if not separated:
        labels.append(bytes(label).lower())
    return labels


def _pointer_target(buf: bytes, offset: int, stop: int, segment_start: int) -> int:
    if offset >= stop:
        raise MalformedDNS("a compression pointer runs past the end")
    target = (buf[offset - 1] & 0x3F) << 8 | buf[offset]
    if target >= segment_start:
        raise MalformedDNS("a compression pointer does not lead backwards")
    return target


def _label_text(label: bytes) -> str:
    if label.isalnum():
        return label.decode("ascii")
    return "".join([_octet_text(octet) for octet in label])


def _octet_text(octet: int) -> str:
    if octet in _SPECIAL:
        return "\\" + chr(octet)
    return chr(octet) if 0x20 < octet < 0x7F else f"\\{octet:03d}"


def _octet(piece: re.Match[str], text: str) -> int:
    value = int(piece[1]) if piece[1] else ord(piece[2] or piece[3])
    if value > 0xFF or (value > 0x7F and not piece[1]):
        raise ValueError(
            f"{text!r} is not a domain name: write other letters in their xn-- form, other octets as \\DDD"
        )
    return value


def _check_label(label: bytes, text: str) -> None:
    if not label:
        raise ValueError(f"{text!r} is not a domain name: it has an empty label")
    if len(label) > MAX_LABEL_OCTETS:
        raise ValueError(f"{text!r} is not a domain name: a label exceeds {MAX_LABEL_OCTETS} octets")
