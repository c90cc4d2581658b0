"""Mappings as a pod's answers bring them."""

from __future__ import annotations

from dataclasses import replace

from acns.api.codec import Mapping

MAPPING = Mapping((b"www", b"example", b"com"), (b"\xc0\0\2\7",), 60, 1, b"\x0a\0\0\1")


def numbered(number: int, ttl_s: int = 60) -> Mapping:
    return replace(MAPPING, name=(b"n%d" % number, b"example"), ttl_s=ttl_s)


def many(number: int, count: int, pod: bytes = MAPPING.source) -> Mapping:
    """A mapping of so many addresses."""
    addresses = tuple((0x0B000000 + one).to_bytes(4, "big") for one in range(count))
    return replace(numbered(number), addresses=addresses, source=pod)
