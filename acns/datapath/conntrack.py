"""Which addresses live connections use: asked before an expired address leaves the learned set.

Only connections that carry an egress grant count: the others were not opened by any rule of ours, so no
learned address is kept for their sake.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Set
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.datapath import constants, netlink
from acns.datapath.netlink import Attributes, NetlinkSocket, Refused
from acns.errors import EnvironmentFault

_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_GENERIC_BYTES = 4
_TUPLE_ORIGINAL, _TUPLE_REPLY, _PROTOCOL_INFO, _MARK = 1, 2, 4, 8
_TUPLE_ADDRESSES, _TUPLE_PORTS = 1, 2
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_SOURCE, _DESTINATION = 1, 2
_TCP, _TCP_STATE = 1, 1
_ENDED = {7, 8}  # TIME_WAIT, CLOSE


@dataclass(frozen=True, slots=True)
class Connection:
    """A live connection as its opener sees it; ports are 0 where the protocol has none. `reached`: who
    answers, which is not `destination` where that was translated."""

    protocol: int
    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    reached: IPv4Address


def live_destinations(sources: Set[bytes] | None = None) -> set[bytes]:
    """IPv4 destinations (4 raw bytes; as asked for and as translated) of this namespace's connections, of
    those only that these `sources` have opened. A pod that is gone ends none: the kernel keeps such for days.
    """
    found: set[bytes] = set()
    for values in _live():
        original = values[_TUPLE_ORIGINAL]
        if sources is None or _address(original, _SOURCE) in sources:
            found.add(_address(original, _DESTINATION))
            found.add(_address(values[_TUPLE_REPLY], _SOURCE))
    return found


def live_connections() -> list[Connection]:
    """The same connections, one by one."""
    return [_connection(values) for values in _live()]


def _live() -> Iterator[Attributes]:
    request = struct.pack(">BBH", socket.AF_INET, 0, 0)
    connections = NetlinkSocket(netlink.NETFILTER)
    try:
        bodies = connections.dump(_GET, request, "reading connections")
    except Refused as refused:
        raise EnvironmentFault(str(refused), hint="needs CAP_NET_ADMIN and CONFIG_NF_CT_NETLINK") from refused
    finally:
        connections.close()
    return (values for body in bodies if _is_live(values := netlink.attributes(body[_GENERIC_BYTES:])))


def _is_live(values: Attributes) -> bool:
    granted = int.from_bytes(values.get(_MARK, b""), "big") & constants.EGRESS_GRANT_MASK
    tcp = netlink.attributes(netlink.attributes(values.get(_PROTOCOL_INFO, b"")).get(_TCP, b""))
    state = tcp.get(_TCP_STATE, b"\0")[0]
    return bool(granted) and state not in _ENDED


def _connection(values: Attributes) -> Connection:
    original = values[_TUPLE_ORIGINAL]
    ports = netlink.attributes(netlink.attributes(original)[_TUPLE_PORTS])
    return Connection(
        ports[_PROTOCOL_NUMBER][0],
        IPv4Address(_address(original, _SOURCE)),
        int.from_bytes(ports.get(_SOURCE_PORT, b""), "big"),
        IPv4Address(_address(original, _DESTINATION)),
        int.from_bytes(ports.get(_DESTINATION_PORT, b""), "big"),
        IPv4Address(_address(values[_TUPLE_REPLY], _SOURCE)),
    )


def _address(packed: bytes, side: int) -> bytes:
    return netlink.attributes(netlink.attributes(packed)[_TUPLE_ADDRESSES])[side]
