"""Domain names as they are on the wire: tuples of labels, lower-cased.

A label may hold any byte, a dot too (RFC 2181 §11), so printed names cannot be compared: `a.b` as one label
and as two print alike. Everything that decides therefore compares `Name` values; text is for people and for
the FQDNData contract. Case is folded for ASCII only (RFC 4343).

What this module keeps true: reading is bounded whatever the bytes say. A pointer must lead to before the
part that it ends, so no chain of pointers returns to where it was; one name follows few of them and never
exceeds 255 octets. `NameReader` reads the many names of one message without doing the same work twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Name = tuple[bytes, ...]

ROOT: Name = ()
MAX_LABEL_OCTETS = 63
MAX_NAME_OCTETS = 255  # with length octets and the root's: RFC 1035 §3.1
MAX_POINTERS = 126  # more than any name can use, each but the first behind a label

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
    pointers = 0
    while target is not None:
        pointers += 1
        if pointers > MAX_POINTERS:
            raise MalformedDNS("a name follows too many compression pointers")
        more, _, target = read_segment(buf, target)
        labels += more
    if len(labels) > 1 and sum(map(len, labels)) + len(labels) + 1 > MAX_NAME_OCTETS:
        raise MalformedDNS("a name exceeds 255 octets")
    return labels, end


def read_segment(buf: bytes, start: int) -> tuple[list[bytes], int, int | None]:
    """The labels up to a pointer or the root, the offset behind, and where the pointer leads (None: root)."""
    labels: list[bytes] = []
    offset = start
    limit = min(len(buf), start + MAX_NAME_OCTETS)
    while 0 <= offset < limit:
        length = buf[offset]
        offset += 1
        if length == 0:
            return labels, offset, None
        if length >= _POINTER:
            return labels, offset + 1, _pointer_target(buf, offset, start)
        if length > MAX_LABEL_OCTETS:
            raise MalformedDNS("unknown label type")
        labels.append(buf[offset : offset + length])
        offset += length
    raise MalformedDNS("a name runs past the end or exceeds 255 octets")


class NameReader:
    """The names of one message, lower-cased. What pointers lead to is read once, however often they do."""

    __slots__ = ("_buf", "_known")

    def __init__(self, buf: bytes) -> None:
        self._buf = buf
        self._known: dict[int, Name] = {}

    def read(self, offset: int) -> tuple[Name, int]:
        """As the function `read`."""
        labels, end, target = read_segment(self._buf, offset)
        name = tuple([label.lower() for label in labels])
        if target is not None:
            rest = self._known.get(target)
            if rest is None:
                rest = self._known[target] = read(self._buf, target)[0]
            name += rest
            if labels and sum(map(len, name)) + len(name) + 1 > MAX_NAME_OCTETS:
                raise MalformedDNS("a name exceeds 255 octets")
        return name, end


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
    labels: list[bytes] = []
    label = bytearray()
    position, separated = 0, False
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            raise ValueError(f"{text!r} is not a domain name: a backslash with nothing it could escape")
        position, separated = piece.end(), bool(piece[4])
        if separated:
            labels.append(_checked_label(bytes(label).lower(), text))
            label.clear()
        else:
            label.append(_octet(piece, text))
    if not separated:
        labels.append(_checked_label(bytes(label).lower(), text))
    if sum(map(len, labels)) + len(labels) + 1 > MAX_NAME_OCTETS:
        raise ValueError(f"{text!r} is not a domain name: it exceeds {MAX_NAME_OCTETS} octets")
    return tuple(labels)


def _pointer_target(buf: bytes, offset: int, segment_start: int) -> int:
    if offset >= len(buf):
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


def _checked_label(label: bytes, text: str) -> bytes:
    if not label:
        raise ValueError(f"{text!r} is not a domain name: it has an empty label")
    if len(label) > MAX_LABEL_OCTETS:
        raise ValueError(f"{text!r} is not a domain name: a label exceeds {MAX_LABEL_OCTETS} octets")
    return label
