"""What came out of the node, and what reached the DNS servers, by the frames themselves."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

from lab.capture.tap import Frame, Tap
from lab.runtime.handles import Inside
from lab.runtime.lab import Lab

from . import world
from .judge import Judge

_SYN, _SYN_ACK = 0x02, 0x12
_DNS = (53).to_bytes(2)
_TCP, _UDP = 6, 17
_STRAY = b"\x05stray\x04soak"


class Taps:
    """At the node's uplink and at the cluster's DNS pod."""

    def __init__(self, lab: Lab, judge: Judge) -> None:
        self._judge = judge
        self._closing = ExitStack()
        self._uplink = self._tap(lab.node("node1"))
        self._dns_pod = self._tap(lab.pod("kube-dns"))
        self._enforced = {socket.inet_aton(str(lab.pod(pod).address)): pod for pod in world.PODS}
        self._free = socket.inet_aton(str(lab.pod(world.FREE).address))

    def _tap(self, place: Inside) -> Tap:
        namespace = place.netns_fd()
        try:
            return self._closing.enter_context(Tap(namespace, "eth0"))
        finally:
            os.close(namespace)

    def close(self) -> None:
        self._closing.close()

    @property
    def missed(self) -> int:
        return sum(tap.dropped + tap.overwritten for tap in (self._uplink, self._dns_pod))

    def take(self) -> None:
        """Read what was recorded since the last call."""
        now = time.monotonic()
        for frame in self._uplink.take():
            if frame.outgoing and frame.data[12:14] == b"\x08\x00":
                self._at_uplink(frame, now)
        for frame in self._dns_pod.take():
            if not frame.outgoing and frame.data[12:14] == b"\x08\x00":
                self._at_dns_pod(frame.data[14:], now)

    def _at_uplink(self, frame: Frame, now: float) -> None:
        packet = frame.data[14:]
        body = packet[4 * (packet[0] & 0xF) :]
        if packet[9] == _TCP and body[13] & _SYN_ACK == _SYN:
            key = socket.inet_ntoa(packet[16:20]), int.from_bytes(body[4:8])
            self._judge.passed[key] = now
        elif body[2:4] == _DNS and _STRAY in body:
            self._judge.tally.violated("leaks", "?", "a query to a denied server left the node", now)

    def _at_dns_pod(self, packet: bytes, now: float) -> None:
        body = packet[4 * (packet[0] & 0xF) :]
        if packet[9] not in (_TCP, _UDP) or body[2:4] != _DNS:
            return
        if pod := self._enforced.get(packet[12:16]):
            self._judge.tally.violated("leaks", pod, "a DNS packet of the pod's own reached the server", now)
        elif packet[12:16] != self._free:
            for name in _names(packet[9], body):
                self._judge.reached_the_server(name, now)


def _names(protocol: int, body: bytes) -> Iterator[str]:
    """The name that a DNS packet asks for; of a TCP segment, the first message's."""
    start = 8 if protocol == _UDP else 4 * (body[12] >> 4) + 2
    message = body[start:]
    if len(message) <= 12:
        return
    labels, at = [], 12
    while at < len(message) and (size := message[at]):
        labels.append(message[at + 1 : at + 1 + size])
        at += 1 + size
    yield b".".join(labels).decode("latin-1").lower()
