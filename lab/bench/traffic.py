"""Traffic on a wire, in slices: request/response over TCP and UDP, new connections, bulk by iperf3.

The servers stay on the machine's first CPU. A client is put beside them, or on the last CPU. Apart is how a
server elsewhere answers: each packet wakes somebody. Together, nothing is waited for, and what is left of the
time is the work that a packet is: what the rules add shows most.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lab.bench.wire import Wire, serving
from lab.errors import PeerError
from lab.kernel import netns

PORT = 443
BULK_PORT = 5201
_LOST_S = 10

_CPUS = sorted(os.sched_getaffinity(0))
FIRST, LAST = _CPUS[0], _CPUS[-1]


def has_iperf3() -> bool:
    return shutil.which("iperf3") is not None


@contextlib.contextmanager
def on_cpu(number: int) -> Iterator[None]:
    """This thread, and what it starts in the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A connected pair that exchanges one byte for one byte."""

    socket: socket.socket

    @classmethod
    def over(cls, wire: Wire, kind: int) -> Conversation:
        made = _patient(wire.socket(kind))
        made.connect((str(wire.server_address), PORT))
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(made)

    def slice_us(self, round_trips: int, cpu: int) -> float:
        """The median of so many round trips, with the client on that CPU."""
        with on_cpu(cpu):
            return statistics.median(self._round_trip_ns() for _ in range(round_trips)) / 1e3

    def _round_trip_ns(self) -> int:
        started = time.perf_counter_ns()
        self.socket.send(b"x")
        self.socket.recv(1)
        return time.perf_counter_ns() - started


def connections_us(wire: Wire, count: int, cpu: int) -> float:
    """The median time of a new connection with one byte for one byte on it, with the client on that CPU."""
    with on_cpu(cpu):
        return statistics.median(_connection_us(wire) for _ in range(count))


def receiving_bulk(wire: Wire) -> contextlib.AbstractContextManager[int]:
    """An iperf3 server at the wire's far end."""
    argv = ["iperf3", "--server", "--port", str(BULK_PORT), "--forceflush"]
    return serving(wire.server, argv, "listening")


def bulk_gbit_s(wire: Wire, duration_s: int) -> float:
    """TCP throughput from the pod to the server, by iperf3; sender and receiver on CPUs of their own."""
    argv = [
        *("iperf3", "--client", str(wire.server_address), "--port", str(BULK_PORT)),
        *("--time", str(duration_s), "--interval", "0", "--json", "--affinity", f"{LAST},{FIRST}"),
    ]
    done = netns.in_namespace(
        wire.pod, lambda: subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    )
    try:
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9
    except (ValueError, KeyError) as error:
        raise PeerError(f"iperf3 failed: {done.stdout}{done.stderr}") from error


def _connection_us(wire: Wire) -> float:
    with _patient(wire.socket(socket.SOCK_STREAM)) as made:
        started = time.perf_counter_ns()
        made.connect((str(wire.server_address), PORT))
        made.send(b"x")
        made.recv(1)
        return (time.perf_counter_ns() - started) / 1e3


def _patient(made: socket.socket) -> socket.socket:
    """Gives up in the end. The kernel keeps the time: Python's own time-out costs a poll() for each byte."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        made.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", _LOST_S, 0))
    return made
