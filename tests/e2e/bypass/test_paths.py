"""Ways out that are none of the policy's: other servers, ports and protocols, dressed and broken packets.

Each is a packet, or a few, that the guest puts on its cable with a word in it that nobody else uses. The word
comes out nowhere. The same packets of a pod without policy do come out, where a network carries them at all.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_SSRR, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.packet import Packet, Raw

from ..pair import wire
from ..pair.wire import DNS_PORT, Wire
from .bypass_world import (
    DENIED,
    DENIED_V6,
    DOT,
    EXACT,
    HTTPS,
    MDNS,
    OPEN,
    OTHER_DNS,
    WEB_SERVICE,
    World,
)
from .sender import Sender

pytestmark = pytest.mark.root

SCTP, DCCP, UDP_LITE, ESP = 132, 33, 136, 50
REWRITTEN = 4444, 22
"""The ports that fragments put in the place of others."""
NOWHERE = "203.0.113.200"
"""Outside, and nobody's."""


Packets = Packet | Sequence[Packet]
Way = Callable[[Sender], Packets]


def dns_v6(sender: Sender) -> str:
    return str(sender.world.lab.pod("kube-dns").address_v6)


def node(sender: Sender) -> str:
    return str(sender.world.node.address)


def gateway(sender: Sender) -> str:
    return str(sender.world.lab.addressing.nodes[0].pod_gateway)


def rogue(sender: Sender) -> str:
    return str(sender.world.lab.pod("rogue").address)


def server(sender: Sender) -> str:
    return sender.world.dns_address


def ports_over_it(sender: Sender, protocol: int) -> bytes:
    """The first octets of a protocol that has ports where UDP has them."""
    return struct.pack("!HHHH", 4444, DNS_PORT, 8 + len(sender.query), 0) + sender.query


def routed(option: type, sender: Sender, first: str, then: str) -> Packet:
    """With an order to go by `first` on its way to `then`."""
    header = sender.ip(first, options=[option(routers=[then])])
    return header / TCP(sport=4444, dport=HTTPS, flags="S") / Raw(sender.word)


def icmp_error(sender: Sender, kind: int, target: str) -> Packet:
    """About a connection that there is not."""
    about = IP(src=sender.wire.address, dst=DENIED) / UDP(sport=1, dport=2) / Raw(sender.word)
    return sender.ip(target) / ICMP(type=kind, code=1) / about


def overlapping(sender: Sender) -> list[Packet]:
    """The ports of a known service first; what comes after puts others in their place."""
    good, bad = (
        fragment(IP(bytes(sender.tcp(OPEN, port, sport=REWRITTEN[0])[IP])), fragsize=24)
        for port in (HTTPS, REWRITTEN[1])
    )
    for part in (*good, *bad):
        part[IP].id = 7
    return [good[0], bad[0], *bad[1:], *good[1:]]


def tiny_fragments(sender: Sender) -> list[Packet]:
    """So small that the first has ports and no flags."""
    whole = sender.tcp(DENIED, HTTPS)
    whole[IP].id = sender.world.id16()
    return list(fragment(IP(bytes(whole)), fragsize=8))


def last_fragments(sender: Sender) -> Packet:
    """All but the first, which has the ports."""
    return sender.ip(DENIED, frag=3, id=sender.world.id16(), proto=socket.IPPROTO_UDP) / Raw(sender.word)


