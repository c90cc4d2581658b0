"""A pcapng file, written block by block (draft-ietf-opsawg-pcapng): sections, interfaces, packets with
comments, names, statistics.

By hand, since what is needed is small and no library at hand writes all of it: scapy's writer knows neither
names nor statistics. Times are nanoseconds since 1970. Little-endian, whatever the machine is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

ETHERNET: Final = 1
UPPER_PDU: Final = 252
"""LINKTYPE_WIRESHARK_UPPER_PDU: data for a dissector that is named before it."""

INBOUND, OUTBOUND = 1, 2

_SECTION, _INTERFACE, _NAMES, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 4, 5, 6
_BYTE_ORDER: Final = 0x1A2B3C4D
_COMMENT: Final = 1
_HARDWARE, _OS, _APPLICATION = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TIME_UNIT, _IF_FILTER = 2, 3, 9, 11
_FLAGS: Final = 2
_ST_START, _ST_END, _ST_DROPPED, _ST_DELIVERED = 2, 3, 5, 8
_NANOSECONDS: Final = b"\x09"  # 10⁻⁹
_MAX_OPTION_BYTES: Final = 0xFFFF
_MAX_NAME_BYTES: Final = 1_024
_MAX_NAMES_BYTES: Final = 0xFFFF - 16
_NAME_FAMILIES: Final = {4: 1, 16: 2}
_DISSECTOR_NAME: Final = 12  # EXP_PDU_TAG_DISSECTOR_NAME

Option = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Interface:
    """One tap. `filter`: the expression that it was captured with, if any."""

    name: str
    description: str = ""
    link_type: int = ETHERNET
    filter: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a tap delivered, and what was lost, from `start_ns` to `end_ns`; `comment` says more."""

    start_ns: int
    end_ns: int
    delivered: int
    dropped: int
    comment: str = ""


class Writer:
    """Writes one section to `file`: interfaces first, then the rest in any order."""

    def __init__(
        self, file: BinaryIO, *, comment: str = "", hardware: str = "", os: str = "", application: str = ""
    ) -> None:
        self._file = file
        options = [(_COMMENT, comment), (_HARDWARE, hardware), (_OS, os), (_APPLICATION, application)]
        body = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
        self._block(_SECTION, body, _texts(options))

    def interface(self, interface: Interface) -> None:
        """The next interface: they count from 0."""
        options = _texts([(_IF_NAME, interface.name), (_IF_DESCRIPTION, interface.description)])
        options.append((_IF_TIME_UNIT, _NANOSECONDS))
        if interface.filter:
            options.append((_IF_FILTER, b"\0" + _octets(interface.filter)))
        self._block(_INTERFACE, struct.pack("<HHI", interface.link_type, 0, 0), options)

    def packet(
        self,
        interface: int,
        time_ns: int,
        data: bytes,
        wire_bytes: int,
        *,
        direction: int = 0,
        comments: Sequence[str] = (),
    ) -> None:
        """One packet; `wire_bytes` is its length before something was cut off."""
        head = struct.pack("<IIIII", interface, *_time(time_ns), len(data), wire_bytes)
        options = _texts((_COMMENT, comment) for comment in comments)
        if direction:
            options.append((_FLAGS, struct.pack("<I", direction)))
        self._block(_PACKET, head + _padded(data), options)

    def names(self, names: Mapping[bytes, Sequence[str]]) -> None:
        """What addresses (4 or 16 octets) are called; with more names than a record holds, in several."""
        records = b"".join(
            _tagged(_NAME_FAMILIES[len(address)], address + part)
            for address, called in names.items()
            for part in _name_parts(called)
        )
        self._block(_NAMES, records + bytes(4), [])

    def statistics(self, interface: int, found: Statistics) -> None:
        options = _texts([(_COMMENT, found.comment)])
        for code, value in ((_ST_START, found.start_ns), (_ST_END, found.end_ns)):
            options.append((code, struct.pack("<II", *_time(value))))
        for code, value in ((_ST_DROPPED, found.dropped), (_ST_DELIVERED, found.delivered)):
            options.append((code, struct.pack("<Q", value)))
        self._block(_STATISTICS, struct.pack("<III", interface, *_time(found.end_ns)), options)

    def _block(self, kind: int, body: bytes, options: Iterable[Option]) -> None:
        tail = b"".join(_tagged(code, value) for code, value in options)
        whole = body + (tail + bytes(4) if tail else b"")
        length = len(whole) + 12
        self._file.write(struct.pack("<II", kind, length) + whole + struct.pack("<I", length))


def upper_pdu(dissector: str, data: bytes) -> bytes:
    """Data of an `UPPER_PDU` packet, for Wireshark's dissector of that name."""
    name = _padded(dissector.encode())
    return struct.pack(">HH", _DISSECTOR_NAME, len(name)) + name + bytes(4) + data


def _time(time_ns: int) -> tuple[int, int]:
    """High word, low word."""
    return time_ns >> 32 & 0xFFFFFFFF, time_ns & 0xFFFFFFFF


def _texts(options: Iterable[tuple[int, str]]) -> list[Option]:
    return [(code, _octets(text)) for code, text in options if text]


def _octets(text: str) -> bytes:
    """UTF-8, cut to what an option may have; never in the middle of a character."""
    octets = text.replace("\0", "?").encode("utf-8", "replace")
    return octets[:_MAX_OPTION_BYTES].decode("utf-8", "ignore").encode()


def _name_parts(called: Iterable[str]) -> Iterator[bytes]:
    """Names with their zeros, as many together as a record may have beside an address."""
    part = b""
    for name in called:
        one = _octets(name)[:_MAX_NAME_BYTES] + b"\0"
        if len(part) + len(one) > _MAX_NAMES_BYTES:
            yield part
            part = b""
        part += one
    if part:
        yield part


def _tagged(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
