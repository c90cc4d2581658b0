"""How long an agent keeps what it was just told: a word between our two halves, beside the contract.

It travels in the trailing metadata of a mapping's answer, which other peers neither send nor mind. For so
many seconds the addresses stay open under their name, whatever else is learned and whichever selectors come
and go, so the resolver may let answers with them pass without a call. Where nothing is said, nothing is
promised.
"""

from __future__ import annotations

from collections.abc import Iterable

KEY = "acns-kept-s"

Metadata = tuple[tuple[str, str], ...]


def to_metadata(kept_s: float) -> Metadata:
    """Whole seconds; empty for less than one."""
    return ((KEY, str(int(kept_s))),) if kept_s >= 1 else ()


def from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> float:
    """Seconds; 0 where it is not said, or not understood."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, str) and value.isascii() and value.isdigit():
            return float(value)
    return 0.0
