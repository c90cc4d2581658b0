"""A packet ring: the kernel writes what a namespace's links carry into memory, and nobody reads it until
somebody asks.

A TPACKET_V3 ring (packet(7), Linux' packet_mmap.rst) throws away the *newest* packets when it is full; a
recorder wants to lose the oldest. So its keeper gives the oldest blocks back to the kernel ahead of time, one
word written for each 64 KiB of packets: what is recorded costs the packets a copy in the kernel, and no
process anything.

What this module keeps true:
* The ring is bounded in bytes, and what is lost is counted: packets that the kernel had no block for
  (`Counts.dropped`), and packets given up for newer ones (`Counts.overwritten`).
* A block is copied only while it is ours, so no packet is ever half of one and half of another.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lab.capture import bpf
from lab.errors import EnvironmentFault
from lab.kernel import netns

BLOCK_BYTES: Final = 1 << 16
RETIRE_MS: Final = 200
"""A block with something in it is handed over after so long, full or not. So `RING_BYTES` are a minute and a
quarter of slow traffic at least."""
RING_BYTES: Final = 512 * BLOCK_BYTES
TEND_EVERY_S: Final = 0.05
_LEAST_BLOCKS: Final = 8
_SPARE_PART: Final = 4
"""One block in so many is kept free for what comes before the keeper is back."""

_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_TPACKET_V3: Final = 2
_ETH_P_ALL: Final = 0x0003
_FRAME_BYTES: Final = 2048  # of no meaning in version 3, but checked
_REQUEST: Final = struct.Struct("7I")
_STATISTICS: Final = struct.Struct("3I")

_TAKEN: Final = 1  # TP_STATUS_USER
_STATUS_WORD, _COUNT_WORD, _LENGTH_WORD = 2, 3, 5  # of a block's header, in words
_BLOCK: Final = struct.Struct("8xIIII")
_PACKET: Final = struct.Struct("6I2H")
_LINK_OFFSET: Final = 48  # sockaddr_ll behind tpacket3_hdr
_LINK: Final = struct.Struct("HHiHB")
_ADDRESS: Final = struct.Struct("HHi12x")
_OUTGOING: Final = 4


@dataclass(frozen=True, slots=True)
class Packet:
    """`outgoing`: sent by the namespace that was listened in. `wire_bytes` may be more than was kept."""

    time_ns: int
    interface: int
    outgoing: bool
    wire_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets, since the ring was opened."""

    received: int = 0
    dropped: int = 0
    overwritten: int = 0


class Ring:
    """Records all links of `namespace`, or one, from construction to `close`. For one thread at a time."""

    def __init__(
        self,
        namespace: netns.Namespace | int,
        program: bytes,
        *,
        interface: str = "",
        size_bytes: int = RING_BYTES,
    ) -> None:
        self._blocks = max(_LEAST_BLOCKS, size_bytes // BLOCK_BYTES)
        self._most_held = self._blocks - max(2, self._blocks // _SPARE_PART)
        self._oldest = 0
        self._received = self._dropped = self._overwritten = 0
        self._socket = _opened(namespace, program, interface, self._blocks)
        self._map = mmap.mmap(self._socket.fileno(), self._blocks * BLOCK_BYTES)
        self._words = memoryview(self._map).cast("I")

    def tend(self) -> None:
        """Give the oldest blocks back while too few are free; to be called every `TEND_EVERY_S`."""
        held = sum(1 for _ in self._held())
        while held > self._most_held:
            base = self._oldest * BLOCK_BYTES // 4
            self._overwritten += self._words[base + _COUNT_WORD]
            self._words[base + _STATUS_WORD] = 0
            self._oldest = (self._oldest + 1) % self._blocks
            held -= 1

    def contents(self) -> list[bytes]:
        """A copy of every block that is there, oldest first; `packets` reads them."""
        found = []
        for block in self._held():
            start = block * BLOCK_BYTES
            length = self._words[start // 4 + _LENGTH_WORD]
            found.append(bytes(self._map[start : start + min(length, BLOCK_BYTES)]))
        return found

    def counts(self) -> Counts:
        """What came, and what of it was lost."""
        received, dropped, _ = _STATISTICS.unpack(
            self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        )
        # Reading resets the kernel's counters.
        self._received += received
        self._dropped += dropped
        return Counts(self._received, self._dropped, self._overwritten)

    def close(self) -> None:
        self._words.release()
        self._map.close()
        self._socket.close()

    def _held(self) -> Iterator[int]:
        """The blocks that the kernel has handed over and not got back, oldest first."""
        for number in range(self._blocks):
            block = (self._oldest + number) % self._blocks
            if not self._words[block * BLOCK_BYTES // 4 + _STATUS_WORD] & _TAKEN:
                return
            yield block


def packets(block: bytes) -> Iterator[Packet]:
    """What a block holds, in the order in which it came."""
    _, count, offset, _ = _BLOCK.unpack_from(block)
    for _ in range(count):
        following, seconds, ns, kept, length, _, mac, _ = _PACKET.unpack_from(block, offset)
        _, _, interface, _, kind = _LINK.unpack_from(block, offset + _LINK_OFFSET)
        data = block[offset + mac : offset + mac + kept]
        yield Packet(seconds * 1_000_000_000 + ns, interface, kind == _OUTGOING, length, data)
        offset += following


def _opened(namespace: netns.Namespace | int, program: bytes, interface: str, blocks: int) -> socket.socket:
    def in_place() -> socket.socket:
        # Protocol 0 receives nothing: nothing comes in before filter and ring are there.
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            opened.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
            bpf.attach(opened, program)
            frames = blocks * BLOCK_BYTES // _FRAME_BYTES
            request = _REQUEST.pack(BLOCK_BYTES, blocks, _FRAME_BYTES, frames, RETIRE_MS, 0, 0)
            opened.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
            _bind(opened, interface)
        except OSError as error:
            opened.close()
            what = interface or "all links"
            raise EnvironmentFault(
                f"cannot record {what}: {error.strerror}", hint="invoke lab.doctor says what is missing"
            ) from error
        return opened

    return netns.in_namespace(namespace, in_place)


def _bind(opened: socket.socket, interface: str) -> None:
    """By hand: to Python a packet socket's address always has a link."""
    index = socket.if_nametoindex(interface) if interface else 0
    address = _ADDRESS.pack(socket.AF_PACKET, socket.htons(_ETH_P_ALL), index)
    if ctypes.CDLL(None, use_errno=True).bind(opened.fileno(), address, len(address)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
