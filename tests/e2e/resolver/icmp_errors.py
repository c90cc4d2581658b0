"""What hosts and routers say of datagrams that nobody takes."""

from __future__ import annotations

import socket

from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from .resolver_world import Bench


def from_the_servers_host(bench: Bench) -> socket.socket:
    """Sends ICMP messages from there."""
    return bench.keep(
        bench.world.dns.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    )


def port_unreachable(resolver: tuple[str, int], server: str, sent: bytes) -> bytes:
    """What says that the resolver's datagram has found nobody at a server."""
    datagram = IP(src=resolver[0], dst=server) / UDP(sport=resolver[1], dport=53) / Raw(sent)
    return bytes(ICMP(type="dest-unreach", code="port-unreachable") / datagram)
