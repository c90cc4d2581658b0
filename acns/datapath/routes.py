"""Routing that the data path needs: which interface leads to a pod, and the local delivery of marked packets."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from acns.errors import Problem


class Routes:
    """Netlink route sockets in the namespace of the calling thread."""

    def interfaces(self, addresses: Iterable[IPv4Address]) -> dict[IPv4Address, str]:
        """The interface of each local pod that has one: its own /32 route, directly connected."""
        raise NotImplementedError

    def ensure_proxy_route(self) -> bool:
        """`ip rule` on the mark and `local default dev lo` in its table; True if anything was missing."""
        raise NotImplementedError

    def remove_proxy_route(self) -> None:
        """Take both away; missing ones are no error."""
        raise NotImplementedError

    def fileno(self) -> int:
        """Readable when routes or links changed: for `loop.add_reader`; then call `drain()`."""
        raise NotImplementedError

    def drain(self) -> bool:
        """Read all pending notices; True if routes or links may have changed (also after an overrun)."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the sockets."""
        raise NotImplementedError


def sysctl_problems() -> list[Problem]:
    """Sysctls of this namespace that break the data path (`src_valid_mark`, `ip_forward`, …), with the remedy."""
    raise NotImplementedError
