"""Packet rings: the newest are kept, the oldest given up, and every packet is accounted for."""

from __future__ import annotations

import socket
import time

import pytest

from lab.capture import bpf
from lab.capture.ring import BLOCK_BYTES, Packet, Ring, packets
from lab.errors import EnvironmentFault
from lab.kernel import netns

from ...waiting import until

pytestmark = pytest.mark.root

PORT = 4711
ONLY_OURS = f"udp port {PORT}"


def send(namespace: netns.Namespace, payloads: list[bytes], port: int = PORT) -> None:
    with netns.open_socket(namespace, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for payload in payloads:
            sender.sendto(payload, ("127.0.0.1", port))


def held(ring: Ring) -> list[Packet]:
    return [packet for block in ring.contents() for packet in packets(block)]


def test_what_is_sent_right_after_a_ring_opens_is_in_it_with_its_time(alone: netns.Namespace) -> None:
    ring = Ring(alone, bpf.compiled(ONLY_OURS))
    before_ns = time.time_ns()
    send(alone, [b"one", b"two"])
    after_ns = time.time_ns()
    until(lambda: len(held(ring)) >= 4)
    sent = [packet for packet in held(ring) if packet.outgoing]
    ring.close()
    assert [packet.data[42:45] for packet in sent] == [b"one", b"two"]
    assert all(before_ns <= packet.time_ns <= after_ns for packet in sent)


def test_other_traffic_than_the_filters_is_not_in_it(alone: netns.Namespace) -> None:
    ring = Ring(alone, bpf.compiled(ONLY_OURS))
    send(alone, [b"other"], port=PORT + 1)
    send(alone, [b"ours"])
    until(lambda: len(held(ring)) >= 2)
    assert {packet.data[42:] for packet in held(ring)} == {b"ours"}
    ring.close()


def test_of_a_flood_the_newest_are_kept_and_all_the_others_counted(alone: netns.Namespace) -> None:
    ring = Ring(alone, bpf.compiled(ONLY_OURS), size_bytes=16 * BLOCK_BYTES)
    rounds, each = 60, 40
    for number in range(rounds):
        send(alone, [number.to_bytes(2, "big") + bytes(1000)] * each)
        ring.tend()
    # The last of them are in a block that the kernel has still to hand over.
    until(lambda: ring.counts().overwritten + len(held(ring)) == 2 * rounds * each)
    counts, kept = ring.counts(), held(ring)
    ring.close()
    assert kept[-1].data[42:44] == (rounds - 1).to_bytes(2, "big")
    assert counts.received == 2 * rounds * each  # on lo each is heard twice
    assert counts.dropped == 0
    assert counts.overwritten > 0


def test_a_ring_that_nobody_tends_loses_the_newest_and_says_how_many(alone: netns.Namespace) -> None:
    ring = Ring(alone, bpf.compiled(ONLY_OURS), size_bytes=8 * BLOCK_BYTES)
    send(alone, [bytes(1000)] * 1000)
    until(lambda: ring.counts().received == 2000)
    counts = ring.counts()
    assert counts.dropped > 0
    assert counts.dropped + len(held(ring)) <= counts.received
    ring.close()


def test_a_link_that_is_not_there_is_an_error_that_names_it(alone: netns.Namespace) -> None:
    with pytest.raises(EnvironmentFault, match="cannot record eth7"):
        Ring(alone, bpf.beginnings(), interface="eth7")
