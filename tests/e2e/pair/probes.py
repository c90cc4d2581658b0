"""Which addresses a pod gets through to, judged at taps on both sides of its node.

A SYN that the node lets through appears at the pod's interface and at the node's uplink under the same
sequence number: the node masquerades, but leaves TCP's numbers alone. That a SYN does *not* come out takes no
waiting: one that does is sent right behind it, and packets do not overtake each other on one veth.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.capture.tap import Frame, Tap
from lab.runtime.lab import Lab

from . import wire
from .wire import Wire, tapped, until

_IPV4, _TCP, _UDP = b"\x08\x00", 6, 17
_HEADERS_BYTES = 14 + 20 + 8
_FROM_PORT, _TO_PORT = 34, 36  # where UDP's ports are in a frame
_DNS_PORT = (53).to_bytes(2)
_SYN, _SYN_ACK = 0x02, 0x12


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS said: its code, and its records' addresses."""

    rcode: int
    addresses: tuple[str, ...] = ()


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
        """Ask the cluster's DNS for A records. Fails when no answer comes."""
        message = wire.query(name, ident=self.wire.rng.getrandbits(16))
        reply = self.wire.ask(self.wire.cluster_dns, message)
        return Answer(wire.rcode(reply), tuple(wire.addresses(reply)))

    def let_out(self, addresses: Iterable[str], port: int, *, known: str) -> set[str]:
        """Those of the addresses to which a SYN comes out of the node. `known` is one that is open."""
        sent = {(address, self.wire.syn(address, port)): address for address in addresses}
        fence = known, self.wire.syn(known, port)
        until(lambda: fence in self._out(), f"a SYN to {known}:{port}, which is open, comes out")
        out = self._out()
        assert sent.keys() <= {syn.key for syn in syns(self.wire.tap)}, "a SYN did not leave the pod"
        return {address for key, address in sent.items() if key in out}

    def _out(self) -> set[tuple[str, int]]:
        return {syn.key for syn in syns(self.uplink)}


def syns(tap: Tap) -> list[Syn]:
    """Every SYN that left by the tap's interface; scapy would take seconds over thousands of frames."""
    return [syn for frame in tap.frames() if frame.outgoing and (syn := _syn(frame))]


def accepted(tap: Tap) -> set[int]:
    """The sequence numbers of the SYNs that a SYN-ACK came back for."""
    segments = (_segment(frame) for frame in tap.frames() if not frame.outgoing)
    return {one.acknowledged - 1 for one in segments if one and one.flags & _SYN_ACK == _SYN_ACK}


def data_in(tap: Tap, server_port: int) -> list[Frame]:
    """Every frame that brought TCP payload from a server's port."""
    return [frame for frame in tap.frames() if not frame.outgoing and _brings_data(frame, server_port)]


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


@dataclass(frozen=True, slots=True)
class _Segment:
    """The head of a TCP segment over IPv4."""

    destination: str
    source_port: int
    sequence: int
    acknowledged: int
    flags: int
    payload_bytes: int


def _syn(frame: Frame) -> Syn | None:
    segment = _segment(frame)
    if segment is None or segment.flags & _SYN_ACK != _SYN:
        return None
    return Syn(frame.time_ns, segment.destination, segment.source_port, segment.sequence)


def _brings_data(frame: Frame, server_port: int) -> bool:
    segment = _segment(frame)
    return segment is not None and segment.source_port == server_port and segment.payload_bytes > 0


def _segment(frame: Frame) -> _Segment | None:
    packet = frame.data[14:]
    if frame.data[12:14] != _IPV4 or packet[9] != _TCP:
        return None
    start = 4 * (packet[0] & 0xF)
    source_port, _, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", packet, start)
    payload_bytes = int.from_bytes(packet[2:4]) - start - 4 * (offset >> 4)
    return _Segment(
        socket.inet_ntoa(packet[16:20]), source_port, sequence, acknowledged, flags, payload_bytes
    )


def _is_udp(frame: Frame, port_offset: int) -> bool:
    """Whether it is a datagram over IPv4 from or to the DNS port."""
    port = frame.data[port_offset : port_offset + 2]
    return frame.data[12:14] == _IPV4 and frame.data[23] == _UDP and port == _DNS_PORT
