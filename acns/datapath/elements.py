"""Elements of the learned sets, by raw netlink: one batch for one answer, tens of microseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from acns.errors import PeerError


class NoSuchSet(PeerError):
    """A batch named a set (or a table) that the kernel does not have: the ruleset has moved on."""


class GenerationChanged(PeerError):
    """The ruleset changed since the generation that the batch carries: read again and retry."""


class Elements:
    """A netlink socket in the namespace of the calling thread. `address` is 4 raw bytes everywhere."""

    def __init__(self, *, refresh_by_re_adding: bool | None = None) -> None:
        """None: probe the kernel (once per instance) in a scratch table of this namespace."""
        raise NotImplementedError

    def put(
        self, wanted: Mapping[str, Mapping[bytes, float]], *, generation: int | None = None
    ) -> None:
        """Add or refresh: set name → address → timeout_s from now. All in one commit, returned after the ack.

        The caller keeps the maximum: what is written here is what the kernel has, also when it is less.
        Raises NoSuchSet (nothing is written), GenerationChanged, EnvironmentFault.
        """
        raise NotImplementedError

    def delete(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        """Remove; an address that is not there (any more) is no error."""
        raise NotImplementedError

    def read(self, set_name: str) -> dict[bytes, float]:
        """Address → seconds left (inf without timeout). Raises NoSuchSet."""
        raise NotImplementedError

    def generation(self) -> int:
        """The ruleset's generation in this namespace; grows by one with each commit, anybody's."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket."""
        raise NotImplementedError
