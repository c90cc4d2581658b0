"""Packets for the tests: made and read with scapy, sent and recorded inside a pod's namespace.

A `Wire` is one pod's cable in the hands of a test: it sends frames of scapy's making and has a tap on all
that passes. A `Stage` is the cables of the three clients of `quickstart` with taps at the cluster's DNS pod
and at the Internet, so that each verdict is read on both sides of the node. That a packet does *not* arrive
is read behind a `fence`: a round trip of the same pod's, sent after the packet.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, ip_address
from typing import Any, TypeVar

from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from lab.capture.tap import Frame, Tap
from lab.runtime.handles import Inside
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from ...waiting import until as until

T = TypeVar("T")

DEADLINE_S = 15.0
DNS_PORT = 53
QUESTION = 12
"""Where the question begins in a DNS message."""
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5

_SIOCGIFHWADDR = 0x8927
_FRESH = int(IPv4Address("198.18.0.0")), 1 << 17
"""RFC 2544's benchmarking range: on the lab's Internet only where a test puts it."""


@contextmanager
def tapped(place: Inside, interface: str = "eth0") -> Iterator[Tap]:
    """A tap on `interface` of a pod, a node or the Internet."""
    namespace = place.netns_fd()
    try:
        tap = Tap(namespace, interface)
    finally:
        os.close(namespace)
    with tap:
        yield tap


@lru_cache(4096)
def dissect(frame: Frame) -> Packet:
    """A recorded frame as scapy sees it: for reading, since whoever asks again gets the same one."""
    return Ether(frame.data)


# --- randomness -------------------------------------------------------------------------------------------


def seeded() -> random.Random:
    """Randomness for one test. pytest shows the seed when the test fails; ACNS_TEST_SEED repeats it."""
    seed = int(os.environ.get("ACNS_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"ACNS_TEST_SEED={seed}")
    return random.Random(seed)


def fresh_label(rng: random.Random) -> str:
    """A label that occurs nowhere else: wherever its bytes are seen, it is this one's packet."""
    return f"x{rng.getrandbits(48):012x}"


def fresh_address(rng: random.Random) -> str:
    """An address of which nobody has heard."""
    first, count = _FRESH
    return str(IPv4Address(first + rng.randrange(1, count)))


def mixed_case(name: str, rng: random.Random) -> str:
    """The name in 0x20 spelling, neither all small nor all capital."""
    while True:
        mixed = "".join(rng.choice((letter.lower(), letter.upper())) for letter in name)
        if mixed not in (name.lower(), name.upper()):
            return mixed


# --- DNS messages -----------------------------------------------------------------------------------------


def query(name: str | list[bytes], qtype: int | str = "A", *, ident: int) -> bytes:
    """A DNS query; a list of labels goes on the wire as it is, dots and all."""
    if isinstance(name, str):
        return bytes(DNS(id=ident, rd=1, qd=DNSQR(qname=name, qtype=qtype)))
    nameless = bytes(DNS(id=ident, rd=1, qd=DNSQR(qname=".", qtype=qtype)))
    return nameless[:QUESTION] + labels_wire(name) + nameless[QUESTION + 1 :]


def labels_wire(labels: list[bytes]) -> bytes:
    """A name on the wire."""
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def question_of(message: bytes) -> bytes:
    """The bytes of the (only) question of a query of ours."""
    return message[QUESTION:]


def rcode(message: bytes) -> int:
    return message[3] & 0xF


def ident(message: bytes) -> int:
    return int.from_bytes(message[:2])


def addresses(message: bytes) -> list[str]:
    """The addresses in the answer section, IPv4 and IPv6, in order."""
    parsed = DNS(message)
    return [str(record.rdata) for record in parsed.an or () if record.type in (1, 28)]


def framed(message: bytes) -> bytes:
    """As it goes over TCP."""
    return struct.pack("!H", len(message)) + message


def read_framed(connection: socket.socket) -> bytes:
    """The next message of a TCP connection."""
    return _exactly(connection, struct.unpack("!H", _exactly(connection, 2))[0])


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        assert part, f"the connection ended after {len(received)} of {size} octets"
        received += part
    return received


# --- reading taps -----------------------------------------------------------------------------------------

Wanted = Callable[[Packet], bool]


def seen(tap: Tap, wanted: Wanted) -> list[Packet]:
    """The packets on a tap so far that are `wanted`, oldest first; the tap must have missed none."""
    found = [packet for packet in map(dissect, tap.frames()) if wanted(packet)]
    assert tap.dropped == tap.overwritten == 0, f"the tap on {tap.interface} lost frames"
    return found


