"""Addresses that no DNS answer may open, whoever says so.

Four octets each, as they come from the wire. Pod and node addresses are refused elsewhere: the shim leaves
them out, and the kernel's rules except them once more.
"""

from __future__ import annotations

ADDRESS_OCTETS = 4
_BROADCAST = b"\xff\xff\xff\xff"
_LINK_LOCAL = b"\xa9\xfe"  # 169.254/16: cloud metadata services live there


def is_learnable_address(address: bytes) -> bool:
    """Not this-network, loopback, link-local, multicast or broadcast; and IPv4 at all."""
    if len(address) != ADDRESS_OCTETS:
        return False
    first = address[0]
    special = first in (0, 127) or 224 <= first <= 239
    return not special and address[:2] != _LINK_LOCAL and address != _BROADCAST
