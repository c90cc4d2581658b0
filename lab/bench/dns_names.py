"""The names and addresses that the DNS benchmark is about, as all its programs know them."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

SERVER: Final = IPv4Address("203.0.113.53")
"""The DNS server, behind the node."""
PROXY: Final = IPv4Address("10.244.0.1")
"""The node, to its pods: where dnsdist and dnsmasq listen."""
FIRST_POD: Final = IPv4Address("10.244.1.1")
PROBE_PORT: Final = 4444
"""UDP port that the policy opens on the addresses of all names."""
ZONE: Final = "bench.example.com"
NEW_ZONE: Final = "new.example.com"
DENIED_ZONE: Final = "denied.example.net"
_NEW: Final = 1 << 20
"""Addresses of new names begin here, away from those of known ones."""


def known(number: int) -> str:
    return f"n{number}.{ZONE}"


def new(number: int) -> str:
    return f"n{_NEW + number}.{NEW_ZONE}"


def denied(number: int) -> str:
    return f"n{number}.{DENIED_ZONE}"


def pod(number: int) -> IPv4Address:
    """The address of a pod; number 0 is the one that most is measured with."""
    return FIRST_POD + number


def pod_interface(number: int) -> str:
    """Its interface, inside."""
    return "eth0" if number == 0 else f"eth{number}"
