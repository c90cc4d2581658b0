"""What of this node `preflight` judges, read from the kernel: links, addresses, routes, tables, chains.

In the network namespace of the calling thread; /sys is that of the mount namespace, which in a pod on the
host's network is the host's.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import defaultdict
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from acns.datapath import netlink, nfnetlink
from acns.datapath.netlink import NetlinkSocket, Refused
from acns.datapath.nfnetlink import NetfilterSocket
from acns.shim.preflight import KINDNET, Link, NodeFacts

_GETADDR, _GETROUTE = 22, 26
_ADDRESS: Final = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_IFA_LOCAL, _RTA_DST, _RTA_OIF, _RTA_GATEWAY = 2, 1, 4, 5
_TABLE_MAIN, _UNICAST = 254, 1
_TABLE_OF_CHAIN, _NAME_OF_CHAIN, _NAME_OF_TABLE, _NAME_OF_SET = 1, 3, 1, 2
_LINKS: Final = Path("/sys/class/net")


def gather() -> NodeFacts:
    """The facts as they are now."""
    with contextlib.closing(NetlinkSocket(netlink.ROUTE)) as routes:
        addresses, networks = _addresses(routes), _networks(routes)
    links = tuple(
        Link(name, frozenset(addresses[index]), _is_bridge(name), frozenset(networks[index]))
        for index, name in socket.if_nameindex()
    )
    with contextlib.closing(NetfilterSocket()) as tables:
        return NodeFacts(links, _tables(tables), _kindnet_pods(tables))


def _is_bridge(name: str) -> bool:
    return (_LINKS / name / "bridge").exists()


def _addresses(routes: NetlinkSocket) -> defaultdict[int, set[IPv4Address]]:
    found: defaultdict[int, set[IPv4Address]] = defaultdict(set)
    request = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
    for body in routes.dump(_GETADDR, request, "reading addresses"):
        values = netlink.attributes(body[_ADDRESS.size :])
        if local := values.get(_IFA_LOCAL):
            found[_ADDRESS.unpack_from(body)[4]].add(IPv4Address(local))
    return found


def _networks(routes: NetlinkSocket) -> defaultdict[int, set[IPv4Network]]:
    """Of each link the networks that are on it, not those that a gateway there leads to."""
    found: defaultdict[int, set[IPv4Network]] = defaultdict(set)
    request = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    for body in routes.dump(_GETROUTE, request, "reading routes"):
        _, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
        values = netlink.attributes(body[_ROUTE.size :])
        target = values.get(_RTA_DST)
        if table == _TABLE_MAIN and kind == _UNICAST and target and _RTA_GATEWAY not in values:
            index = struct.unpack("=I", values[_RTA_OIF])[0] if _RTA_OIF in values else 0
            found[index].add(IPv4Network((target, length)))
    return found


def _tables(tables: NetfilterSocket) -> dict[str, Collection[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for one in tables.objects(nfnetlink.GETTABLE, b"", "reading tables", family=0):
        found[netlink.name(netlink.attributes(one)[_NAME_OF_TABLE])] = set()
    for one in tables.objects(nfnetlink.GETCHAIN, b"", "reading chains", family=0):
        values = netlink.attributes(one)
        found[netlink.name(values[_TABLE_OF_CHAIN])].add(netlink.name(values[_NAME_OF_CHAIN]))
    return dict(found)


def _kindnet_pods(tables: NetfilterSocket) -> bool:
    """Whether any set of addresses in kindnet's table has one."""
    with contextlib.suppress(Refused):
        sets = tables.objects(nfnetlink.GETSET, netlink.text(1, KINDNET), "reading kindnet's sets")
        names = [netlink.name(netlink.attributes(one)[_NAME_OF_SET]) for one in sets]
        return any(tables.elements(KINDNET, name) for name in names)
    return False
