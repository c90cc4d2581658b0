"""Connections as they begin: conntrack's NEW events, with the grants of the rules that let them through.

A connection is announced when its first packet has passed every hook, so its mark is complete: egress in the
low bits, ingress in the high ones, 0 where no rule of ours judged. Kernels from 5.19 make these events while
somebody listens (`nf_conntrack_events` 2), older ones always (1); 0 is off, and then there is nothing to
read: `problem` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from acns.datapath import constants, netlink
from acns.datapath.headers import Headers
from acns.datapath.netlink import Attributes
from acns.datapath.netlink_events import GENERIC_BYTES, EventSocket, Overrun
from acns.errors import Problem

_GROUP_NEW = 1  # the bit of NFNLGRP_CONNTRACK_NEW
_NEW = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_IPV4 = b"\x02"
_TUPLE_ORIGINAL, _TUPLE_REPLY, _MARK = 1, 2, 8
_ADDRESSES, _PROTOCOL = 1, 2
_SOURCE, _DESTINATION = 1, 2
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT, _ICMP_TYPE, _ICMP_CODE = 1, 2, 3, 5, 6

_SYSCTL = Path("/proc/sys/net/netfilter/nf_conntrack_events")


@dataclass(frozen=True, slots=True)
class Opened:
    """An IPv4 connection. `headers`: as its opener sent the first packet, but to where Service translation
    took it; `asked` is what the opener asked for. Grants are 0 where no rule of that direction judged."""

    headers: Headers
    asked: IPv4Address | IPv6Address
    asked_port: int | None
    egress_grant: int
    ingress_grant: int


class ConntrackEvents(EventSocket):
    """New connections of the namespace of the thread that makes it. `overruns`: how often some were lost."""

    def __init__(self) -> None:
        super().__init__(groups=_GROUP_NEW)
        self.overruns = 0

    def read(self) -> list[Opened] | None:
        """The connections of one datagram; None when there are none now."""
        try:
            received = self.receive()
        except Overrun:
            self.overruns += 1
            return []
        if received is None:
            return None
        return [one for kind, _, body in received if kind == _NEW and (one := parse(body))]


def problem(sysctl: Path = _SYSCTL) -> Problem | None:
    """Why the calling thread's namespace announces no connections; None when it does."""
    try:
        value = sysctl.read_text().strip()
    except OSError:
        hint = "the kernel needs CONFIG_NF_CONNTRACK_EVENTS"
        return Problem(str(sysctl), 1, 1, "this kernel announces no connections", hint, warning=True)
    if value != "0":
        return None
    hint = "sysctl -w net.netfilter.nf_conntrack_events=1"
    return Problem(str(sysctl), 1, 1, "nf_conntrack_events is 0: no connections are announced", hint, True)


def parse(body: bytes) -> Opened | None:
    """One event, nfgenmsg first; None when it is not IPv4's or makes no sense."""
    values = netlink.attributes(body[GENERIC_BYTES:])
    asked = _tuple(values.get(_TUPLE_ORIGINAL, b""))
    answer = _tuple(values.get(_TUPLE_REPLY, b""))
    if body[:1] != _IPV4 or asked is None or answer is None:
        return None
    mark = int.from_bytes(values.get(_MARK, b""), "big")
    return Opened(
        headers=replace(asked, destination=answer.source, destination_port=answer.source_port),
        asked=asked.destination,
        asked_port=asked.destination_port,
        egress_grant=mark & constants.EGRESS_GRANT_MASK,
        ingress_grant=(mark & constants.INGRESS_GRANT_MASK) >> 16,
    )


def _tuple(packed: bytes) -> Headers | None:
    """One direction of a connection; None when something is missing."""
    parts = netlink.attributes(packed)
    addresses = netlink.attributes(parts.get(_ADDRESSES, b""))
    protocol = netlink.attributes(parts.get(_PROTOCOL, b""))
    source, destination = (addresses.get(side, b"") for side in (_SOURCE, _DESTINATION))
    if len(source) != 4 or len(destination) != 4:
        return None
    return Headers(
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        protocol=_number(protocol, _PROTOCOL_NUMBER) or 0,
        source_port=_number(protocol, _SOURCE_PORT),
        destination_port=_number(protocol, _DESTINATION_PORT),
        icmp_type=_number(protocol, _ICMP_TYPE),
        icmp_code=_number(protocol, _ICMP_CODE),
    )


def _number(values: Attributes, kind: int) -> int | None:
    return int.from_bytes(values[kind], "big") if kind in values else None
