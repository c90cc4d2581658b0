"""What the product *says* of a packet (explaining, matrices), beside what its ruleset does."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from acns.policy import model, resolve, verdict

from . import names
from .cluster import Cluster, Packet
from .product import PROTOCOL_NUMBERS, Judgement, learned, read
from .semantics import Verdict


class Explained:
    """One node's policies, asked instead of enforced."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._node = resolve.resolve(read(cluster), node, model.Enforcement(cluster.enforcement))
        self._policies = {str(each.endpoint.address): each for each in self._node.endpoints}
        self._learned = learned(cluster, self._node)

    def judge(self, packets: Sequence[Packet]) -> list[Judgement]:
        return [self._judge(packet) for packet in packets]

    def name_allowed(self, packet: Packet) -> bool | None:
        policy = self._policies[packet.source]
        server, protocol = IPv4Address(packet.destination), PROTOCOL_NUMBERS[packet.protocol]
        name = names.labels_of(packet.name)
        said = verdict.name_verdict(policy, self._node, server, protocol, packet.port, name)
        return said.allow is not None

    def _judge(self, packet: Packet) -> Judgement:
        address = packet.target[0]
        if sender := self._policies.get(packet.source):
            if self._is_redirected(sender, packet):
                return Judgement(Verdict.PROXY, "a rules.dns block")
            egress = verdict.egress_verdict(
                sender, self._node, IPv4Address(address), _traffic(packet), self._learned
            )
            if not egress.allowed:
                return Judgement(Verdict.DENY, f"egress {egress}")
        if receiver := self._policies.get(address):
            source = IPv4Address(packet.source)
            ingress = verdict.ingress_verdict(receiver, self._node, source, _traffic(packet))
            if not ingress.allowed:
                return Judgement(Verdict.DENY, f"ingress {ingress}")
        return Judgement(Verdict.ALLOW, "explaining")

    def _is_redirected(self, sender: model.EndpointPolicy, packet: Packet) -> bool:
        protocol = PROTOCOL_NUMBERS.get(packet.protocol)
        if protocol is None:
            return False
        server = IPv4Address(packet.destination)
        return bool(verdict.redirects(sender, self._node, server, protocol, packet.port))


def _traffic(packet: Packet) -> model.Traffic:
    port = packet.target[1]
    match packet.protocol:
        case "ICMP":
            return model.ICMP(port)
        case "TCP" | "UDP" | "SCTP":
            return model.Ports(model.Protocol(packet.protocol), port, port)
    return None
