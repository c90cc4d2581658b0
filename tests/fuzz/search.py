"""Messages tried one after another until one does harm; that one is then made as small as it can be."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import messages

Check = Callable[[bytes], object]
"""Raises where the packet does what none may do."""


Make = Callable[[random.Random, Sequence[bytes]], Iterator[bytes]]
"""What is tried, without end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A packet that does harm, and the harm."""

    packet: bytes
    error: BaseException

    def __str__(self) -> str:
        return f"{self.packet.hex()}\n{type(self.error).__name__}: {self.error}"


def search(
    check: Check, seed: int, count: int, corpus: Sequence[bytes], make: Make = messages.inputs
) -> Finding | None:
    """Try the corpus and then what is made from it and from nothing, `count` messages in all."""
    made = make(random.Random(seed), corpus)
    for number in range(count):
        packet = corpus[number] if number < len(corpus) else next(made)
        if harm(check, packet):
            return smallest(check, packet)
    return None


def harm(check: Check, packet: bytes) -> Exception | None:
    try:
        check(packet)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return error
    return None


def smallest(check: Check, packet: bytes) -> Finding:
    """Pieces are left out for as long as the rest does the same kind of harm."""
    found = harm(check, packet)
    assert found is not None
    size = len(packet)
    while size := size * 3 // 4:
        start = 0
        while start < len(packet):
            for less in _without(packet, start, size):
                error = harm(check, less)
                if type(error) is type(found):
                    packet, found = less, error
                    break
            else:
                start += size
    return Finding(packet, found)


def _without(packet: bytes, start: int, size: int) -> Iterator[bytes]:
    """The packet without that piece, as it is and with one record fewer in the header."""
    less = packet[:start] + packet[start + size :]
    yield less
    for count in range(6, 12, 2):
        if len(less) >= 12 and less[count + 1]:
            yield less[: count + 1] + bytes((less[count + 1] - 1,)) + less[count + 2 :]
