"""Captures that nobody here made (tests/data/captures): what is in them is what Wireshark finds in them.

Counted once with tshark 4.0: the messages are those with port 53 that it calls DNS, by their IDs; fewer there
where it gives up on compression pointers, or on a message of a connection that it did not see begin.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from lab.repro.reading import capture
from lab.repro.reading.evidence import Kind

FOLDER = Path(__file__).parents[2] / "data" / "captures"


class Known(NamedTuple):
    """What is in a capture."""

    frames: int
    messages: int
    flows: int
    troubles: frozenset[Kind] = frozenset()


HOLES = frozenset({Kind.INCOMPLETE})
CAPTURES = {
    "dnscap/1qtcpnosyn.pcap": Known(8, 2, 1),
    "dnscap/1qtcppadd.pcap": Known(10, 2, 1),
    "dnscap/dns.pcap": Known(133, 82, 0),
    "dnscap/dns6.pcap": Known(2, 2, 0),
    "dnscap/dnso1tcp-bighole.pcap": Known(200, 41, 1, HOLES),
    "dnscap/dnso1tcp-midmiss.pcap": Known(19, 6, 1, HOLES),
    "dnscap/dnsotcp-many1pkt.pcap": Known(10, 4, 1),
    "dnscap/dnsotcp-manyopkts.pcap": Known(7, 3, 1),
    "dnscap/dnspad.pcap": Known(1, 1, 0),
    "dnscap/do1t-nosyn-1nolen.pcap": Known(9, 3, 1, HOLES),
    "dnscap/frags.pcap": Known(495, 82, 0),
    "dnscap/vlan11.pcap": Known(133, 82, 0),
    "dpkt/dns_icmp.pcap": Known(32, 10, 0),
    "dpkt/truncated_dns.pcap": Known(1, 1, 0, frozenset({Kind.TRUNCATED})),
    "dpkt/truncated_dns_2.pcap": Known(1, 1, 0, frozenset({Kind.TRUNCATED, Kind.ENDS_EARLY})),
    "tcpdump/dns-badcookie.pcap": Known(4, 4, 0),
    "tcpdump/dns-badvers.pcap": Known(4, 4, 0),
    "tcpdump/dns-uri.pcap": Known(4, 4, 0),
    "tcpdump/dns-zlip-1.pcap": Known(1, 1, 0),
    "tcpdump/dns-zlip-2.pcap": Known(1, 1, 0),
    "tcpdump/dns-zlip-3.pcap": Known(1, 1, 0),
    "tcpdump/dns_tcp.pcap": Known(11, 2, 1),
    "tcpdump/dns_tcp_8053.pcap": Known(11, 0, 1),
    "tcpdump/dns_udp.pcap": Known(2, 2, 0),
    "tcpdump/dns_udp_8053.pcap": Known(2, 0, 1),
    "tcpdump/dnssec.pcap": Known(6, 6, 0),
    "tcpdump/edns-opts.pcap": Known(42, 42, 0),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_of_others_has_in_it_what_wireshark_finds(name: str) -> None:
    found = capture.read(FOLDER / name)
    troubles = frozenset(one.kind for one in found.troubles)
    assert Known(found.counts.frames, len(found.messages), len(found.flows), troubles) == CAPTURES[name]
    assert all(0 < frame <= found.counts.frames for one in found.messages for frame in one.frames)


def test_every_capture_that_is_there_is_spoken_of() -> None:
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.pcap")} == set(CAPTURES)