def wait_for(tap: Tap, wanted: Wanted, timeout_s: float = DEADLINE_S, *, after_ns: int = 0) -> Packet:
    """The first packet on a tap, after that time, that is `wanted`; else TapTimeout, a failed assertion."""
    return dissect(tap.wait_for(lambda frame: frame.time_ns > after_ns and wanted(dissect(frame)), timeout_s))


def from_(address: str) -> Wanted:
    """Packets whose source is this address."""
    layer = _network(address)
    return lambda packet: layer in packet and packet[layer].src == address


def to_(*addresses: str) -> Wanted:
    """Packets whose destination is one of these addresses."""
    layers = {address: _network(address) for address in addresses}
    return lambda packet: any(
        layer in packet and packet[layer].dst == address for address, layer in layers.items()
    )


def _network(address: str) -> Any:
    """scapy's layer for addresses of this kind."""
    return IP if ip_address(address).version == 4 else IPv6


def holding(needle: str | bytes) -> Wanted:
    """Packets in whose bytes this stands, in whatever case: a label is one run of bytes in a DNS message."""
    lowered = (needle.encode() if isinstance(needle, str) else needle).lower()
    return lambda packet: lowered in packet.original.lower()


def is_syn(sequence: int) -> Wanted:
    """The SYN with this sequence number, which no translation changes."""
    return lambda packet: TCP in packet and packet[TCP].flags == "S" and packet[TCP].seq == sequence


def is_answer_to_syn(sequence: int) -> Wanted:
    """Whatever a server (or somebody in its name) says to that SYN."""
    return lambda packet: TCP in packet and packet[TCP].ack == (sequence + 1) & 0xFFFF_FFFF


def is_udp_to(port: int) -> Wanted:
    return lambda packet: UDP in packet and packet[UDP].dport == port


def is_tcp_to(port: int) -> Wanted:
    return lambda packet: TCP in packet and packet[TCP].dport == port


def both(one: Wanted, other: Wanted) -> Wanted:
    return lambda packet: one(packet) and other(packet)


def payload(packet: Packet) -> bytes:
    """What a UDP or TCP packet carries, as the bytes were on the wire."""
    if UDP in packet:
        return bytes(packet[UDP].original[8 : packet[UDP].len])
    header, length = packet[TCP].dataofs * 4, packet[IP].len - packet[IP].ihl * 4
    return bytes(packet[TCP].original[header:length])


# --- cables -----------------------------------------------------------------------------------------------


