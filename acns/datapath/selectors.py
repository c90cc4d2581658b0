"""How the kernel knows an FQDN selector: by forty bits of a digest, before each address that it has opened.

All learned addresses are in one set, whose key is (selector, address). A set for each selector would be one
of thousands in a list, which the kernel walks for each rule that names one and each time an element is added.
A rule says which selector it means by two counters that never get anywhere: `numgen inc mod 1 offset N` is
always N. (nft 1.0.6 takes no plain number in a concatenation, and in JSON prints one of 32 bits as negative.)
"""

from __future__ import annotations

import functools
import struct
from typing import Final

from acns.datapath import names
from acns.dns.pattern import FQDNSelector

LEARNED: Final = "learned"
"""The set."""
KEY_TYPE: Final = "numgen inc mod 2 . numgen inc mod 2 . ip daddr"
"""Of its elements, as nft has it; the numbers take 24 and 16 bits."""
PREFIX_BYTES: Final = 8
"""What stands before the address in an element's key: both numbers, in the host's order."""

_ID_PREFIX = "fqdn_"
_FIRST_DIGITS = 6
_NUMBERS = struct.Struct("=II")


@functools.lru_cache(maxsize=1 << 14)
def selector_id(selector: FQDNSelector) -> str:
    """`fqdn_` and ten hex digits of its key."""
    return f"{_ID_PREFIX}{names.digest(selector.key)}"


def octets_of(id_: str) -> bytes:
    """The five octets of an id's digits."""
    return bytes.fromhex(id_.removeprefix(_ID_PREFIX))


def id_of(octets: bytes) -> str:
    """The id with these digits."""
    return f"{_ID_PREFIX}{octets.hex()}"


def numbers(id_: str) -> tuple[int, int]:
    """The two numbers of an id."""
    digits = id_.removeprefix(_ID_PREFIX)
    return int(digits[:_FIRST_DIGITS], 16), int(digits[_FIRST_DIGITS:], 16)


def id_of_numbers(first: int, second: int) -> str:
    """The id that these are of."""
    return f"{_ID_PREFIX}{first:06x}{second:04x}"


@functools.lru_cache(maxsize=1 << 14)
def key_prefix(id_: str) -> bytes:
    """What the keys of a selector's elements begin with."""
    return _NUMBERS.pack(*numbers(id_))


@functools.lru_cache(maxsize=1 << 14)
def id_in(prefix: bytes) -> str:
    """The id of the selector whose elements' keys begin so."""
    return id_of_numbers(*_NUMBERS.unpack(prefix))


def element(id_: str, address: str) -> str:
    """An element, as nft has it."""
    return " . ".join((*map(str, numbers(id_)), address))


def match(selector: FQDNSelector, side: str) -> str:
    """The packet's address on this side (`saddr`, `daddr`) is one that the selector has opened."""
    counted = (f"numgen inc mod 1 offset {number}" for number in numbers(selector_id(selector)))
    return " . ".join((*counted, f"ip {side} @{LEARNED}"))
