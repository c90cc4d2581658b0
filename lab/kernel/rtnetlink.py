"""What is said to rtnetlink of links, addresses and routes: values in, message bodies out.

Pure. The numbers are those of linux/rtnetlink.h, if_link.h and if_addr.h.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from acns.datapath import netlink

NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE = 16, 17, 20, 21, 24, 25
IFF_UP = 0x1
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254

_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 10, 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_BR_FORWARD_DELAY = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_PROTO_BOOT = 3
_UNICAST, _LOCAL = 1, 2

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_NUMBER = struct.Struct("=I")

Address = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Route:
    """A route. Without a `gateway` the destination itself is on the link."""

    destination: Network
    index: int
    gateway: IPv4Address | IPv6Address | None = None
    source: IPv4Address | IPv6Address | None = None
    """What the kernel takes as the sender's address (`src`)."""
    scope: int = SCOPE_UNIVERSE
    priority: int = 0
    """0: the kernel's default."""
    is_local: bool = False
    """All of the destination is the machine's own; else it is a unicast route of the main table."""


def link(index: int, *, is_up: bool = False) -> bytes:
    """A link by its number; of a change, whether it goes up."""
    up = IFF_UP if is_up else 0
    return _LINK.pack(socket.AF_UNSPEC, 0, index, up, up)


def member(index: int, bridge_index: int) -> bytes:
    """A link that goes up as a bridge's port."""
    return link(index, is_up=True) + netlink.attribute(_IFLA_MASTER, _NUMBER.pack(bridge_index))


def bridge(name: str, index: int) -> bytes:
    """A new bridge that forwards at once (no spanning tree delay) and is up."""
    data = netlink.attribute(_BR_FORWARD_DELAY, _NUMBER.pack(0))
    return link(index, is_up=True) + netlink.text(_IFLA_IFNAME, name) + _info("bridge", data)


def veth(ours: bytes, theirs: bytes) -> bytes:
    """A new veth pair of two `end`s."""
    return ours + _info("veth", netlink.nested(_VETH_INFO_PEER, theirs))


def end(name: str, index: int, namespace: int, *, is_up: bool) -> bytes:
    """One end of a pair, in the network namespace that the descriptor `namespace` is of."""
    place = netlink.attribute(_IFLA_NET_NS_FD, _NUMBER.pack(namespace))
    return link(index, is_up=is_up) + netlink.text(_IFLA_IFNAME, name) + place


def address(value: Address, index: int, flags: int) -> bytes:
    """An address of link `index`."""
    family = socket.AF_INET if value.version == 4 else socket.AF_INET6
    packed = value.ip.packed
    return (
        _ADDRESS.pack(family, value.network.prefixlen, 0, SCOPE_UNIVERSE, index)
        + netlink.attribute(_IFA_LOCAL, packed)
        + netlink.attribute(_IFA_ADDRESS, packed)
        + netlink.attribute(_IFA_FLAGS, _NUMBER.pack(flags))
    )


def route(one: Route) -> bytes:
    """A route, to be added or deleted."""
    family = socket.AF_INET if one.destination.version == 4 else socket.AF_INET6
    length = one.destination.prefixlen
    where = (_TABLE_LOCAL, _PROTO_BOOT, SCOPE_HOST, _LOCAL)
    if not one.is_local:
        where = (_TABLE_MAIN, _PROTO_BOOT, one.scope, _UNICAST)
    head = _ROUTE.pack(family, length, 0, 0, *where, 0)
    parts = [head, netlink.attribute(_RTA_OIF, _NUMBER.pack(one.index))]
    if length:
        parts.append(netlink.attribute(_RTA_DST, one.destination.network_address.packed))
    if one.gateway is not None:
        parts.append(netlink.attribute(_RTA_GATEWAY, one.gateway.packed))
    if one.source is not None:
        parts.append(netlink.attribute(_RTA_PREFSRC, one.source.packed))
    if one.priority:
        parts.append(netlink.attribute(_RTA_PRIORITY, _NUMBER.pack(one.priority)))
    return b"".join(parts)


def _info(kind: str, data: bytes) -> bytes:
    named = netlink.attribute(_INFO_KIND, kind.encode())
    return netlink.nested(_IFLA_LINKINFO, named + netlink.nested(_INFO_DATA, data))
