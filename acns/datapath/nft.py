"""libnftables: whole transactions as text, and what the kernel holds."""

from __future__ import annotations

from collections.abc import Iterable

from acns.datapath.model import Inventory


class Nft:
    """One libnftables context, bound to the namespace of the thread that makes it; use from one thread at a time."""

    def __init__(self) -> None:
        raise NotImplementedError

    def apply(self, text: str) -> None:
        """Commit one transaction; "" is a no-op. Raises EnvironmentFault (privilege, kernel) or Bug with nft's caret text."""
        raise NotImplementedError

    def check(self, text: str) -> None:
        """Like `apply`, without committing."""
        raise NotImplementedError

    def inventory(self) -> Inventory:
        """What our table holds; `Inventory(exists=False)` if there is none."""
        raise NotImplementedError

    def counters(self) -> dict[str, tuple[int, int]]:
        """Named counters (one per rule id, plus the fixed ones such as `spoofed`): packets, bytes."""
        raise NotImplementedError

    def list(self) -> str:
        """The table as nft prints it; "" if there is none."""
        raise NotImplementedError

    def remove(self) -> None:
        """Delete the table if it is there."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the context."""
        raise NotImplementedError


__all__ = ["Iterable", "Nft"]
