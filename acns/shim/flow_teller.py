"""From what the kernel reports (a logged packet, a new connection) to flows: who, what, and which policy.

What a drop means follows from the id in its prefix: a closing chain's (no rule allowed it), a rule's (it
denies), or that of one of the ruleset's own counters. Where it was logged tells whose it is: in prerouting
it came from a pod, later it was on its way to one.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from acns.datapath import base, constants, nflog
from acns.datapath import headers as packets
from acns.datapath.ctevents import Opened
from acns.datapath.headers import Headers
from acns.datapath.nflog import Logged
from acns.datapath.rules import Way
from acns.policy.model import Direction, EndpointPolicy
from acns.shim.flow_names import FlowNames
from acns.shim.flow_scene import Scene
from acns.telemetry import flows
from acns.telemetry.flows import DropReason, Event, Flow, L4Protocol, Layer4, Peer, PolicyRef, Verdict

MAX_POLICIES: Final = 8
"""As many are named in one flow: a line stays a line, however many policies select a pod."""

_WAYS: Final = {way.value: way for way in Way}
_COUNTERS: Final = {
    "spoofed": DropReason.INVALID_SOURCE_IP,
    "unplaced": DropReason.DROP_EP_NOT_READY,
    "unknown": DropReason.DROP_EP_NOT_READY,
    "ipv6": DropReason.UNSUPPORTED_L3_PROTOCOL,
    "unjudged": DropReason.NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION,
    "unproxied": DropReason.SOCKET_LOOKUP_FAILED,
    "flooded": DropReason.DROP_RATE_LIMITED,
    "resolver_port": DropReason.POLICY_DENY,
    "loopback": DropReason.POLICY_DENY,
    "midstream": DropReason.UNKNOWN_CONNECTION_TRACKING_STATE,
    "invalid": DropReason.UNKNOWN_CONNECTION_TRACKING_STATE,
}

_PROTOCOLS: Final = {
    packets.TCP: L4Protocol.TCP,
    packets.UDP: L4Protocol.UDP,
    packets.SCTP: L4Protocol.SCTP,
    packets.ICMP: L4Protocol.ICMPV4,
    packets.ICMPV6: L4Protocol.ICMPV6,
}
_FLAGS: Final = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS")
_FLAGS_AS_SAID: Final = ("SYN", "ACK", "RST", "FIN", "PSH", "URG", "ECE", "CWR", "NS")  # Cilium's order


class Teller:
    """Tells flows of one node, as of one commit. For one thread."""

    def __init__(self, node: str, scene: Scene, names: FlowNames) -> None:
        self.node = node
        self.scene = scene
        self.names = names

    def dropped(self, logged: Logged, now_ns: int) -> Flow | None:
        """The flow of a packet that the ruleset dropped; None when somebody else's rule logged it."""
        if not logged.prefix.startswith(constants.LOG_PREFIX):
            return None
        rule_id = logged.prefix.removeprefix(constants.LOG_PREFIX).strip()
        leaving = logged.hook == nflog.PREROUTING
        interface = _interface(logged.in_interface if leaving else logged.out_interface)
        way = _way(rule_id)
        direction = self._judging(rule_id, way, leaving)
        policy = self._judged_endpoint(logged.headers, leaving, interface)
        reason, policies, notes = self._why(rule_id, way, policy, direction)
        source, destination = self._peers(logged.headers)
        if leaving and policy is not None:
            source = replace(self.scene.peer(policy.endpoint.address), address=source.address)
        l4 = _layer4(logged.headers)
        return Flow(
            time_ns=now_ns if logged.time_ns is None else logged.time_ns,
            node=self.node,
            verdict=Verdict.DROPPED,
            source=source,
            destination=destination,
            direction=flows.Direction(direction.name),
            event=Event.DROP,
            reason=reason,
            is_reply=way.is_reply if way else None,
            l4=l4,
            policies=policies[:MAX_POLICIES],
            notes=notes,
            interface=interface,
            summary=_summary(logged.headers, l4),
        )

    def opened(self, opened: Opened, now_ns: int) -> list[Flow]:
        """The flows of a new connection: its opener's side where that is a pod of this node, and its
        target's, unless the opener's says all there is to say."""
        sender = self.scene.local(opened.headers.source)
        receiver = self.scene.local(opened.headers.destination)
        found = []
        if sender is not None:
            found.append(self._forwarded(opened, sender, Direction.EGRESS, opened.egress_grant, now_ns))
        if receiver is None or receiver is sender:
            return found
        if sender is None or opened.ingress_grant:
            found.append(self._forwarded(opened, receiver, Direction.INGRESS, opened.ingress_grant, now_ns))
        return found

    def _forwarded(
        self, opened: Opened, policy: EndpointPolicy, direction: Direction, grant: int, now_ns: int
    ) -> Flow:
        source, destination = self._peers(opened.headers)
        if opened.asked != opened.headers.destination:
            destination = replace(destination, service=self.scene.peer(opened.asked).service)
        rule_id = self.scene.rule_of(grant, direction) if grant else ""
        policies = self.scene.deciding(rule_id, policy, direction) if rule_id else ()
        l4 = _layer4(opened.headers)
        return Flow(
            time_ns=now_ns,
            node=self.node,
            verdict=Verdict.FORWARDED,
            source=source,
            destination=destination,
            direction=flows.Direction(direction.name),
            event=Event.POLICY_VERDICT if grant else Event.TRACE,
            is_reply=False,
            l4=l4,
            policies=policies[:MAX_POLICIES],
            summary=_summary(opened.headers, l4),
        )

    def _judged_endpoint(self, headers: Headers, leaving: bool, interface: str) -> EndpointPolicy | None:
        """The endpoint whose packet it is: a false source does not hide the sender."""
        if not leaving:
            return self.scene.local(headers.destination)
        sender = self.scene.local(headers.source)
        if sender is not None and self.scene.interfaces.get(sender.endpoint.address) == interface:
            return sender
        return self.scene.at_interface(interface) or sender

    def _judging(self, rule_id: str, way: Way | None, leaving: bool) -> Direction:
        """The direction of the policy that judged."""
        described = self.scene.descriptions.get(rule_id)
        if way is not None:
            return way.direction
        if described is not None and described.direction is not None:
            return described.direction
        return Direction.EGRESS if leaving else Direction.INGRESS

    def _why(
        self, rule_id: str, way: Way | None, policy: EndpointPolicy | None, direction: Direction
    ) -> tuple[DropReason, tuple[PolicyRef, ...], tuple[str, ...]]:
        """Reason, policies, and what else there is to say."""
        if reason := _COUNTERS.get(rule_id):
            return reason, (), (base.COUNTERS[rule_id],)
        if way is None:
            known = rule_id in self.scene.descriptions
            policies = self.scene.deciding(rule_id, policy, direction) if policy else ()
            return DropReason.POLICY_DENY, policies, () if known else (f"rule {rule_id} is gone since",)
        if policy is None:
            return DropReason.POLICY_DENIED, (), ("the pod is gone since",)
        policies = self.scene.default_denying(policy, direction)
        if policies:
            return DropReason.POLICY_DENIED, policies, ()
        return DropReason.POLICY_DENIED, (), ("every pod is enforced, and no rule allows this",)

    def _peers(self, headers: Headers) -> tuple[Peer, Peer]:
        return self._peer(headers.source), self._peer(headers.destination)

    def _peer(self, address: IPv4Address | IPv6Address) -> Peer:
        peer = self.scene.peer(address)
        if peer.pod or not isinstance(address, IPv4Address):
            return peer
        return replace(peer, names=self.names.of(address))


