"""Domain names as they are on the wire: tuples of labels, lower-cased.

A label may hold any byte, a dot too (RFC 2181 §11), so printed names cannot be compared: `a.b` as one label
and as two print alike. Everything that decides therefore compares `Name` values; text is for people and for
the FQDNData contract. Case is folded for ASCII only (RFC 4343).

What this module keeps true: reading is bounded whatever the bytes say. A pointer must lead to before the
part that it ends, so no chain of pointers returns to where it was; a name never exceeds 255 octets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Name = tuple[bytes, ...]

ROOT: Name = ()
MAX_LABEL_OCTETS = 63
MAX_NAME_OCTETS = 255  # with length octets and the root's: RFC 1035 §3.1

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
    labels: list[bytes] = []
    end = -1  # behind the first pointer, once there was one
    segment_start = offset
    octets = 1
    size = len(buf)
    while True:
        if not 0 <= offset < size:
            raise MalformedDNS("a name runs past the end")
        length = buf[offset]
        if length == 0:
            return labels, (offset + 1 if end < 0 else end)
        if length <= MAX_LABEL_OCTETS:
            octets += length + 1
            if octets > MAX_NAME_OCTETS:
                raise MalformedDNS("a name exceeds 255 octets")
            next_offset = offset + 1 + length
            labels.append(buf[offset + 1 : next_offset])
            offset = next_offset
            continue
        if length < _POINTER:
            raise MalformedDNS("unknown label type")
        if offset + 1 >= size:
            raise MalformedDNS("a compression pointer runs past the end")
        target = (length & 0x3F) << 8 | buf[offset + 1]
        if target >= segment_start:
            raise MalformedDNS("a compression pointer does not lead backwards")
        if end < 0:
            end = offset + 2
        offset = segment_start = target


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
    body = text if _ends_in_dot(text) else text + "."
    labels: list[bytes] = []
    label = bytearray()
    position = 0
    while position < len(body):
        piece = _PIECE.match(body, position)
        if piece is None:
            raise ValueError(f"{text!r} is not a domain name: a backslash with nothing it could escape")
        position = piece.end()
        if piece[4]:
            labels.append(_checked_label(bytes(label).lower(), text))
            label.clear()
        else:
            label.append(_octet(piece, text))
    if sum(map(len, labels)) + len(labels) + 1 > MAX_NAME_OCTETS:
        raise ValueError(f"{text!r} is not a domain name: it exceeds {MAX_NAME_OCTETS} octets")
    return tuple(labels)


def _label_text(label: bytes) -> str:
    if label.isalnum():
        return label.decode("ascii")
    return "".join([_octet_text(octet) for octet in label])


def _octet_text(octet: int) -> str:
    if octet in _SPECIAL:
        return "\\" + chr(octet)
    return chr(octet) if 0x20 < octet < 0x7F else f"\\{octet:03d}"


def _ends_in_dot(text: str) -> bool:
    """Whether the last dot separates: it does unless an odd number of backslashes stands before it."""
    if not text.endswith("."):
        return False
    before = text[:-1]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 0


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