SERVERS: dict[str, Way] = {
    "a DNS server outside": lambda s: s.question(OTHER_DNS),
    "a DNS server outside, over TCP": lambda s: s.tcp(OTHER_DNS, DNS_PORT),
    "a DNS server at a known address": lambda s: s.question(OPEN),
    "a DNS server in another pod": lambda s: s.question(rogue(s)),
    "a DNS server in another pod, over TCP": lambda s: s.tcp(rogue(s), DNS_PORT),
    "the right server's port 5353": lambda s: s.question(server(s), MDNS),
    "the right server's port 5353, over TCP": lambda s: s.tcp(server(s), MDNS),
    "the right server's port 54": lambda s: s.question(server(s), 54),
    "the right server's port 0": lambda s: s.question(server(s), 0),
    "the right server over TLS": lambda s: s.tcp(server(s), DOT),
    "the right server over QUIC": lambda s: s.question(server(s), DOT),
    "the right server over HTTPS": lambda s: s.tcp(server(s), HTTPS),
    "a server outside over TLS": lambda s: s.tcp(OTHER_DNS, DOT),
    "a server outside over QUIC": lambda s: s.question(OTHER_DNS, DOT),
    "a server outside over HTTPS": lambda s: s.tcp(OTHER_DNS, HTTPS),
    "a known server over HTTP/3": lambda s: s.udp(OPEN, HTTPS),
    "a known server's port 853": lambda s: s.tcp(OPEN, DOT),
    "the right server over SCTP": lambda s: s.ip(server(s), proto=SCTP) / Raw(ports_over_it(s, SCTP)),
    "the right server over DCCP": lambda s: s.ip(server(s), proto=DCCP) / Raw(ports_over_it(s, DCCP)),
    "the right server over UDP-Lite": lambda s: s.ip(server(s), proto=UDP_LITE)
    / Raw(ports_over_it(s, UDP_LITE)),
    "the right server over IPv6": lambda s: IPv6(src=s.wire.address_v6, dst=dns_v6(s))
    / UDP(sport=4444, dport=DNS_PORT)
    / Raw(s.query),
    "the right server over IPv6 and TCP": lambda s: IPv6(src=s.wire.address_v6, dst=dns_v6(s))
    / TCP(sport=4444, dport=DNS_PORT, flags="S")
    / Raw(s.word),
    "the right server as if a connection stood": lambda s: s.tcp(server(s), DNS_PORT, "PA"),
}  # fmt: skip

