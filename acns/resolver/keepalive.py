"""The edns-tcp-keepalive option (RFC 7828): a client that asks is told how long a connection may idle.

Only replies of our own say it. A server's answer is passed on as it is, with what the server says of itself:
the client has to bear an early close anyway (section 3.4), and the message may be signed.
"""

from __future__ import annotations

import struct
from typing import Final

from acns.dns import message, wire

OPTION: Final = 11
_ASKED: Final = struct.pack("!HH", OPTION, 0)  # clients send it empty (section 3.1)
_UNIT_MS: Final = 100
_RDLENGTH_OCTETS: Final = 2


def is_asked(query: bytes) -> bool:
    """Whether the query has the option."""
    if _ASKED not in query:
        return False
    try:
        header = wire.read_header(query)
        end, before = wire.read_question(query, header).end, header.answers + header.authorities
        opt = wire.read_extras(query, end, before, header.additionals).opt
    except message.MalformedDNS:
        return False
    return opt is not None and _has_option(query[opt.start : opt.end])


def with_timeout(reply: bytes, idle_timeout_ms: int) -> bytes:
    """A reply of our own, whose last record is an empty OPT, with the option in it; others as they are."""
    if not reply.endswith(b"\0" * _RDLENGTH_OCTETS) or reply[11] != 1:
        return reply
    units = min(idle_timeout_ms // _UNIT_MS, 0xFFFF)
    option = struct.pack("!HHH", OPTION, 2, units)
    return reply[:-_RDLENGTH_OCTETS] + len(option).to_bytes(_RDLENGTH_OCTETS) + option


def _has_option(rdata: bytes) -> bool:
    at = 0
    while at + 4 <= len(rdata):
        code, length = struct.unpack_from("!HH", rdata, at)
        if code == OPTION:
            return True
        at += 4 + length
    return False
