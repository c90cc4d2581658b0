"""When the answer came that a mapping tells of, and with which TTL: a word beside the contract.

A mapping may be told late: the agent was away, or hung with the call in its queue. Its TTL counts from the
answer all the same. The message's own `ttl` is what was left of it when it was sent, which is all that other
agents go by; ours also reads this from the call's metadata, and so notices a word that is overdue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

KEY = "acns-answered"

Metadata = tuple[tuple[str, str], ...]


class Answered(NamedTuple):
    """`at`: seconds since the epoch. `ttl_s`: the answer's."""

    at: float
    ttl_s: int


def to_metadata(answered: Answered) -> Metadata:
    return ((KEY, f"{answered.at:.3f} {answered.ttl_s}"),)


def from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Answered | None:
    """None where it is not said, or not understood."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, str):
            at, _, ttl_s = value.partition(" ")
            try:
                found = Answered(float(at), int(ttl_s))
            except ValueError:
                return None
            return found if math.isfinite(found.at) and found.ttl_s >= 0 else None
    return None
