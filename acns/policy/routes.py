"""A connection's way: from a pod, by the address it uses, to who gets it; and what becomes of packets on it.

Both ends count. The sender's egress policy judges what the Service translation has made of a packet, then the
receiver's ingress policy on its own node, if it is a pod. Before translation `rules.dns` may take the packet
to the resolver, and then the pod connects to nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from acns.policy import verdict
from acns.policy.learnings import Learnings
from acns.policy.model import DNSAllow, Ports, Protocol
from acns.policy.overview import Local
from acns.policy.services import Front
from acns.policy.traffic import Packet
from acns.policy.verdict import Verdict

PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}


class Outcome(StrEnum):
    """What becomes of it all."""

    ALLOWED = "allowed"
    DENIED = "denied"
    REDIRECTED = "redirected"  # to the resolver, which judges the names that are asked for
    PARTLY = "partly"  # some of the traffic is allowed


@dataclass(frozen=True, slots=True)
class Route:
    """`front`: the Service's port that is asked for, where there is one; `reached` is then its backend, or
    the ClusterIP where nobody is behind the port.

    `receiver`: the pod there, None for all who are not restricted: nodes, and the world outside.
    """

    sender: Local
    asked: IPv4Address
    reached: IPv4Address
    receiver: Local | None = None
    front: Front | None = None
    backend_port: int = 0

    @property
    def is_dead(self) -> bool:
        """Whether it ends where Services are translated: nobody is behind the port."""
        return self.front is not None and not self.front.backends

    @property
    def front_packet(self) -> Ports | None:
        """What the pod sends to a Service's port."""
        if self.front is None:
            return None
        return Ports(PROTOCOLS[self.front.protocol], self.front.port, self.front.port)

    def translated(self, packet: Packet) -> Packet:
        """The packet as policy judges it."""
        if self.front is None or not isinstance(packet, Ports):
            return packet
        return Ports(packet.protocol, self.backend_port, self.backend_port)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of one packet. `redirects`: the blocks that take it to the resolver; nothing else is asked
    then, but for the rules that open every name there (`opens`). `ingress` None: nobody judges there."""

    egress: Verdict
    ingress: Verdict | None = None
    redirects: tuple[DNSAllow, ...] = ()
    opens: tuple[DNSAllow, ...] = ()

    @property
    def outcome(self) -> Outcome:
        if self.redirects:
            return Outcome.REDIRECTED
        allowed = self.egress.allowed and (self.ingress is None or self.ingress.allowed)
        return Outcome.ALLOWED if allowed else Outcome.DENIED


def judge(route: Route, packet: Packet, learned: Learnings) -> Judgement:
    """`packet`: as the pod sends it. `learned`: what is known on its node."""
    sender = route.sender
    redirects, opens = _queries(route, packet)
    arriving = route.translated(packet)
    egress = verdict.egress_verdict(sender.policy, sender.node, route.reached, arriving, learned.open)
    ingress = None
    if route.receiver is not None:
        receiver = route.receiver
        ingress = verdict.ingress_verdict(receiver.policy, receiver.node, sender.address, arriving)
    return Judgement(egress, ingress, redirects, opens)


def _queries(route: Route, packet: Packet) -> tuple[tuple[DNSAllow, ...], tuple[DNSAllow, ...]]:
    if not isinstance(packet, Ports) or packet.protocol not in (Protocol.TCP, Protocol.UDP):
        return (), ()
    sender, (number, *_) = route.sender, packet.protocol.numbers()
    asked = sender.policy, sender.node, route.asked, number, packet.first
    redirects = verdict.redirects(*asked)
    return redirects, verdict.opens(*asked) if redirects else ()