PACKETS: dict[str, Way] = {
    "a SYN": lambda s: s.tcp(DENIED, HTTPS),
    "a SYN to another port of a known server": lambda s: s.tcp(OPEN, 80),
    "a SYN from port 53": lambda s: s.tcp(DENIED, HTTPS, sport=DNS_PORT),
    "a SYN to port 53": lambda s: s.tcp(DENIED, DNS_PORT),
    "a SYN to port 0": lambda s: s.tcp(DENIED, 0),
    "a SYN that ends": lambda s: s.tcp(DENIED, HTTPS, "SF"),
    "a SYN with all flags": lambda s: s.tcp(DENIED, HTTPS, "FSRPAU"),
    "no flags": lambda s: s.tcp(DENIED, HTTPS, ""),
    "an ACK": lambda s: s.tcp(DENIED, HTTPS, "A", ack=1),
    "data": lambda s: s.tcp(DENIED, HTTPS, "PA", ack=1),
    "a SYN-ACK": lambda s: s.tcp(DENIED, HTTPS, "SA", ack=1),
    "a FIN": lambda s: s.tcp(DENIED, HTTPS, "FA", ack=1),
    "a reset": lambda s: s.tcp(DENIED, HTTPS, "R"),
    "a reset with data": lambda s: s.tcp(DENIED, HTTPS, "RA", ack=1),
    "a datagram": lambda s: s.udp(DENIED, HTTPS),
    "a datagram from port 53": lambda s: s.udp(DENIED, 4444, sport=DNS_PORT),
    "a datagram to another pod": lambda s: s.udp(rogue(s), 4444),
    "a SYN to another pod": lambda s: s.tcp(str(s.world.lab.pod("web").address), HTTPS),
    "a SYN to a Service": lambda s: s.tcp(WEB_SERVICE, HTTPS),
    "a ping": lambda s: s.ip(DENIED) / ICMP() / Raw(s.word),
    "a ping to a known server": lambda s: s.ip(OPEN) / ICMP() / Raw(s.word),
    "a ping to the DNS server": lambda s: s.ip(server(s)) / ICMP() / Raw(s.query),
    "a ping's answer": lambda s: s.ip(DENIED) / ICMP(type=0) / Raw(s.word),
    "an ICMP error": lambda s: icmp_error(s, 3, DENIED),
    "an ICMP error to a known server": lambda s: icmp_error(s, 3, OPEN),
    "an ICMP redirect": lambda s: icmp_error(s, 5, DENIED),
    "an ICMP timestamp request": lambda s: s.ip(DENIED) / ICMP(type=13) / Raw(s.word),
    "a protocol of nobody's": lambda s: s.ip(DENIED, proto=253) / Raw(s.word),
    "ESP": lambda s: s.ip(DENIED, proto=ESP) / Raw(s.word),
    "SCTP": lambda s: s.ip(DENIED, proto=SCTP) / Raw(struct.pack("!HH", 4444, HTTPS) + s.word.encode()),
    "IPv4 in IPv4": lambda s: s.ip(DENIED, proto=4) / Raw(s.inner),
    "IPv4 in IPv4 to a known server": lambda s: s.ip(OPEN, proto=4) / Raw(s.inner),
    "IPv4 in IPv4 to the node": lambda s: s.ip(node(s), proto=4) / Raw(s.inner),
    "IPv4 in IPv4 to the gateway": lambda s: s.ip(gateway(s), proto=4) / Raw(s.inner),
    "IPv4 in IPv4 to the DNS server": lambda s: s.ip(server(s), proto=4) / Raw(s.inner),
    "IPv4 in GRE to a known server": lambda s: s.ip(OPEN) / GRE() / Raw(s.inner),
    "IPv4 in GRE to the node": lambda s: s.ip(node(s)) / GRE() / Raw(s.inner),
    "IPv6 in IPv4 to a known server": lambda s: s.ip(OPEN, proto=41)
    / IPv6(src=s.wire.address_v6, dst=DENIED_V6)
    / UDP(sport=1, dport=2)
    / Raw(s.word),
    "IPv6 in IPv4 to the node": lambda s: s.ip(node(s), proto=41)
    / IPv6(src=s.wire.address_v6, dst=DENIED_V6)
    / UDP(sport=1, dport=2)
    / Raw(s.word),
    "IPv4 in IPv6": lambda s: IPv6(src=s.wire.address_v6, dst=DENIED_V6, nh=4) / Raw(s.inner),
    "IPv6": lambda s: IPv6(src=s.wire.address_v6, dst=DENIED_V6)
    / TCP(sport=4444, dport=HTTPS, flags="S")
    / Raw(s.word),
    "IPv6 to an IPv4 address in it": lambda s: IPv6(src=s.wire.address_v6, dst=f"::ffff:{DENIED}")
    / UDP(sport=4444, dport=HTTPS)
    / Raw(s.word),
    "IPv6 to an IPv4 address by NAT64": lambda s: IPv6(src=s.wire.address_v6, dst=f"64:ff9b::{DENIED}")
    / UDP(sport=4444, dport=HTTPS)
    / Raw(s.word),
    "a ping over IPv6": lambda s: IPv6(src=s.wire.address_v6, dst=DENIED_V6)
    / ICMPv6EchoRequest(data=s.word.encode()),
    "a route by a known server": lambda s: routed(IPOption_LSRR, s, NOWHERE, DENIED),
    "a route by the node": lambda s: routed(IPOption_LSRR, s, node(s), DENIED),
    "a route by the gateway": lambda s: routed(IPOption_LSRR, s, gateway(s), DENIED),
    "a strict route by the gateway": lambda s: routed(IPOption_SSRR, s, gateway(s), DENIED),
    "small fragments": tiny_fragments,
    "fragments without the first": last_fragments,
    "fragments that change the port of a known server": overlapping,
    "a group": lambda s: s.udp("224.0.0.251", MDNS),
    "everybody on the link": lambda s: s.udp("255.255.255.255", DNS_PORT),
    "everybody in the pods' network": lambda s: s.udp("10.244.0.255", DNS_PORT),
    "the node": lambda s: s.udp(node(s), 4444),
    "loopback": lambda s: s.udp("127.0.0.1", 10053, payload=s.query),
}  # fmt: skip

