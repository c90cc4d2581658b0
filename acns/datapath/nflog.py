"""Packets that the ruleset logs: read from an NFLOG group of this namespace.

One program at a time has a group: while another shim is still there, `bind` is refused, and its packets are
that one's. The kernel cuts packets down to their headers, gathers them into batches for a few hundredths of
a second, and numbers them, so that what was lost on the way is counted.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from acns.datapath import headers, netlink
from acns.datapath.headers import Headers
from acns.datapath.netlink import Refused
from acns.datapath.netlink_events import GENERIC_BYTES, EventSocket, Overrun
from acns.errors import EnvironmentFault

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
"""`Logged.hook` (linux/netfilter.h)."""

# linux/netfilter/nfnetlink_log.h
_SUBSYSTEM = 4
_PACKET, _CONFIG = _SUBSYSTEM << 8, _SUBSYSTEM << 8 | 1
_CONFIG_COMMAND, _CONFIG_MODE, _CONFIG_TIMEOUT, _CONFIG_BATCH, _CONFIG_FLAGS = 1, 2, 4, 5, 6
_BIND = b"\x01"
_COPY_PACKET = 2
_NUMBERED = 1
_HEADER, _TIME, _IN, _OUT, _PAYLOAD, _PREFIX, _NUMBER = 1, 3, 4, 5, 9, 10, 12

_COPIED_BYTES = 160  # IPv4 with all its options and TCP; or IPv6, some extension headers and TCP
_BATCH_DELAY_CS = 5
_BATCH = 32
_NUMBERS = 1 << 32


@dataclass(frozen=True, slots=True)
class Logged:
    """A packet as it was logged. `time_ns` is None where the kernel keeps none (locally made packets);
    interfaces are indices, 0 for none; `number` counts the group's packets, lost ones too."""

    prefix: str
    hook: int
    number: int
    headers: Headers
    time_ns: int | None = None
    in_interface: int = 0
    out_interface: int = 0


class Taken(EnvironmentFault):
    """Another program has the group."""


class NflogSocket(EventSocket):
    """The packets of one group, in the namespace of the thread that makes it. `lost` counts the others."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self.lost = 0
        self._expected: int | None = None
        try:
            self._bind(group)
        except BaseException:
            self.close()
            raise

    def read(self) -> list[Logged] | None:
        """The packets of one batch; None when there are none now."""
        try:
            received = self.receive()
        except Overrun:  # the next number tells how many
            return []
        if received is None:
            return None
        found = [one for kind, _, body in received if kind == _PACKET and (one := parse(body))]
        for one in found:
            self._count_lost(one.number)
        return found

    def _bind(self, group: int) -> None:
        what = f"listening to NFLOG group {group}"
        mode = struct.pack(">IBB", _COPIED_BYTES, _COPY_PACKET, 0)
        options = (
            netlink.attribute(_CONFIG_MODE, mode),
            netlink.attribute(_CONFIG_TIMEOUT, struct.pack(">I", _BATCH_DELAY_CS)),
            netlink.attribute(_CONFIG_BATCH, struct.pack(">I", _BATCH)),
            netlink.attribute(_CONFIG_FLAGS, struct.pack(">H", _NUMBERED)),
        )
        try:
            self._configure(group, netlink.attribute(_CONFIG_COMMAND, _BIND), what)
            self._configure(group, b"".join(options), what)
        except Refused as refused:
            # EPERM is the kernel's word for "not yours" too; whoever lacks the privilege knows it by then.
            kind = Taken if refused.number in (errno.EPERM, errno.EBUSY) else EnvironmentFault
            hint = "one program at a time reads a group; it takes CAP_NET_ADMIN and NETFILTER_NETLINK_LOG"
            raise kind(str(refused), hint=hint) from refused

    def _configure(self, group: int, attributes: bytes, what: str) -> None:
        self.request(_CONFIG, 0, struct.pack(">BBH", 0, 0, group) + attributes, what)

    def _count_lost(self, number: int) -> None:
        if self._expected is not None:
            self.lost += (number - self._expected) % _NUMBERS
        self._expected = (number + 1) % _NUMBERS


def parse(body: bytes) -> Logged | None:
    """One packet message, nfgenmsg first; None when it makes no sense."""
    values = netlink.attributes(body[GENERIC_BYTES:])
    found = headers.parse(values.get(_PAYLOAD, b""))
    header = values.get(_HEADER, b"")
    if found is None or len(header) < 3:
        return None
    return Logged(
        prefix=netlink.name(values.get(_PREFIX, b"")),
        hook=header[2],
        number=_number(values.get(_NUMBER, b"")),
        headers=found,
        time_ns=_time_ns(values.get(_TIME, b"")),
        in_interface=_number(values.get(_IN, b"")),
        out_interface=_number(values.get(_OUT, b"")),
    )


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _time_ns(value: bytes) -> int | None:
    if len(value) < 16:
        return None
    seconds, microseconds = struct.unpack_from(">QQ", value)
    return int(seconds * 1_000_000_000 + microseconds * 1_000)
