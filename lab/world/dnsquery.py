"""One DNS question over UDP or TCP, with a packet made by hand.

getaddrinfo does not tell REFUSED from NXDOMAIN, nor an empty answer from a missing name. Small: this
runs inside pods. An answer counts when it has the query's ID and question, case included.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass

from acns.dns import types

PORT = 53
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer's rcode, the types of its answer section's records, and whether TC is set."""

    rcode: str
    types: tuple[str, ...]
    truncated: bool = False

    @property
    def summary(self) -> str:
        return f"{self.rcode}: {', '.join(self.types) or 'no records'}"


def ask(server: str, name: str, record_type: str, timeout_s: float, *, port: int | None = None) -> Reply:
    """The reply of `server`. Raises TimeoutError without one, ConnectionRefusedError where nobody listens."""
    packet, question = query(name, record_type)
    query_id = packet[:2]
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.connect((server, port or PORT))
        opened.send(packet)
        while (left_s := deadline - time.monotonic()) > 0:
            opened.settimeout(left_s)
            reply = opened.recv(65_535)
            if reply[:2] == query_id and reply[12 : 12 + len(question)] in (question, b""):
                return read_reply(reply, len(question))
    raise TimeoutError


def ask_over_tcp(server: str, name: str, record_type: str, timeout_s: float) -> Reply:
    """The same over TCP (RFC 7766). A connection that ends before the reply is a ValueError."""
    packet, question = query(name, record_type)
    with socket.create_connection((server, PORT), timeout_s) as opened:
        opened.sendall(struct.pack("!H", len(packet)) + packet)
        with opened.makefile("rb") as stream:
            length = stream.read(2)
            reply = stream.read(int.from_bytes(length, "big"))
    if reply[:2] != packet[:2] or reply[12 : 12 + len(question)] not in (question, b""):
        raise ValueError("the connection ended, or the reply is to another query")
    return read_reply(reply, len(question))


def query(name: str, record_type: str) -> tuple[bytes, bytes]:
    """A query without EDNS, and the question in it."""
    question = _wire_name(name) + struct.pack("!HH", types.number(record_type), 1)
    return os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + question, question


def read_reply(packet: bytes, question_bytes: int) -> Reply:
    """A reply whose question is `question_bytes` long.

    Raises ValueError when it is cut short or malformed.
    """
    if len(packet) < 12:
        raise ValueError("a DNS reply shorter than its header")
    flags, _, answers = struct.unpack_from("!HHH", packet, 2)
    found = []
    offset = 12 + question_bytes
    try:
        for _ in range(answers):
            offset = _skip_name(packet, offset)
            kind, _, _, length = struct.unpack_from("!HHIH", packet, offset)
            found.append(types.text(kind))
            offset += 10 + length
    except (struct.error, IndexError) as error:
        raise ValueError("a malformed DNS reply") from error
    return Reply(RCODES.get(flags & 0xF, f"RCODE{flags & 0xF}"), tuple(found), bool(flags & 0x0200))


def _wire_name(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _skip_name(packet: bytes, offset: int) -> int:
    """The offset behind a name: its labels up to the root, or up to the first pointer (RFC 1035 §4.1.4)."""
    while length := packet[offset]:
        if length >= 0xC0:
            return offset + 2
        offset += length + 1
    return offset + 1