WAYS = SERVERS | PACKETS

NOT_CARRIED = {
    "the right server's port 0", "the right server over SCTP", "a SYN to port 0", "a SYN with all flags",
    "a SYN that ends", "no flags", "a SYN-ACK", "a FIN", "a reset", "a reset with data", "a ping's answer",
    "an ICMP error", "an ICMP error to a known server", "an ICMP redirect", "SCTP",
    "IPv4 in IPv4 to the node",
    "IPv4 in IPv4 to the gateway", "IPv4 in GRE to the node", "IPv6 in IPv4 to the node",
    "IPv6 to an IPv4 address in it", "IPv6 to an IPv4 address by NAT64", "a route by the node",
    "a route by a known server", "a route by the gateway", "a strict route by the gateway",
    "fragments without the first", "fragments that change the port of a known server", "a group",
    "everybody on the link", "everybody in the pods' network", "the node", "loopback",
}  # fmt: skip
"""What a network without policy does not carry either, or carries to the node alone."""


def send(sender: Sender, way: Way) -> None:
    packets = way(sender)
    for packet in [packets] if isinstance(packets, Packet) else packets:
        sender.wire.send(packet)


def trace(word: str) -> wire.Wanted:
    """Whatever the packets with that word leave behind: small fragments hold it in pieces."""
    ports, denied = struct.pack("!HH", *REWRITTEN), wire.to_(DENIED, DENIED_V6)
    return lambda packet: wire.holding(word)(packet) or wire.holding(ports)(packet) or denied(packet)


@pytest.fixture(autouse=True)
def known_server(world: World) -> None:
    """The guest knows one server, so that it has something to be confused with."""
    world.learn(EXACT, OPEN)
    world.clear()


@pytest.mark.parametrize("way", WAYS)
def test_no_other_way_leads_out(world: World, way: str) -> None:
    word = world.marker()
    send(Sender(world, world.guest, word), WAYS[way])
    assert world.came_out(trace(word)) == []
    assert not world.server.was_asked(word.encode())


@pytest.mark.parametrize("way", sorted(WAYS.keys() - NOT_CARRIED))
def test_the_same_comes_out_of_a_pod_without_policy(world: World, way: str) -> None:
    word = world.marker()
    send(Sender(world, world.free, word), WAYS[way])
    far = [tap for tap in world.far_ends if tap is not world.free.tap]
    wire.until(lambda: [one for tap in far for one in wire.seen(tap, trace(word))], "it comes out")


# --- frames -----------------------------------------------------------------------------------------------

