"""What a set of policies means for one packet: a second, independent reading of Cilium's documentation.

Written to be obviously right, not fast: it walks the manifests for every packet, holds no groups, no
identities, no order. It knows what Cilium's documentation and source say and what this project decided where
those are silent (see the comments); it does not know how the product works.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from . import labels, names
from .cluster import Cluster, Manifest, Packet
from .peers import Peers
from .policies import Block, Rule, Spec, specs_of


class Verdict(Enum):
    ALLOW = "allow"
    DENY = "deny"
    PROXY = "proxy"  # a DNS query that goes to the resolver, whatever becomes of it there


class Oracle:
    """One node's view of a cluster."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self.cluster = cluster
        self.peers = Peers(cluster, node)
        self.specs = [spec for policy in cluster.policies() for spec in specs_of(policy)]
        self.local: dict[str, list[Manifest]] = {}
        for pod in cluster.endpoints():
            if pod["spec"].get("nodeName") == node:
                self.local.setdefault(pod["status"]["podIP"], []).append(pod)

    # --- packets --------------------------------------------------------------------------------------

    def judge(self, packet: Packet) -> Verdict:
        """What this node does with a packet that passes it."""
        address, port = packet.target
        if packet.source in self.peers.host:  # allow-localhost, an allow like others: a deny beats it
            return self._from_own_node(packet, address, port)
        if packet.source in self.local:
            if address == packet.source:  # a pod always reaches itself, by hairpin too
                return Verdict.ALLOW
            egress = self._direction("egress", packet.source, address, packet.protocol, port)
            if egress is not Verdict.ALLOW:
                return egress
        if address in self.local:
            return self._direction("ingress", address, packet.source, packet.protocol, port)
        return Verdict.ALLOW

    def name_allowed(self, packet: Packet, *, by_names: bool = True) -> bool:
        """Whether the name that a proxied query asks for may be looked up there.

        Cilium keeps the names per port and peer selector: a rule for the same port without `rules.dns` opens
        every name there, a wider one (a range, port 0, no ports) is another entry and opens none
        (cilium/cilium#10054). Where no policy denies by default, every name is open (#38841). `by_names`:
        rules with `toFQDNs` count.
        """
        address, port = packet.target
        specs = self._selecting(packet.source, "egress")
        if not self._denies_by_default(specs, "egress"):
            return True
        remote, asked = self.peers.remote(address), names.labels_of(packet.name)
        return any(
            block.dns is None or any(names.selects(one, asked) for one in block.dns)
            for rule in self._rules(specs, "egress")
            if self.peers.matches(rule, remote) and (by_names or not rule.is_for_names)
            for block in rule.blocks
            if _block_matches(block.for_one_port(), packet.protocol, port, remote.pods)
        )

    # --- one direction of one endpoint ----------------------------------------------------------------

    def _direction(self, direction: str, mine: str, other: str, protocol: str, port: int) -> Verdict:
        if self.cluster.enforcement == "never":
            return Verdict.ALLOW
        owners = self.local[mine]
        if len(owners) > 1:  # two live pods with one address on one node: nobody knows who sends
            return Verdict.DENY
        specs = self._selecting(mine, direction)
        if not specs and self.cluster.enforcement != "always":
            return Verdict.ALLOW
        if self._matching(f"{direction}Deny", direction, mine, other, protocol, port):
            return Verdict.DENY
        allows = self._matching(direction, direction, mine, other, protocol, port)
        if any(block.dns is not None for block in allows):
            return Verdict.PROXY
        if allows or not self._denies_by_default(specs, direction):
            return Verdict.ALLOW
        return Verdict.DENY

    def _from_own_node(self, packet: Packet, address: str, port: int) -> Verdict:
        owners = self.local.get(address, [])
        if len(owners) != 1 or self.cluster.enforcement == "never":
            return Verdict.ALLOW
        told = self._matching("ingressDeny", "ingress", address, packet.source, packet.protocol, port)
        return Verdict.DENY if told else Verdict.ALLOW

    def _matching(
        self, section: str, direction: str, mine: str, other: str, protocol: str, port: int
    ) -> list[Block]:
        """What the section says of such a packet."""
        remote = self.peers.remote(other)
        # A named port is one of the containers that receive.
        receivers = tuple(self.local[mine]) if direction == "ingress" else remote.pods
        return [
            block
            for rule in self._rules(self._selecting(mine, direction), section)
            if self.peers.matches(rule, remote)
            for block in rule.blocks
            if _block_matches(block, protocol, port, receivers)
        ]

    def _selecting(self, mine: str, direction: str) -> list[Spec]:
        """The specs with a section in this direction that select the endpoint."""
        own = self.peers.labels_of(self.local[mine][0])
        return [spec for spec in self.specs if spec.has(direction) and labels.matches(spec.subject, own)]

    def _denies_by_default(self, specs: list[Spec], direction: str) -> bool:
        return self.cluster.enforcement == "always" or any(spec.default_deny[direction] for spec in specs)

    def _rules(self, specs: list[Spec], section: str) -> Iterator[Rule]:
        for spec in specs:
            yield from spec.sections.get(section, [])


# --- L4 -----------------------------------------------------------------------------------------------


def _block_matches(block: Block, protocol: str, port: int, receivers: tuple[Manifest, ...]) -> bool:
    if block.ports is None:  # no L4 part: everything, whatever its protocol
        return True
    if block.dns is not None and protocol not in ("TCP", "UDP"):  # the proxy speaks these two
        return False
    return any(_port_matches(entry, protocol, port, receivers) for entry in block.ports)


def _port_matches(entry: dict[str, Any], protocol: str, port: int, receivers: tuple[Manifest, ...]) -> bool:
    if "icmp" in entry:
        return protocol == "ICMP" and entry["icmp"] == port
    wanted = entry.get("protocol", "ANY")
    if protocol not in (("TCP", "UDP", "SCTP") if wanted == "ANY" else (wanted,)):
        return False
    text = str(entry["port"])
    if not text.isdigit():
        return bool(receivers) and all(_has_port(pod, text.lower(), protocol, port) for pod in receivers)
    first, last = int(text), entry.get("endPort") or 0
    return first == last == 0 or first <= port <= max(first, last)


def _has_port(pod: Manifest, name: str, protocol: str, number: int) -> bool:
    return any(
        port.get("name") == name
        and port.get("protocol", "TCP") == protocol
        and port["containerPort"] == number
        for container in pod["spec"].get("containers", [])
        for port in container.get("ports", [])
    )
