"""Taps: every frame, both ways, from the first moment, and none lost silently."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from lab.capture import tap as tap_module
from lab.capture.tap import Frame, Tap, TapTimeout
from lab.kernel import netns
from lab.runtime.handles import PodHandle
from lab.runtime.lab import Lab

OpenTap = Callable[..., AbstractContextManager[Tap]]


@pytest.fixture
def pod(lab: Lab) -> PodHandle:
    return lab.pod("a")


@pytest.fixture
def namespace(pod: PodHandle) -> Iterator[int]:
    descriptor = pod.netns_fd()
    yield descriptor
    os.close(descriptor)


def udp_payload(frame: Frame) -> bytes:
    """What a UDP/IPv4 frame carries; empty for others."""
    if frame.data[12:14] != b"\x08\x00" or frame.data[23] != socket.IPPROTO_UDP:
        return b""
    return frame.data[42:]


def send(pod: PodHandle, payloads: list[bytes], target: tuple[str, int] = ("198.51.100.10", 9)) -> None:
    with pod.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for payload in payloads:
            sender.sendto(payload, target)


def test_what_is_sent_right_after_a_tap_opens_is_recorded_with_direction_and_time(
    pod: PodHandle, namespace: int
) -> None:
    before_ns = time.time_ns()
    with Tap(namespace, "eth0") as tap:
        send(pod, [b"hello-tap"])
        found = [frame for frame in tap.frames() if udp_payload(frame) == b"hello-tap"]
    assert [frame.outgoing for frame in found] == [True]
    assert before_ns <= found[0].time_ns <= time.time_ns()


def test_a_frame_that_comes_out_of_order_of_its_time_is_not_skipped(
    pod: PodHandle, namespace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = time.time_ns()
    times = itertools.chain((now_ns - back for back in (0, 5_000, 4_000)), itertools.repeat(now_ns - 3_000))
    monkeypatch.setattr(tap_module, "_timestamp_ns", lambda _: next(times))
    unanswered = ("239.1.1.1", 9)
    more = [b"second", b"third"]

    def wanted(frame: Frame) -> bool:
        if udp_payload(frame) == b"first" and more:
            send(pod, more, unanswered)
            more.clear()
        return udp_payload(frame) == b"second"

    with Tap(namespace, "eth0") as tap:
        send(pod, [b"first"], unanswered)
        tap.wait_for(wanted)


def test_answers_are_incoming(pod: PodHandle, namespace: int) -> None:
    with Tap(namespace, "eth0") as tap:
        send(pod, [b"closed port"])
        icmp = tap.wait_for(
            lambda frame: frame.data[12:14] == b"\x08\x00" and frame.data[23] == socket.IPPROTO_ICMP
        )
    assert not icmp.outgoing


def test_a_tap_on_the_nodes_end_sees_the_pods_packets_as_incoming(lab: Lab, pod: PodHandle) -> None:
    descriptor = lab.node("n1").netns_fd()
    with Tap(descriptor, pod.node_iface) as tap:
        send(pod, [b"from the pod"])
        assert not tap.wait_for(lambda frame: udp_payload(frame) == b"from the pod").outgoing
    os.close(descriptor)


def test_a_tap_records_its_interface_only(pod: PodHandle, namespace: int) -> None:
    with Tap(namespace, "lo") as tap:
        send(pod, [b"by eth0"])
        send(pod, [b"by lo"], ("127.0.0.1", 9))
        tap.wait_for(lambda frame: udp_payload(frame) == b"by lo")
        assert not [frame for frame in tap.frames() if udp_payload(frame) == b"by eth0"]


def test_ten_thousand_frames_in_a_burst_are_all_there_and_in_order(pod: PodHandle, namespace: int) -> None:
    payloads = [struct.pack("!I", number) + b"burst" for number in range(10_000)]
    with Tap(namespace, "eth0") as tap:
        send(pod, payloads)
        found = [udp_payload(frame) for frame in tap.frames() if udp_payload(frame).endswith(b"burst")]
        assert tap.dropped == 0
    assert found == payloads


def test_a_ring_that_is_full_forgets_the_oldest_and_counts(pod: PodHandle, namespace: int) -> None:
    with Tap(namespace, "lo", ring_frames=10) as tap:
        send(pod, [b"%d" % number for number in range(30)], ("127.0.0.1", 9))
        assert len(tap.frames()) == 10
        assert tap.overwritten > 0


def test_frames_that_the_kernel_had_no_room_for_are_counted(
    pod: PodHandle, namespace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.capture.tap._RECEIVE_BUFFER_BYTES", 4096)
    monkeypatch.setattr(Tap, "_record", lambda tap: os.read(tap._woken, 1))
    with Tap(namespace, "lo") as tap:
        send(pod, [b"x" * 1000] * 100, ("127.0.0.1", 9))
        assert tap.dropped > 0
        assert tap.dropped + len(tap.frames()) >= 100


def test_waiting_in_vain_says_where_and_how_long(namespace: int) -> None:
    with Tap(namespace, "lo") as tap, pytest.raises(TapTimeout, match=r"not seen on lo in 0\.1 s"):
        tap.wait_for(lambda frame: False, timeout_s=0.1)


def test_a_closed_tap_keeps_what_it_recorded(pod: PodHandle, namespace: int) -> None:
    with Tap(namespace, "lo") as tap:
        send(pod, [b"kept"], ("127.0.0.1", 9))
    assert any(udp_payload(frame) == b"kept" for frame in tap.frames())


def test_an_interface_that_is_not_there_is_an_error_that_names_it(namespace: int) -> None:
    with pytest.raises(Exception, match="cannot tap nothere"):
        Tap(namespace, "nothere")


def test_a_tap_can_be_opened_in_a_namespace_made_by_hand() -> None:
    with netns.keeping(netns.make()) as scratch, Tap(scratch, "lo") as tap:
        assert tap.frames() == []