class Wire:
    """One pod's cable: frames of scapy's making go out on it, and its tap shows all that passes."""

    def __init__(self, lab: Lab, pod: str, rng: random.Random) -> None:
        self.pod = lab.pod(pod)
        self.rng = rng
        self.address, self.address_v6 = str(self.pod.address), str(self.pod.address_v6)
        self.cluster_dns = str(lab.topology.services[0].cluster_ip)
        self._closing = ExitStack()
        self.tap = self._closing.enter_context(tapped(self.pod, self.pod.iface))
        self._lab = lab

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def send(self, packet: Packet) -> None:
        """Put an IP packet on the cable, to the gateway, whatever its addresses say."""
        self.send_frame(self.link / packet)

    def send_frame(self, frame: Packet) -> None:
        self._card.send(bytes(frame))

    @cached_property
    def _card(self) -> socket.socket:
        # Made when it is needed: a packet socket takes 20 ms to close.
        card = self._closing.enter_context(self.pod.open_socket(socket.AF_PACKET, socket.SOCK_RAW))
        card.bind((self.pod.iface, 0))
        return card

    @cached_property
    def link(self) -> Packet:
        """An empty frame to the gateway."""
        gateway = _hardware_address(self._lab.node(self.pod.node), self.pod.node_iface)
        return Ether(src=_hardware_address(self.pod, self.pod.iface), dst=gateway)

    def udp_port(self, port: int = 0) -> int:
        """A port (a free one at random) on which the pod's kernel will not turn answers away."""
        held = self._closing.enter_context(self.pod.open_socket(socket.AF_INET, socket.SOCK_DGRAM))
        held.bind((self.address, port))
        return int(held.getsockname()[1])

    def udp(
        self, server: str, message: bytes, *, sport: int = 0, dport: int = DNS_PORT, ttl: int = 64
    ) -> int:
        """Send one datagram; the port it came from."""
        sport = sport or self.udp_port()
        self.send(IP(src=self.address, dst=server, ttl=ttl) / UDP(sport=sport, dport=dport) / Raw(message))
        return sport

    def answer(self, port: int, timeout_s: float = DEADLINE_S, *, after_ns: int = 0) -> Packet:
        """The first datagram to a port of this pod, after that time."""
        return wait_for(self.tap, both(to_(self.address), is_udp_to(port)), timeout_s, after_ns=after_ns)

    def answers(self, port: int) -> list[Packet]:
        """All datagrams to a port of this pod so far."""
        return seen(self.tap, both(to_(self.address), is_udp_to(port)))

    def ask(self, server: str, message: bytes, *, sport: int = 0) -> bytes:
        """A DNS message over UDP, and the next that comes back to its port."""
        before_ns = max((frame.time_ns for frame in self.tap.frames()), default=0)
        return payload(self.answer(self.udp(server, message, sport=sport), after_ns=before_ns))

    def syn(self, server: str, port: int, *, source: str = "") -> int:
        """Send a SYN from a random port; its sequence number, by which it is known at every tap."""
        sequence = self.rng.getrandbits(32)
        network = _network(server)
        source = source or (self.address if network is IP else self.address_v6)
        sport = self.rng.randrange(20_000, 60_000)
        self.send(network(src=source, dst=server) / TCP(sport=sport, dport=port, flags="S", seq=sequence))
        return sequence

    def connect(self, server: str, port: int = DNS_PORT, *, ttl: int = 64) -> socket.socket:
        """A TCP connection of the pod's own kernel; closed with this cable at the latest."""
        made = self._closing.enter_context(self.pod.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        made.settimeout(DEADLINE_S)
        made.setsockopt(socket.SOL_IP, socket.IP_TTL, ttl)
        made.connect((server, port))
        return made

    def ask_tcp(self, server: str, *messages: bytes) -> list[bytes]:
        """DNS messages over one TCP connection, one after another, and what comes back."""
        with self.connect(server) as connection:
            answers = []
            for message in messages:
                connection.sendall(framed(message))
                answers.append(read_framed(connection))
            return answers

    def ask_over(self, transport: str, server: str, message: bytes) -> bytes:
        """One DNS message over `udp` or `tcp`, and what comes back."""
        return self.ask_tcp(server, message)[0] if transport == "tcp" else self.ask(server, message)

    def fence(self) -> None:
        """Returns when the node is done with all that was sent before: a later query has been answered.

        Whoever answers it does: the resolver refuses the name, the cluster's DNS server knows none such.
        """
        nowhere = query(f"{fresh_label(self.rng)}.cluster.local", ident=self.rng.getrandbits(16))
        assert rcode(self.ask(self.cluster_dns, nowhere)) in (REFUSED, NXDOMAIN)


def _hardware_address(place: Inside, interface: str) -> str:
    with place.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        found = fcntl.ioctl(probe, _SIOCGIFHWADDR, struct.pack("256s", interface.encode()))
    return found[18:24].hex(":")


@dataclass(frozen=True, slots=True)
class Stage:
    """The three clients of a lab like `quickstart`, and both sides of its node."""

    lab: Lab
    rng: random.Random
    frontend: Wire
    batch: Wire
    legacy: Wire
    dns_pod: Tap
    internet: Tap

    @property
    def cluster_ip(self) -> str:
        """The address of the DNS Service."""
        return self.frontend.cluster_dns

    @property
    def dns_address(self) -> str:
        """The address of the pod behind it."""
        return str(self.lab.pod("kube-dns").address)

    @property
    def node_addresses(self) -> set[str]:
        """All addresses of the first node: as a host, and as its pods' gateway."""
        plan = self.lab.addressing.nodes[0]
        return {str(plan.address), str(plan.pod_gateway)}

    def id16(self) -> int:
        """A DNS message ID."""
        return self.rng.getrandbits(16)


@contextmanager
def stage(lab: Lab) -> Iterator[Stage]:
    """A stage with fresh taps."""
    rng = seeded()
    with ExitStack() as stack:
        frontend, batch, legacy = (
            stack.enter_context(Wire(lab, pod, rng)) for pod in ("frontend", "batch", "legacy")
        )
        dns_pod, internet = (
            stack.enter_context(tapped(place)) for place in (lab.pod("kube-dns"), lab.internet)
        )
        yield Stage(lab, rng, frontend, batch, legacy, dns_pod, internet)


@contextmanager
def more_names(lab: Lab, names: Mapping[str, InternetName]) -> Iterator[None]:
    """The Internet's DNS knows these names too, for as long as the block lasts."""
    shipped = lab.topology.internet.names
    lab.set_names({**shipped, **names})
    try:
        yield
    finally:
        lab.set_names(shipped)
