"""CIDRs as Kubernetes and Cilium take them.

The CRDs say `format: cidr`: a bare address is refused there, though the agent would take it. Bits beyond the
prefix are cut off, as both do.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from acns.policy.structure import refuse

Network = IPv4Network | IPv6Network


@lru_cache(maxsize=4096)
def parse_cidr(text: str) -> Network:
    """Raises ValueError for what is none."""
    _, _, bits = text.partition("/")
    # ip_network also takes netmasks, leading zeros and no prefix at all.
    if not bits.isdecimal() or str(int(bits)) != bits:
        raise ValueError(text)
    return ip_network(text, strict=False)


def ipv4(texts: Iterable[str]) -> tuple[IPv4Network, ...]:
    """The IPv4 networks among CIDRs."""
    networks = (parse_cidr(text) for text in texts)
    return tuple(network for network in networks if isinstance(network, IPv4Network))


def contains(network: Network, other: Network) -> bool:
    """Whether all of `other` lies in `network`; never across families."""
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and other.subnet_of(network)
    return isinstance(other, IPv6Network) and other.subnet_of(network)


def _check(text: str) -> str:
    try:
        parse_cidr(text)
    except ValueError:
        if address := _address(text):
            refuse(f"'{text}' is an address, not a CIDR", f"write {text}/{address}")
        refuse(f"'{text}' is not a CIDR", "write it as in 203.0.113.0/24")
    return text


def _address(text: str) -> int | None:
    """The length of the prefix that holds just this address, if it is one."""
    try:
        return ip_address(text).max_prefixlen
    except ValueError:
        return None


CIDRText = Annotated[
    str,
    AfterValidator(_check),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]{1,3}$"}),
]