FRAMES: dict[str, Callable[[Wire, Packet], Packet]] = {
    "with a priority": lambda cable, packet: cable.link / Dot1Q(vlan=0, prio=7) / packet,
    "of another VLAN": lambda cable, packet: cable.link / Dot1Q(vlan=5) / packet,
    "of a VLAN within a VLAN": lambda cable, packet: cable.link / Dot1Q(vlan=5) / Dot1Q(vlan=6) / packet,
    "to everybody": lambda cable, packet: Ether(src=cable.link.src, dst="ff:ff:ff:ff:ff:ff") / packet,
    "to a group": lambda cable, packet: Ether(src=cable.link.src, dst="01:00:5e:00:00:fb") / packet,
    "from another card": lambda cable, packet: Ether(src="02:00:00:00:00:07", dst=cable.link.dst) / packet,
    "from the gateway's card": lambda cable, packet: Ether(src=cable.link.dst, dst=cable.link.dst) / packet,
    "said to be IPv6": lambda cable, packet: (
        Ether(src=cable.link.src, dst=cable.link.dst, type=0x86DD) / packet
    ),
    "said to be ARP": lambda cable, packet: (
        Ether(src=cable.link.src, dst=cable.link.dst, type=0x0806) / packet
    ),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_no_dress_of_a_frame_leads_out(world: World, frame: str) -> None:
    word = world.marker()
    sender = Sender(world, world.guest, word)
    for packet in (sender.tcp(DENIED, HTTPS), sender.question(world.dns_address), sender.question(OTHER_DNS)):
        world.guest.send_frame(FRAMES[frame](world.guest, packet))
    world.assert_never_came_out(word)
    assert not world.server.was_asked(word.encode())


@pytest.mark.parametrize("frame", ["with a priority", "from another card"])
def test_such_frames_come_out_of_a_pod_without_policy(world: World, frame: str) -> None:
    word = world.marker()
    world.free.send_frame(FRAMES[frame](world.free, Sender(world, world.free, word).tcp(DENIED, HTTPS)))
    wire.wait_for(world.internet, wire.holding(word))


# --- false senders ----------------------------------------------------------------------------------------

CLAIMED: dict[str, Callable[[World], str]] = {
    "another pod under policy": lambda world: world.other.address,
    "a pod without policy": lambda world: world.free.address,
    "the DNS server": lambda world: world.dns_address,
    "the DNS Service": lambda world: world.cluster_ip,
    "the node": lambda world: str(world.node.address),
    "the gateway": lambda world: str(world.lab.addressing.nodes[0].pod_gateway),
    "loopback": lambda world: "127.0.0.1",
    "nobody": lambda world: "0.0.0.0",
    "a known server": lambda world: OPEN,
    "its target": lambda world: DENIED,
    "a stranger": lambda world: "192.0.2.77",
}


@pytest.mark.parametrize("claimed", CLAIMED)
def test_no_false_sender_gets_out(world: World, claimed: str) -> None:
    source, word = CLAIMED[claimed](world), world.marker()
    sender = Sender(world, world.guest, word)
    for packet in (
        sender.tcp(DENIED, HTTPS),
        sender.tcp(OPEN, HTTPS),
        sender.udp(DENIED, 4444),
        sender.question(world.dns_address),
        sender.question(world.cluster_ip),
        sender.question(OTHER_DNS),
        sender.tcp(world.dns_address, DNS_PORT),
    ):
        packet[IP].src = source
        world.guest.send(packet)
    world.assert_never_came_out(word)
    assert not world.server.was_asked(word.encode())


def test_a_pod_without_policy_gets_out_under_its_own_name_only(world: World) -> None:
    """The control: the same packets, true and false."""
    true, false = world.marker(), world.marker()
    world.free.send(Sender(world, world.free, true).tcp(DENIED, HTTPS))
    wire.wait_for(world.internet, wire.holding(true))
    packet = Sender(world, world.free, false).tcp(DENIED, HTTPS)
    packet[IP].src = world.guest.address
    world.free.send(packet)
    world.free.fence()
    assert wire.seen(world.internet, wire.holding(false)) == []


# --- without a resolver -----------------------------------------------------------------------------------


def test_without_a_resolver_no_query_goes_straight_to_its_server(world: World) -> None:
    resolver = world.node.resolver
    resolver.hold()
    try:
        word = world.marker()
        sender = Sender(world, world.guest, word)
        allowed = wire.query(f"{word}.pub.example.test", ident=world.id16())
        for target in (world.cluster_ip, world.dns_address):
            world.guest.send(sender.question(target))
            world.guest.send(sender.udp(target, DNS_PORT, payload=allowed))
            world.guest.send(sender.tcp(target, DNS_PORT))
        # Behind them on the same cable: something that does come out.
        sequence = world.guest.syn(OPEN, HTTPS)
        wire.wait_for(world.internet, wire.is_syn(sequence))
        for tap in world.far_ends:
            assert wire.seen(tap, wire.holding(word)) == []
        assert wire.seen(world.guest.tap, wire.holding(word))
    finally:
        resolver.start()
        resolver.wait_ready()
    assert not world.server.was_asked(word.encode())
    assert wire.rcode(world.guest.ask_tcp(world.cluster_ip, sender.query)[0]) == wire.REFUSED
