"""Packets made by hand, read by scapy."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP as ScapyICMP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet as ScapyPacket

from acns.policy.model import ICMP, Ports, Protocol
from acns.policy.traffic import Packet
from lab.policy_tools.packets import Numbers, Probe, crc32c

SOURCE, DESTINATION = IPv4Address("10.244.0.2"), IPv4Address("198.51.100.10")


def sent(packet: Packet) -> ScapyPacket:
    """As it is on the wire: scapy fills in the header's checksum, as the kernel does."""
    read = IP(Probe(SOURCE, DESTINATION, packet, ident=4711, port=61234).data())
    del read.chksum
    return IP(bytes(read))


def with_right_sums(packet: ScapyPacket) -> bytes:
    """The same, with all checksums worked out by scapy."""
    again = IP(bytes(packet))
    for layer in (IP, TCP, UDP, ScapyICMP, SCTP):
        if layer in again and "chksum" in again[layer].fields:
            del again[layer].chksum
    return bytes(again)


@pytest.mark.parametrize(
    "packet",
    [
        Ports(Protocol.TCP, 443, 443),
        Ports(Protocol.UDP, 53, 53),
        Ports(Protocol.SCTP, 9999, 9999),
        ICMP(8),
        ICMP(13),
        None,
    ],
)
def test_checksums_and_lengths_are_right(packet: Packet) -> None:
    assert with_right_sums(sent(packet)) == bytes(sent(packet))


def test_it_says_from_where_to_where_and_by_which_number_it_is_known() -> None:
    read = sent(Ports(Protocol.TCP, 443, 443))
    assert (read.src, read.dst, read.id) == (str(SOURCE), str(DESTINATION), 4711)


def test_tcp_opens_a_connection() -> None:
    read = sent(Ports(Protocol.TCP, 443, 443))
    assert (read[TCP].sport, read[TCP].dport, str(read[TCP].flags)) == (61234, 443, "S")


def test_udp_carries_nothing() -> None:
    read = sent(Ports(Protocol.UDP, 53, 53))
    assert (read[UDP].dport, bytes(read[UDP].payload)) == (53, b"")


def test_sctp_opens_an_association() -> None:
    assert SCTPChunkInit in sent(Ports(Protocol.SCTP, 9999, 9999))


def test_an_echo_has_the_number_that_its_answer_is_known_by() -> None:
    read = sent(ICMP(8))
    assert (read[ScapyICMP].type, read[ScapyICMP].id) == (8, 61234)


def test_other_traffic_is_of_a_protocol_without_ports() -> None:
    assert sent(None).proto == 253


def test_crc32c_is_that_of_the_standard() -> None:
    """RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_every_probe_of_a_run_has_numbers_of_its_own() -> None:
    numbers = Numbers()
    probes = [numbers.probe(SOURCE, DESTINATION, None) for _ in range(4000)]
    assert len({one.ident for one in probes}) == len({one.port for one in probes}) == len(probes)
    assert all(0 < one.ident < 1 << 16 and 61_000 <= one.port < 1 << 16 for one in probes)
