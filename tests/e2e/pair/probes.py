"""Which addresses a pod gets through to, judged at taps on both sides of its node.

A SYN that the node lets through appears at the pod's interface and at the node's uplink under the same
sequence number: the node masquerades, but leaves TCP's numbers alone. That a SYN does *not* come out takes no
waiting: one that does is sent right behind it, and packets do not overtake each other on one veth.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.capture.tap import Frame, Tap, TapTimeout
from lab.runtime.lab import Lab

from . import wire
from .wire import Wire, tapped

FENCE_S = 5.0
"""How long an address that is open may take to be seen so."""

_IPV4, _TCP, _UDP = b"\x08\x00", 6, 17
_HEADERS_BYTES = 14 + 20 + 8
_FROM_PORT, _TO_PORT = 34, 36  # where UDP's ports are in a frame
_DNS_PORT = (53).to_bytes(2)
_SYN, _SYN_ACK = 0x02, 0x12


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS said: its code (None: it said nothing), and its records' addresses."""

    rcode: int | None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment over IPv4 on the wire."""

    time_ns: int
    source: str
    source_port: int
    destination: str
    sequence: int
    acknowledged: int
    flags: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Syn:
    """One SYN on the wire. `key` stays the same through the masquerade."""

    time_ns: int
    destination: str
    source_port: int
    sequence: int

    @property
    def key(self) -> tuple[str, int]:
        return self.destination, self.sequence


@dataclass(frozen=True, slots=True)
class Sides:
    """A pod, watched on both sides of its node: on its own cable and at the node's uplink."""

    wire: Wire
    uplink: Tap

    @classmethod
    @contextmanager
    def of(cls, lab: Lab, pod: str, rng: random.Random) -> Iterator[Sides]:
        with Wire(lab, pod, rng) as cable, tapped(lab.node(cable.pod.node)) as uplink:
            yield cls(cable, uplink)

    def clear(self) -> None:
        self.wire.tap.clear()
        self.uplink.clear()

    def ask(self, name: str) -> Answer:
        """Ask the cluster's DNS for A records."""
        message = wire.query(name, ident=self.wire.rng.getrandbits(16))
        try:
            reply = self.wire.ask(self.wire.cluster_dns, message)
        except TapTimeout:
            return Answer(None)
        return Answer(wire.rcode(reply), tuple(wire.addresses(reply)))

    def let_out(self, addresses: Iterable[str], port: int, *, known: str) -> set[str]:
        """Those of the addresses, and of `known`, to which a SYN comes out of the node.

        `known` is open, so it must be in the result: only then it is certain that the others are not.
        """
        sent = {(address, self.wire.syn(address, port)): address for address in addresses}
        fences: set[tuple[str, int]] = set()

        def fence_is_out() -> bool:
            # Again and again: on a busy machine an address may open a little after its answer.
            fences.add((known, self.wire.syn(known, port)))
            return not fences.isdisjoint(self._out())

        fenced = happens(fence_is_out, FENCE_S)
        out = self._out()
        assert sent.keys() <= {syn.key for syn in syns(self.wire.tap)}, "a SYN did not leave the pod"
        return {address for key, address in sent.items() if key in out} | ({known} if fenced else set())

    def _out(self) -> set[tuple[str, int]]:
        return {syn.key for syn in syns(self.uplink)}


def happens(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether the condition comes true in time; for what a test judges later."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def syns(tap: Tap) -> list[Syn]:
    """Every SYN that left by the tap's interface."""
    return [
        Syn(one.time_ns, one.destination, one.source_port, one.sequence)
        for one in _segments(tap, outgoing=True)
        if one.flags & _SYN_ACK == _SYN
    ]


def accepted(tap: Tap) -> set[int]:
    """The sequence numbers of the SYNs that a SYN-ACK came back for."""
    segments = _segments(tap, outgoing=False)
    return {one.acknowledged - 1 for one in segments if one.flags & _SYN_ACK == _SYN_ACK}


def segments_in(tap: Tap, server: str = "") -> list[Segment]:
    """Every TCP segment from a server (or from anybody) that came in by the tap's interface."""
    return [one for one in _segments(tap, outgoing=False) if server in ("", one.source)]


def segments_out(tap: Tap, server: str) -> list[Segment]:
    """Every TCP segment to a server that left by the tap's interface."""
    return [one for one in _segments(tap, outgoing=True) if one.destination == server]


def queries_out(tap: Tap) -> list[Frame]:
    """Every DNS query over UDP that left by the tap's interface."""
    return [frame for frame in tap.frames() if frame.outgoing and _is_udp(frame, _TO_PORT)]


def answers_in(tap: Tap) -> dict[bytes, Frame]:
    """Every DNS answer over UDP that came in by the tap's interface, by its message."""
    answers = (frame for frame in tap.frames() if not frame.outgoing and _is_udp(frame, _FROM_PORT))
    return {message(frame): frame for frame in answers}


def answers_out(tap: Tap) -> list[Frame]:
    """Every DNS answer over UDP that left by the tap's interface."""
    return [frame for frame in tap.frames() if frame.outgoing and _is_udp(frame, _FROM_PORT)]


def message(frame: Frame) -> bytes:
    """What a UDP datagram over IPv4 carries."""
    return frame.data[_HEADERS_BYTES:]


def _segments(tap: Tap, *, outgoing: bool) -> list[Segment]:
    """By struct: scapy would take seconds over thousands of frames."""
    return [one for frame in tap.frames() if frame.outgoing == outgoing and (one := _segment(frame))]


def _segment(frame: Frame) -> Segment | None:
    packet = frame.data[14:]
    if frame.data[12:14] != _IPV4 or packet[9] != _TCP:
        return None
    start = 4 * (packet[0] & 0xF)
    source_port, _, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", packet, start)
    return Segment(
        frame.time_ns,
        socket.inet_ntoa(packet[12:16]),
        source_port,
        socket.inet_ntoa(packet[16:20]),
        sequence,
        acknowledged,
        flags,
        payload_bytes=int.from_bytes(packet[2:4]) - start - 4 * (offset >> 4),
    )


def _is_udp(frame: Frame, port_offset: int) -> bool:
    """Whether it is a datagram over IPv4 from or to the DNS port."""
    port = frame.data[port_offset : port_offset + 2]
    return frame.data[12:14] == _IPV4 and frame.data[23] == _UDP and port == _DNS_PORT
