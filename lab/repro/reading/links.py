"""Where a frame's IP packet begins: link types (tcpdump.org's list of LINKTYPE_ values)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from lab.repro.reading.evidence import Kind
from lab.repro.reading.framing import Frame
from lab.repro.reading.notes import Flaw

IPV4, IPV6 = 0x0800, 0x86DD
_VLANS: Final = frozenset({0x8100, 0x88A8, 0x9100})
_MAX_TAGS: Final = 4
_FAMILIES: Final = {
    2: IPV4,
    10: IPV6,
    24: IPV6,
    28: IPV6,
    30: IPV6,
}  # AF_INET6: Linux, NetBSD, FreeBSD, macOS
_RAW_TYPES: Final = frozenset({12, 14, 101, 228, 229})
_COOKED_TYPES: Final = frozenset({113, 276})
UPPER_PDU: Final = 252

_ETHERNET_OCTETS, _COOKED_OCTETS, _COOKED2_OCTETS = 14, 16, 20


class Inner(NamedTuple):
    """What a frame carries: an EtherType (0 for none of those that are read), and where it begins."""

    kind: int
    at: int


def inner(frame: Frame) -> Inner:
    """Raises Flaw for a link type that is not read, and for a frame cut off before its packet."""
    reader = _READERS.get(frame.link_type)
    if reader is None:
        raise Flaw(Kind.UNSUPPORTED, f"link type {frame.link_type}")
    try:
        return reader(frame.data)
    except (struct.error, IndexError):
        raise Flaw(Kind.TRUNCATED, "a frame cut off within its link header") from None


def is_cooked(link_type: int) -> bool:
    """Of `tcpdump -i any`: one tap hears a packet at each interface that it passes."""
    return link_type in _COOKED_TYPES


def _ethernet(data: bytes) -> Inner:
    return _tagged(data, _u16(data, 12), _ETHERNET_OCTETS)


def _cooked(data: bytes) -> Inner:
    return _tagged(data, _u16(data, 14), _COOKED_OCTETS)


def _cooked2(data: bytes) -> Inner:
    data[_COOKED2_OCTETS - 1]  # it is all there
    return _tagged(data, _u16(data, 0), _COOKED2_OCTETS)


def _tagged(data: bytes, kind: int, at: int) -> Inner:
    """Behind its VLAN tags."""
    for _ in range(_MAX_TAGS):
        if kind not in _VLANS:
            break
        kind, at = _u16(data, at + 2), at + 4
    return Inner(kind if kind in (IPV4, IPV6) else 0, at)


def _raw(data: bytes) -> Inner:
    return Inner({4: IPV4, 6: IPV6}.get(data[0] >> 4, 0), 0)


def _null(data: bytes) -> Inner:
    """The family in the byte order of who captured."""
    (little,) = struct.unpack_from("<I", data)
    (big,) = struct.unpack_from(">I", data)
    return Inner(_FAMILIES.get(min(little, big), 0), 4)


def _u16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


_READERS: Final[dict[int, Callable[[bytes], Inner]]] = {
    0: _null,
    1: _ethernet,
    108: _null,
    113: _cooked,
    276: _cooked2,
    **dict.fromkeys(_RAW_TYPES, _raw),
}
