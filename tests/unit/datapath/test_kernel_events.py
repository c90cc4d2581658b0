"""The kernel's messages about dropped packets and new connections, as a kernel (6.18) sent them."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.datapath import ctevents, headers, netlink, netlink_events, nflog
from acns.datapath.headers import Headers
from acns.datapath.netlink_events import GENERIC_BYTES

LOOPBACK = IPv4Address("127.0.0.1")

LOGGED = bytes.fromhex(
    "7c00000000040000000000000000000002000064080001000800030018000a0061636e733a65675f303132333435363738392000"
    "080005000000000108000b000000000008000e000000000008000c00000000002500090045000021ab1f4000401191aa7f000001"
    "7f000001ed6414e9000dfe2068656c6c6f0000009400000000040000000000000000000002000064080001000800030018000a00"
    "61636e733a65675f303132333435363738392000080005000000000108000b000000000008000e000000000008000c0000000001"
    "400009004500003caaa74000400692127f0000017f000001d3b20051606c8f1200000000a002ffd7fe3000000204ffd70402080a"
    "8464480e000000000103030a1400000003000000000000000000000000000064"
)
"""Two packets to closed ports of the loopback address, UDP 5353 and TCP 81, and the end of the batch."""

OPENED = bytes.fromhex(
    "cc000000000100060000000000000000020000003400018014000180080001007f000001080002007f0000011c00028005000100"
    "0600000006000200e35a000006000300005000003400028014000180080001007f000001080002007f0000011c00028005000100"
    "060000000600020000500000"
    "06000300e35a000008000c00bc6cf01408000300000000080800070000000078300004802c000180050001000100000005000200"
    "0a0000000500030000000000060004000300000006000500000000000800080000070005"
)
"""A connection to port 80 of the loopback address, its mark 0x70005."""


def test_a_batch_of_logged_packets_is_read() -> None:
    messages = list(netlink_events.messages(LOGGED))
    found = [nflog.parse(body) for kind, _, body in messages if kind == 0x400]
    assert found == [
        nflog.Logged(
            "acns:eg_0123456789 ",
            nflog.OUTPUT,
            0,
            Headers(LOOPBACK, LOOPBACK, headers.UDP, 0xED64, 5353),
            out_interface=1,
        ),
        nflog.Logged(
            "acns:eg_0123456789 ",
            nflog.OUTPUT,
            1,
            Headers(LOOPBACK, LOOPBACK, headers.TCP, 0xD3B2, 81, 0x02),
            out_interface=1,
        ),
    ]
    assert [kind for kind, _, _ in messages] == [0x400, 0x400, netlink.DONE]


def test_the_time_of_a_packet_is_read_where_the_kernel_says_it() -> None:
    ((_, _, body), *_) = netlink_events.messages(LOGGED)
    when = netlink.attribute(3, (1_763_934_012).to_bytes(8, "big") + (250_000).to_bytes(8, "big"))
    found = nflog.parse(body[:GENERIC_BYTES] + when + body[GENERIC_BYTES:])
    assert found is not None
    assert found.time_ns == 1_763_934_012_250_000_000


def test_a_new_connection_is_read_with_the_grants_in_its_mark() -> None:
    ((kind, _, body),) = netlink_events.messages(OPENED)
    assert kind == 0x100
    assert ctevents.parse(body) == ctevents.Opened(
        headers=Headers(LOOPBACK, LOOPBACK, headers.TCP, 0xE35A, 80),
        asked=LOOPBACK,
        asked_port=80,
        egress_grant=5,
        ingress_grant=7,
    )


def one_way(kind: int, source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """One direction of a TCP connection: 1 as it was opened, 2 as answers come."""
    addresses = netlink.attribute(1, IPv4Address(source).packed) + netlink.attribute(
        2, IPv4Address(destination).packed
    )
    protocol = netlink.attribute(1, b"\x06")
    for number, port in ((2, source_port), (3, destination_port)):
        protocol += netlink.attribute(number, port.to_bytes(2, "big"))
    return netlink.nested(kind, netlink.nested(1, addresses) + netlink.nested(2, protocol))


def test_where_service_translation_took_a_connection_is_its_destination() -> None:
    asked = one_way(1, "10.244.0.2", 40000, "10.96.20.20", 80)
    answers = one_way(2, "10.244.0.20", 8080, "172.18.0.2", 61000)  # masqueraded on the way
    found = ctevents.parse(b"\x02\0\0\0" + asked + answers)
    assert found == ctevents.Opened(
        headers=Headers(IPv4Address("10.244.0.2"), IPv4Address("10.244.0.20"), headers.TCP, 40000, 8080),
        asked=IPv4Address("10.96.20.20"),
        asked_port=80,
        egress_grant=0,
        ingress_grant=0,
    )


@given(st.sampled_from([LOGGED, OPENED]), st.data())
def test_no_message_makes_reading_fail(message: bytes, data: st.DataObject) -> None:
    damaged = bytearray(message)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for _, _, body in netlink_events.messages(bytes(damaged[: data.draw(st.integers(0, len(damaged)))])):
        nflog.parse(body)
        ctevents.parse(body)


# --- whether there are events ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1\n", "2\n"])
def test_events_that_are_on_are_no_problem(tmp_path: Path, value: str) -> None:
    (tmp_path / "nf_conntrack_events").write_text(value)
    assert ctevents.problem(tmp_path / "nf_conntrack_events") is None


def test_events_that_are_off_are_a_problem_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "nf_conntrack_events").write_text("0\n")
    problem = ctevents.problem(tmp_path / "nf_conntrack_events")
    assert problem is not None
    assert "sysctl -w" in problem.hint


def test_a_kernel_without_events_is_a_problem(tmp_path: Path) -> None:
    problem = ctevents.problem(tmp_path / "nf_conntrack_events")
    assert problem is not None
    assert "CONFIG_NF_CONNTRACK_EVENTS" in problem.hint
