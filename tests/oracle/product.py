"""The product's answer to the same question: manifests read, resolved, compiled; the ruleset walked, the
policy stream looked up. The only module here that knows the product."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from acns.api import codec
from acns.api.ledger_file import Terms
from acns.datapath import ruleset
from acns.datapath.grants import Grants
from acns.dns.pattern import FQDNSelector
from acns.errors import Problem
from acns.fqdn.table import PolicyTable
from acns.policy import cluster as product_cluster
from acns.policy import manifests, model, resolve
from acns.policy.profiles import Profile
from acns.shim.ledger import Ledger
from acns.shim.snapshot import Snapshots

from . import names, nft_eval
from .cluster import Cluster, Packet
from .nft_eval import State
from .semantics import Verdict

UPLINK = "eth0"
REPLY_TYPES = {8: 0, 13: 14}
PROTOCOL_NUMBERS = {"TCP": 6, "UDP": 17}
NOWHERE, TERMS = Path("/nonexistent/ledger"), Terms(min_ttl_s=0, margin_s=60)  # never saved


class Refused(AssertionError):
    """The product does not take manifests that are valid. `reason`: the first one, without its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.reason = problems[0].message


class Cut(AssertionError):
    """A connection was let in, but its next packets, or the answers, are not."""

    def __init__(self, packet: Packet, text: str) -> None:
        super().__init__(f"{packet}: {text}")
        self.packet = packet


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a packet, and which counter says so."""

    verdict: Verdict
    by: str


def read(cluster: Cluster) -> product_cluster.Cluster:
    """The manifests as the agents get them."""
    parsed = manifests.parse(cluster.text(), "policies.yaml", Profile.CILIUM)
    if errors := [problem for problem in parsed.problems if not problem.warning]:
        raise Refused(errors)
    return product_cluster.Cluster.of(parsed.objects)


def learned(cluster: Cluster, node: model.NodePolicy) -> dict[FQDNSelector, dict[IPv4Address, float]]:
    """What the agents would have learned from the lookups."""
    return {
        selector: {
            IPv4Address(address): 3600.0
            for name, addresses in cluster.learned.items()
            if selector.matches(names.labels_of(name))
            for address in addresses
        }
        for selector in node.fqdn_selectors()
    }


class Product:
    """One node's policy, compiled."""

    def __init__(self, cluster: Cluster, node: str, interfaces: Mapping[str, str] | None = None) -> None:
        """`interfaces`: address → the node's end of the link to it; made up where it is not given."""
        self.node = resolve.resolve(read(cluster), node, model.Enforcement(cluster.enforcement))
        own = [one for one in cluster.kind("Node") if one["metadata"]["name"] == node]
        self._addresses = frozenset(cluster.node_addresses(own[0]))
        links = interfaces or {
            str(each.endpoint.address): f"veth{n}" for n, each in enumerate(self.node.endpoints)
        }
        self._interfaces = {IPv4Address(address): name for address, name in links.items()}
        self.ruleset = ruleset.compile_ruleset(
            self.node, self._interfaces, Grants.fresh(), learned(cluster, self.node), uplinks=[UPLINK]
        )
        self._interpreter = nft_eval.Interpreter(self.ruleset, self._addresses)
        self._table: PolicyTable | None = None

    def judge(self, packets: Sequence[Packet]) -> list[Judgement]:
        """One after the other. Raises Cut."""
        return [self._judge(packet) for packet in packets]

    def _judge(self, packet: Packet) -> Judgement:
        """The first packet of a connection; where it passes, the next one and the answer have to, too."""
        first = self._first(packet)
        outcome = self._interpreter.walk(first, packet.backend)
        if outcome.verdict == "proxy":
            return Judgement(Verdict.PROXY, outcome.by)
        if outcome.verdict == "drop":
            return Judgement(Verdict.DENY, outcome.by)
        for later, translated in self._later(packet, first, outcome.state):
            again = self._interpreter.walk(later, translated)
            if again.verdict != "accept":
                raise Cut(packet, f"let in by {outcome.by}, then {later} met {again}")
        return Judgement(Verdict.ALLOW, outcome.by)

    def name_allowed(self, packet: Packet) -> bool:
        """What the resolver says to the query, by the policy stream."""
        if self._table is None:
            snapshots = Snapshots(Ledger(NOWHERE, TERMS))
            snapshots.prepare(self.node)
            self._table = codec.policy_table(snapshots.state())
        endpoint = self._table.endpoint_of(socket.inet_aton(packet.source))
        assert endpoint is not None, f"the policy stream does not know {packet.source}"
        return self._table.allowed(
            endpoint,
            socket.inet_aton(packet.destination),
            packet.port,
            PROTOCOL_NUMBERS[packet.protocol],
            names.labels_of(packet.name),
        )

    def _interface(self, address: str) -> str:
        return self._interfaces.get(IPv4Address(address), UPLINK)

    def _first(self, packet: Packet) -> State:
        own = packet.source in self._addresses
        return State(
            iif="lo" if own else self._interface(packet.source),
            oif=self._interface(packet.target[0]),
            source=packet.source,
            destination=packet.destination,
            protocol=packet.protocol,
            sport=40000,
            dport=packet.port,
        )

    def _later(
        self, packet: Packet, first: State, after: State
    ) -> Iterator[tuple[State, tuple[str, int] | None]]:
        """The connection's next packet, and its answer (whose source is translated back only behind us)."""
        more = replace(first, ct_state="established", ct_mark=after.ct_mark, tcp_flags="ack")
        yield more, packet.backend
        address, port = packet.target
        answer = replace(
            more,
            iif="lo" if address in self._addresses else self._interface(address),
            oif=self._interface(packet.source),
            source=address,
            destination=packet.source,
            sport=port,
            dport=REPLY_TYPES[port] if packet.protocol == "ICMP" else first.sport,
            ct_direction="reply",
        )
        yield answer, None
