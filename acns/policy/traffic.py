"""The L4 side of rules and of packets: which of the ones speak of which of the others."""

from __future__ import annotations

from acns.policy.model import ICMP, Ports, Protocol, Traffic

Packet = Traffic
"""A packet in a rule's words: a protocol and one port, an ICMP type, or None where it is neither TCP, UDP,
SCTP nor ICMP."""

DNS_PROTOCOLS = (6, 17)

_BY_NUMBER = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}


def packet(protocol: int, port: int) -> Packet:
    """A packet to this port, by IANA's protocol number."""
    return Ports(_BY_NUMBER[protocol], port, port)


def includes(traffic: Traffic, packet: Packet) -> bool:
    """Whether a rule for `traffic` speaks of `packet`."""
    match traffic:
        case None:
            return True
        case ICMP():
            return traffic == packet
        case Ports():
            return (
                isinstance(packet, Ports)
                and traffic.protocol in (packet.protocol, Protocol.ANY)
                and (traffic.first == 0 or traffic.first <= packet.first <= traffic.last)
            )


def text(traffic: Traffic) -> str:
    """As a person would write it."""
    match traffic:
        case None:
            return "all traffic"
        case ICMP():
            return f"icmp/{traffic.type}"
        case Ports():
            if traffic.first == 0:
                return f"any/{traffic.protocol}"
            last = f"-{traffic.last}" if traffic.last != traffic.first else ""
            return f"{traffic.first}{last}/{traffic.protocol}"
