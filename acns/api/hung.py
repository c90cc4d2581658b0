"""How long a connection waits for a peer that says nothing any more."""

from __future__ import annotations


def within_ms(patience_ms: int) -> tuple[tuple[str, int], ...]:
    """gRPC options: a peer that answers no ping for so long is given up. gRPC has two bounds for one wait, of
    which the longer counts, and a minute of its own for the second."""
    return ("grpc.keepalive_timeout_ms", patience_ms), ("grpc.http2.ping_timeout_ms", patience_ms)
