"""What a capture is evidence of: DNS messages, connections, and what is wrong with it.

The types that `capture.read` fills; whoever makes a scenario or a picture of a capture begins here. Frames do
not show any more, only what was sent, once: what several taps heard, or one tap twice on the packet's way
through a node, is one message with all its frames. Nothing is inferred here of roles (who is a pod, who a
server): a DNS server is whoever has one of `Limits.dns_ports`, a server of a connection whom its SYN went to.

Times are nanoseconds since 1970, by the clock of whoever captured. Frame numbers count from 1 over the whole
file, as Wireshark's do. Names, payloads, comments are anybody's: escape what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, NamedTuple

Transport = Literal["udp", "tcp"]
Address = IPv4Address | IPv6Address

DNS_PORT: Final = 53


class Endpoint(NamedTuple):
    """An address and a port."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a capture is taken in. What goes past a limit is a `Trouble`, and the rest is read; only a
    file with more than `file_bytes` (unpacked) or `frames` is refused."""

    file_bytes: int = 4 << 30
    frames: int = 20_000_000
    frame_bytes: int = 1 << 20
    """Of one block of the file; libpcap's own bound is 256 KiB for a packet."""
    messages: int = 500_000
    message_bytes: int = 256 << 20
    """Of all messages together."""
    flows: int = 100_000
    stream_bytes: int = 1 << 20
    """Of one direction of a TCP connection to a DNS server: waiting for what is missing before it."""
    waiting_bytes: int = 64 << 20
    """What waits for others, of each kind: frames, fragments, segments to DNS servers."""
    troubles: int = 1_000
    """So many are told one by one; further ones are counted in `Counts.untold`."""
    names: int = 100_000
    comments: int = 200_000
    comment_bytes: int = 64 << 20
    odd: int = 2_000
    odd_bytes: int = 8 << 20
    """Packets that are kept as they are, and all their octets together; of one sender half as many."""
    dns_ports: frozenset[int] = frozenset({DNS_PORT})


class Kind(StrEnum):
    """What may be wrong with a capture, or with a frame in it."""

    TRUNCATED = "truncated"  # the snap length cut it: what is missing is not known
    MALFORMED = "malformed"  # a header or a block that says what cannot be
    INCOMPLETE = "incomplete"  # fragments or segments are missing in the capture
    DROPPED = "dropped"  # the capture says of itself that it lost packets
    UNSUPPORTED = "unsupported"  # a link type, a block, a protocol that is not read
    TOO_MUCH = "too much"  # past a limit of `Limits`
    ENDS_EARLY = "ends early"  # the file breaks off in the middle of a block


@dataclass(frozen=True, slots=True)
class Trouble:
    """`frame`: its number; 0 for the file itself. `count`: of packets, where one line tells of several."""

    frame: int
    kind: Kind
    detail: str
    count: int = 1

    def __str__(self) -> str:
        where = f"frame {self.frame}: " if self.frame else ""
        return f"{where}{self.kind}: {self.detail}" + (f" ({self.count} times)" if self.count > 1 else "")


@dataclass(frozen=True, slots=True)
class Message:
    """One DNS message on its way from `source` to `destination`, as the end with the DNS client saw it:
    before a query was translated (Services), after an answer was translated back.

    `payload`: without TCP's length octets; it may be no DNS at all, whatever the port. `size`: what it was
    long; more than `payload` has where the capture cut it off. `tap`: the name of the interface that heard it
    nearest to the client, None where the file has no names. `at_ns`: when it was heard there; of a message in
    TCP when its last octet was. `translated`: the server as its own side saw it, where that is another.
    """

    at_ns: int
    tap: str | None
    transport: Transport
    source: Endpoint
    destination: Endpoint
    payload: bytes
    size: int
    frames: tuple[int, ...]
    comments: tuple[str, ...] = ()
    translated: Endpoint | None = None
    icmp: tuple[int, int] | None = None
    """Type and code of the ICMP error that came back on it."""

    @property
    def is_whole(self) -> bool:
        return len(self.payload) == self.size


