"""A tap: every frame on one interface of one namespace, both ways, recorded in memory.

An AF_PACKET socket is opened inside the namespace and read by a thread here. The tap is recording before the
constructor returns, so a test may send at once. It never loses a frame silently: the kernel's drops and the
frames pushed out of the ring are counted. `frames()` first takes over all that the kernel holds, so a frame
that was on the wire before the call is in the answer.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from types import TracebackType

from acns.errors import EnvironmentFault
from lab.kernel import netns, sockets

_ETH_P_ALL = 0x0003
_SO_TIMESTAMPNS = 35
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_OUTGOING = 4
_TIMESPEC = struct.Struct("qq")
_STATISTICS = struct.Struct("II")

_RECEIVE_BUFFER_BYTES = 32 << 20
_MAX_FRAME_BYTES = 262_144
"""With segmentation offload a veth carries up to 64 KiB (more with BIG TCP) in one frame."""
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from its Ethernet header on. `outgoing`: sent by the namespace that the interface is in."""

    time_ns: int
    outgoing: bool
    data: bytes


class TapTimeout(AssertionError):
    """`wait_for` did not see what it waited for."""


class Tap:
    """Records `interface` of `namespace` (a descriptor) from construction to `close`."""

    def __init__(
        self, namespace: netns.Namespace | int, interface: str, *, ring_frames: int = 200_000
    ) -> None:
        self.interface = interface
        self.overwritten = 0
        """Frames that the ring had no room for any more, oldest first."""
        self._dropped = 0
        self._recorded = 0
        self._ring: deque[Frame] = deque(maxlen=ring_frames)
        self._new = threading.Condition()
        self._socket = _open(namespace, interface)
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._record, name=f"tap {interface}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Tap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop recording; what was recorded stays readable."""
        if not self._thread.is_alive():
            return
        os.write(self._wake, b"x")
        self._thread.join()
        self._drain()
        self._count_drops()
        for descriptor in (self._woken, self._wake):
            os.close(descriptor)
        self._socket.close()

    def frames(self) -> list[Frame]:
        """All frames so far, oldest first."""
        with self._new:
            self._drain()
            return list(self._ring)

    def clear(self) -> None:
        """Forget what was recorded so far."""
        with self._new:
            self._drain()
            self._ring.clear()

    def take(self) -> list[Frame]:
        """All frames since the last call, oldest first; they are forgotten here."""
        with self._new:
            self._drain()
            taken = list(self._ring)
            self._ring.clear()
            return taken

    @property
    def dropped(self) -> int:
        """Frames that the kernel had to throw away because they were not read in time; 0 in a valid test."""
        with self._new:
            self._count_drops()
            return self._dropped

    def wait_for(self, wanted: Callable[[Frame], bool], timeout_s: float = 3.0) -> Frame:
        """The first recorded frame that is `wanted`, which may be there already. Raises TapTimeout."""
        deadline = time.monotonic() + timeout_s
        with self._new:
            looked_at = 0
            while True:
                # By number: on several processors frames may come out of the order of their times.
                for frame in islice(self._ring, max(0, len(self._ring) - (self._recorded - looked_at)), None):
                    if wanted(frame):
                        return frame
                looked_at = self._recorded
                if not self._new.wait(max(0.0, deadline - time.monotonic())):
                    count = len(self._ring)
                    raise TapTimeout(f"not seen on {self.interface} in {timeout_s:g} s ({count} frames seen)")

    def _record(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._woken in ready:
                return
            with self._new:
                self._drain(_BATCH)
                self._new.notify_all()

    def _drain(self, limit: int = 1 << 30) -> None:
        """Take frames from the kernel until it has none; the caller holds the lock."""
        for _ in range(limit):
            try:
                data, control, _, address = self._socket.recvmsg(_MAX_FRAME_BYTES, 64, socket.MSG_DONTWAIT)
            except (BlockingIOError, OSError):
                return
            if len(self._ring) == self._ring.maxlen:
                self.overwritten += 1
            self._recorded += 1
            self._ring.append(Frame(_timestamp_ns(control), address[2] == _PACKET_OUTGOING, data))

    def _count_drops(self) -> None:
        try:
            statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        except OSError:
            return
        # Reading resets the kernel's counters.
        self._dropped += _STATISTICS.unpack(statistics)[1]


def _open(namespace: netns.Namespace | int, interface: str) -> socket.socket:
    def in_place() -> socket.socket:
        # Protocol 0 receives nothing: no frame of another interface gets in before the bind.
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            sockets.enlarge_receive_buffer(opened, _RECEIVE_BUFFER_BYTES)
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            opened.bind((interface, _ETH_P_ALL))
        except OSError as error:
            opened.close()
            raise EnvironmentFault(f"cannot tap {interface}: {error.strerror}", hint="run as root") from error
        return opened

    return netns.in_namespace(namespace, in_place)


def _timestamp_ns(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()