def _way(rule_id: str) -> Way | None:
    """The way of packets that a closing chain judged, by its name."""
    prefix, _, digest = rule_id.partition("_")
    return _WAYS.get(prefix) if digest else None


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:  # gone since
        return ""


def _layer4(headers: Headers) -> Layer4 | None:
    protocol = _PROTOCOLS.get(headers.protocol)
    if protocol is None:
        return None
    return Layer4(
        protocol,
        source_port=headers.source_port or 0,
        destination_port=headers.destination_port or 0,
        flags=tuple(_FLAGS[bit] for bit in range(len(_FLAGS)) if (headers.tcp_flags or 0) >> bit & 1),
        type=headers.icmp_type or 0,
        code=headers.icmp_code or 0,
    )


def _summary(headers: Headers, l4: Layer4 | None) -> str:
    """As Cilium says it."""
    if l4 is None:
        return f"IP protocol {headers.protocol}"
    if l4.protocol is L4Protocol.TCP and l4.flags:
        return f"TCP Flags: {', '.join(flag for flag in _FLAGS_AS_SAID if flag in l4.flags)}"
    if l4.protocol in (L4Protocol.ICMPV4, L4Protocol.ICMPV6):
        return f"{l4.protocol} type {l4.type} code {l4.code}"
    return l4.protocol.value
