"""Routing that the data path needs: which interface leads to a pod, and the local delivery of marked packets.

A pod's interface is found the way packets find it: by its own /32 route, straight onto a link. Routes
through a gateway lead to other nodes' pods and never count. The rule `fwmark → local table` delivers
redirected DNS queries, whose destination is somebody else's, to the resolver's socket. Without it they are
lost, not let through: the kernel never forwards a packet that tproxy has given a socket.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from acns.datapath import constants, netlink
from acns.datapath.netlink import Attributes, NetlinkSocket, Refused
from acns.errors import EnvironmentFault, Problem

_NEWROUTE, _GETROUTE = 24, 26
_NEWRULE, _GETRULE = 32, 34
_SIOCGIFNAME = 0x8910
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 6, 15
_FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK = 6, 10, 15, 16
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_PROTOCOL_STATIC = 4
_TABLE_MAIN = 254
_ACTION_TO_TABLE = 1
_LOOPBACK_INDEX = 1  # in every network namespace
_GROUP_LINK, _GROUP_IPV4_ROUTE, _GROUP_IPV4_RULE = 0x1, 0x40, 0x80

_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12  # Linux 4.20

_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg; struct fib_rule_hdr is laid out alike
_IFREQ = struct.Struct("@16si20x")

_SYSCTLS = Path("/proc/sys/net/ipv4")


@dataclass(frozen=True, slots=True)
class Links:
    """The node's links, by name. `interfaces`: of every address with a /32 route of its own straight onto a
    link, which are the local pods'; `uplinks`: those over which whole networks are reached (other nodes, the
    world), so that no pod is behind them."""

    interfaces: Mapping[IPv4Address, str] = field(default_factory=dict)
    uplinks: frozenset[str] = frozenset()


class Routes:
    """Route sockets in the namespace of the calling thread. One thread at a time uses it."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(netlink.ROUTE)
        with contextlib.suppress(OSError):  # older kernels send all tables, and more of each link
            self._socket.socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        self._names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._watch = NetlinkSocket(netlink.ROUTE, groups=_GROUP_LINK | _GROUP_IPV4_ROUTE | _GROUP_IPV4_RULE)
        self._watch.socket.setblocking(False)

    def links(self) -> Links:
        """Where the routes lead."""
        routes = self._dump(_GETROUTE, _TABLE_MAIN)
        direct = _host_routes(routes)
        uplinks = {_network_interface(header, values) for header, values in routes}
        names = {index: self._name(index) for index in {*direct.values(), *uplinks}}
        return Links(
            {IPv4Address(address): name for address, index in direct.items() if (name := names[index])},
            frozenset(name for index in uplinks if (name := names[index])),
        )

    def ensure_proxy_route(self) -> bool:
        """`ip rule` on the mark and `local default dev lo` in its table; True if anything was missing."""
        missing = False
        if not any(_is_proxy_rule(*rule) for rule in self._dump(_GETRULE)):
            self._change(
                _NEWRULE, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, _proxy_rule(), "adding the rule"
            )
            missing = True
        if not any(_is_proxy_route(*route) for route in self._dump(_GETROUTE, constants.ROUTE_TABLE)):
            self._change(_NEWROUTE, netlink.NLM_F_CREATE, _proxy_route(), "adding the local route")
            missing = True
        return missing

    def fileno(self) -> int:
        """Readable when routes, rules or links changed: for `loop.add_reader`; then call `drain()`."""
        return self._watch.socket.fileno()

    def drain(self) -> bool:
        """Read all pending notices; True if something may have changed (also after an overrun)."""
        changed = False
        while True:
            try:
                self._watch.socket.recv(1 << 16)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise EnvironmentFault(f"watching routes: {error}") from error
            changed = True

    def close(self) -> None:
        """Close the sockets."""
        for one in (self._socket, self._names, self._watch):
            one.close()

    def _name(self, index: int) -> str:
        """The link's name; "" where there is none (any more). Asked for one by one: of all that the kernel
        would tell in a dump, which is much, it is the one thing wanted."""
        try:
            answer = fcntl.ioctl(self._names, _SIOCGIFNAME, _IFREQ.pack(b"", index))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return ""
            raise EnvironmentFault(f"asking for a link's name: {error}") from error
        return netlink.name(_IFREQ.unpack(answer)[0])

    def _dump(self, kind: int, table: int = 0) -> list[tuple[tuple[int, ...], Attributes]]:
        """All of a table, or more."""
        request = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        if table:
            request += _attribute(_RTA_TABLE, table)
        try:
            bodies = self._socket.dump(kind, request, "reading routes")
        except Refused as refused:
            if refused.number == errno.ENOENT:
                return []  # there is no such table
            raise
        return [(_ROUTE.unpack_from(body), netlink.attributes(body[_ROUTE.size :])) for body in bodies]

    def _change(self, kind: int, flags: int, body: bytes, what: str) -> None:
        try:
            self._socket.request(kind, flags, body, what)
        except Refused as refused:
            if refused.number == errno.EEXIST:
                return  # somebody else was as quick: it is as it should be
            raise EnvironmentFault(
                f"{what} for redirected queries: {refused}",
                hint="needs CAP_NET_ADMIN and CONFIG_IP_MULTIPLE_TABLES",
            ) from refused