class Outcome(StrEnum):
    """What became of an attempt to connect; over UDP, of the first datagram."""

    ESTABLISHED = "established"  # SYN-ACK; UDP: the other side sent something
    RESET = "reset"  # RST
    UNREACHABLE = "unreachable"  # an ICMP error, see `Flow.icmp`
    SILENT = "silent"  # nothing came back while the capture ran
    MIDWAY = "midway"  # it was there before the capture began: nothing is known


class End(StrEnum):
    """How an established flow ended, as far as the capture goes."""

    OPEN = "open"  # it did not
    CLOSED = "closed"  # FIN
    RESET = "reset"
    CUT = "cut"  # data was sent again and again, and nothing came back any more
    UNREACHABLE = "unreachable"  # an ICMP error, and nothing after it


@dataclass(frozen=True, slots=True)
class Flow:
    """A TCP connection, to a DNS server too, or an exchange of datagrams without DNS, as its client saw it.

    `syns_ns`: each SYN of the client, retransmissions after the first; UDP: each datagram before the first
    answer; at most 64. `answered_ns`: SYN-ACK, RST, ICMP error, or first datagram back. `resent`: segments
    with data that one of them sent again. `tap`, `frame`: where it was heard first. `icmp`: type and code of
    an ICMP error about it. `translated`: the server behind a Service, where another tap saw that.
    """

    protocol: Transport
    client: Endpoint
    server: Endpoint
    outcome: Outcome
    end: End
    first_ns: int
    last_ns: int
    syns_ns: tuple[int, ...]
    answered_ns: int | None
    ended_ns: int | None
    bytes_sent: int
    bytes_received: int
    packets: int
    resent: int
    tap: str | None
    frame: int
    translated: Endpoint | None = None
    icmp: tuple[int, int] | None = None
    comments: tuple[str, ...] = ()
    """Of its packets, each once, at most 16."""


@dataclass(frozen=True, slots=True)
class Odd:
    """A packet (of a datagram in fragments, all of them) whose very octets matter: from the IPv4 header on.

    `why`: what is odd. `replies`: what came back on it (`rst`, `icmp-3/13`, …), each once. `was_routed`:
    whether it was heard behind a router too; None where the capture shows nothing of that kind.
    """

    at_ns: int
    source: IPv4Address
    destination: IPv4Address
    packets: tuple[bytes, ...]
    frames: tuple[int, ...]
    why: str
    replies: tuple[str, ...]
    was_routed: bool | None


@dataclass(frozen=True, slots=True)
class Tap:
    """An interface of the file. `dropped`: packets that it lost, None where the file does not say."""

    name: str | None
    link_type: int
    snap_bytes: int
    filter: str = ""
    packets: int = 0
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What an agent decided or did, from a comment in a capture of our own (`lab.capture save`, bundles).

    `text`: as `lab.capture` says it. `record`: the JSON line behind it, empty where only the comment is
    there. `frame`: of the packet that it is about, or of the record that stands by itself.
    """

    at_ns: int
    tap: str | None
    text: str
    frame: int
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of frames; `frames`: up to the last one that could be read. `duplicates`: heard again by another tap,
    or on the way through the same node. `untold`: troubles that are not listed."""

    frames: int = 0
    ipv4: int = 0
    ipv6: int = 0
    other: int = 0
    duplicates: int = 0
    untold: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. `messages` and `flows` are in the order of their (first) times. `names`: what addresses are
    called, from the file's name resolution blocks. `comment`: of the sections, as they stand in the file."""

    messages: tuple[Message, ...]
    flows: tuple[Flow, ...]
    troubles: tuple[Trouble, ...]
    names: Mapping[Address, tuple[str, ...]]
    taps: tuple[Tap, ...]
    decisions: tuple[Decision, ...]
    counts: Counts
    first_ns: int
    last_ns: int
    comment: str = ""
    odd: tuple[Odd, ...] = ()
