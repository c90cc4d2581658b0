"""Other words for words, other addresses for addresses, always the same for the same, by a secret key; pure.

Words keep their length, so that octets of DNS messages keep their places. Addresses keep their prefixes: two
of them share as many leading bits afterwards as before, and ranges that mean something stay what they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import pairwise
from typing import Final

from lab.spec.plan import PODS, SERVICES

_REGISTRIES: Final = ("com", "net", "org", "dev", "arpa", "addr", "example", "test", "invalid", "www")
_CLUSTERS: Final = ("svc", "cluster", "local", "default", "kube", "system", "internal", "localhost", "dns")
_PROTOCOLS: Final = ("tcp", "udp", "http", "https")
KEPT: Final = frozenset((*_REGISTRIES, *_CLUSTERS, *_PROTOCOLS))
"""What names of every cluster and of every registry have."""
KEPT_LABELS: Final = frozenset({"in-addr", "ip6"})
_SHORTEST_SPOKEN: Final = 5
_MOST_PROPOSALS: Final = 1_000
_WORD: Final = re.compile(r"[a-z0-9]+|[^\x00-\x7f]+|[^a-z0-9\x80-\U0010ffff]+")
_SPECIAL: Final = (
    *(
        IPv4Network(text)
        for text in (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/3",
        )
    ),
    PODS,
    SERVICES,
)  # fmt: skip
_FIXED: Final = tuple(
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "192.0.0.0/24", "224.0.0.0/3")
)
_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"
_OTHERS: Final = "".join(map(chr, range(0x80, 0x100)))
"""In a label, octets that are not ASCII."""
_LOWER: Final = str.maketrans(_LETTERS.upper(), _LETTERS)
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvz", "aeiou"
_V6: Final = int(IPv6Address("2001:db8::"))


@dataclass(slots=True)
class Words:
    """`avoided`: words that must not come out. `starts`, `ends`: parts of words that patterns speak of, which
    are words of their own."""

    key: bytes
    avoided: frozenset[str]
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    _known: dict[str, str] = field(default_factory=dict)
    _given: set[str] = field(default_factory=set)

    def text(self, text: str) -> str:
        """Each word of it; capitals stay where they are."""
        if text.lower() in KEPT_LABELS:
            return text
        lower = text.translate(_LOWER)  # as DNS does (RFC 4343): of no other letter
        made = "".join(self._word(word) for word in self._parts(lower))
        pairs = zip(made, text, lower, strict=True)
        return "".join(new if old == low else new.upper() for new, old, low in pairs)

    def label(self, label: bytes) -> bytes:
        """A label of a name."""
        return self.text(label.decode("latin-1")).encode("latin-1")

    def _parts(self, text: str) -> Iterator[str]:
        for word in _WORD.findall(text):
            yield from self._split(word)

    def _split(self, word: str) -> Iterator[str]:
        """What patterns speak of in it; one pattern's word may begin another's, so that is split too."""
        start = next((one for one in self.starts if word.startswith(one) and word != one), "")
        rest = word[len(start) :]
        end = next((one for one in self.ends if rest.endswith(one) and rest != one), "")
        if not (start or end):
            yield word
            return
        middle = rest[: len(rest) - len(end)]
        if start:
            yield from self._split(start)
        yield from self._split(middle) if middle in self.ends else (middle,)
        if end:
            yield from self._split(end)

    def _word(self, word: str) -> str:
        if word in KEPT or (word.isascii() and not word.isalnum()):
            return word
        if word not in self._known:
            made = self._permuted(word)
            if word.isascii() and word.isalpha() and len(word) >= _SHORTEST_SPOKEN:
                made = next(filter(self._is_free, self._proposals(word)), made)
            self._known[word] = made
            self._given.add(made)
        return self._known[word]

    def _is_free(self, made: str) -> bool:
        return made not in self._given and made not in self.avoided and made not in KEPT

    def _permuted(self, word: str) -> str:
        """Of short words and numbers there are few, so they change places among themselves: each becomes one
        other, however many there are. Digits stay digits, and what is not ASCII is not."""
        made = word
        while True:
            made = "".join(self._letter(made[:place], letter) for place, letter in enumerate(made))
            if made not in KEPT:  # and those that are kept are nobody's other
                return made

    def _letter(self, before: str, letter: str) -> str:
        if not letter.isascii():
            letters, letter = _OTHERS, _OTHERS[ord(letter) % len(_OTHERS)]
        else:
            letters = _DIGITS if letter.isdecimal() else _LETTERS
        order = sorted(letters, key=lambda one: self._digest(f"{before}:{one}", 8))
        return order[letters.index(letter)]

    def _proposals(self, word: str) -> Iterator[str]:
        for number in range(_MOST_PROPOSALS):
            digest = self._digest(f"{number}:{word}", 64)
            octets = [digest[place % 64] for place in range(len(word))]
            spoken = (_CONSONANTS, _VOWELS)
            yield "".join(
                spoken[place % 2][octet % len(spoken[place % 2])] for place, octet in enumerate(octets)
            )

    def _digest(self, text: str, size: int) -> bytes:
        return hashlib.blake2b(text.encode(), key=self.key, digest_size=size).digest()


@dataclass(frozen=True, slots=True)
class Addresses:
    """`own`: those that are given out, pods' and servers'."""

    key: bytes
    own: dict[IPv4Address, IPv4Address] = field(default_factory=dict)

    def address(self, address: IPv4Address) -> IPv4Address:
        """Bit by bit: whether one changes depends on those before it."""
        if address in self.own:
            return self.own[address]
        if any(address in network for network in _FIXED):
            return address
        value, made = int(address), 0
        for place in range(32):
            bit = value >> (31 - place) & 1
            made = made << 1 | bit ^ self._flips(value >> (32 - place), place)
        return IPv4Address(made)

    def network(self, network: IPv4Network) -> IPv4Network:
        """Around the addresses that were in it."""
        moved = self.address(network.network_address) if network.prefixlen else network.network_address
        return IPv4Network((moved, network.prefixlen), strict=False)

    def v6(self, address: IPv6Address) -> IPv6Address:
        """Only the same stays the same: nothing here judges IPv6."""
        digest = hashlib.blake2b(address.packed, key=self.key, digest_size=8).digest()
        return IPv6Address(_V6 | int.from_bytes(digest))

    def _flips(self, prefix: int, length: int) -> int:
        """Never on the way to a range that means something: it would become another."""
        if any(
            length < one.prefixlen and int(one.network_address) >> (32 - length) == prefix for one in _SPECIAL
        ):
            return 0
        text = f"{length}:{prefix}".encode()
        return hashlib.blake2b(text, key=self.key, digest_size=1).digest()[0] & 1


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """All words in them, short ones too: a label of two letters may be somebody's."""
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()) if word.isalnum())


def beside_stars(pattern: str) -> tuple[set[str], set[str]]:
    """The words right before and right behind a `*` of a pattern: others may begin, or end, with them."""
    starts, ends = set(), set()
    pieces = re.split(r"\*+", pattern.lower())
    for before, behind in pairwise(pieces):
        left, right = _WORD.findall(before), _WORD.findall(behind)
        if left and left[-1].isalnum():
            starts.add(left[-1])
        if right and right[0].isalnum():
            ends.add(right[0])
    return starts, ends