def sysctl_problems() -> list[Problem]:
    """Sysctls of this namespace that break the data path, with the remedy."""
    problems = [
        Problem(
            str(path),
            1,
            1,
            "src_valid_mark is 1: every redirected DNS query is lost",
            f"sysctl -w net.ipv4.conf.{path.parent.name}.src_valid_mark=0",
        )
        for path in sorted((_SYSCTLS / "conf").glob("*/src_valid_mark"))
        # `default` only touches interfaces that come later, but pods' interfaces do.
        if _is_one(path)
    ]
    forward = _SYSCTLS / "ip_forward"
    if not _is_one(forward):
        hint = "sysctl -w net.ipv4.ip_forward=1"
        problems.append(
            Problem(str(forward), 1, 1, "ip_forward is 0: pods reach nothing but the node", hint, True)
        )
    return problems


def _is_one(path: Path) -> bool:
    try:
        return path.read_text().strip() == "1"
    except OSError:
        return False


def _number(values: Attributes, kind: int) -> int:
    return int.from_bytes(values.get(kind, b""), sys.byteorder)


def _host_routes(routes: list[tuple[tuple[int, ...], Attributes]]) -> dict[bytes, int]:
    """Of each address with a /32 route, the link of the one that packets take: that of the lowest metric."""
    found: dict[bytes, int] = {}
    for header, values in sorted(routes, key=lambda route: _number(route[1], _RTA_PRIORITY)):
        if header[1] == 32 and header[4] == _TABLE_MAIN:
            found.setdefault(values.get(_RTA_DST, b""), _direct_interface(header, values))
    return found


def _direct_interface(header: tuple[int, ...], values: Attributes) -> int:
    """The link of a route straight onto one; 0 for other routes."""
    scope, kind = header[6], header[7]
    # The kernel takes no gateway in a route of these scopes.
    direct = scope in (_SCOPE_LINK, _SCOPE_HOST) and kind == _RTN_UNICAST
    return _number(values, _RTA_OIF) if direct else 0


def _network_interface(header: tuple[int, ...], values: Attributes) -> int:
    """The link of a route to more than one address; 0 for other routes."""
    _, prefix_length, _, _, table, _, _, kind, _ = header
    is_network = kind == _RTN_UNICAST and prefix_length < 32 and table == _TABLE_MAIN
    return _number(values, _RTA_OIF) if is_network else 0


def _is_proxy_rule(header: tuple[int, ...], values: Attributes) -> bool:
    expected = {
        _FRA_PRIORITY: constants.RULE_PREF,
        _FRA_FWMARK: constants.MARK_TO_PROXY,
        _FRA_FWMASK: constants.MARK_MASK,
        _FRA_TABLE: constants.ROUTE_TABLE,
    }
    return all(_number(values, kind) == number for kind, number in expected.items())


def _is_proxy_route(header: tuple[int, ...], values: Attributes) -> bool:
    return (
        header[1] == 0
        and header[7] == _RTN_LOCAL
        and _number(values, _RTA_TABLE) == constants.ROUTE_TABLE
        and _number(values, _RTA_OIF) == _LOOPBACK_INDEX
    )


def _proxy_rule() -> bytes:
    return (
        _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, _ACTION_TO_TABLE, 0)
        + _attribute(_FRA_PRIORITY, constants.RULE_PREF)
        + _attribute(_FRA_FWMARK, constants.MARK_TO_PROXY)
        + _attribute(_FRA_FWMASK, constants.MARK_MASK)
        + _attribute(_FRA_TABLE, constants.ROUTE_TABLE)
    )


def _proxy_route() -> bytes:
    return (
        _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, _PROTOCOL_STATIC, _SCOPE_HOST, _RTN_LOCAL, 0)
        + _attribute(_RTA_TABLE, constants.ROUTE_TABLE)
        + _attribute(_RTA_OIF, _LOOPBACK_INDEX)
    )


def _attribute(kind: int, number: int) -> bytes:
    return netlink.attribute(kind, struct.pack("=I", number))
