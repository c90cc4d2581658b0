"""Which addresses live connections use: asked before an expired address leaves its set."""

from __future__ import annotations


def live_destinations() -> set[bytes]:
    """IPv4 destinations (4 raw bytes: as asked for, and as translated) of the connections tracked in this namespace."""
    raise NotImplementedError
