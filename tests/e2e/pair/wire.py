"""Packets for the tests: made and read with scapy, sent and recorded inside a pod's namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scapy.layers.l2 import Ether
from scapy.packet import Packet

from lab.capture.tap import Frame, Tap
from lab.runtime.handles import Inside


@contextmanager
def tapped(place: Inside, interface: str = "eth0") -> Iterator[Tap]:
    """A tap on `interface` of a pod, a node or the Internet."""
    tap = Tap(place.netns_fd(), interface)
    with tap:
        yield tap


def dissect(frame: Frame) -> Packet:
    """A recorded frame as scapy sees it."""
    return Ether(frame.data)
