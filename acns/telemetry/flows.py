"""A flow as a value: a packet or DNS message, who sent it to whom, what became of it, which policy said so.

The vocabulary is Hubble's (Cilium `api/v1/flow/flow.proto`), so that people and tools that read Hubble's
flows can read these; `flow_json` has the shape on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Verdict(StrEnum):
    """What became of it. REDIRECTED, AUDIT, TRACED and TRANSLATED occur in Hubble's own flows only."""

    UNKNOWN = "VERDICT_UNKNOWN"
    FORWARDED = "FORWARDED"
    DROPPED = "DROPPED"
    ERROR = "ERROR"
    AUDIT = "AUDIT"
    REDIRECTED = "REDIRECTED"
    TRACED = "TRACED"
    TRANSLATED = "TRANSLATED"


class DropReason(IntEnum):
    """Why it was dropped, with Cilium's numbers: those that can happen here. POLICY_DENIED is the silence of
    all rules (default deny), POLICY_DENY the word of one that denies."""

    DROP_REASON_UNKNOWN = 0
    INVALID_SOURCE_IP = 132
    POLICY_DENIED = 133
    INVALID_PACKET_DROPPED = 134
    UNSUPPORTED_L3_PROTOCOL = 139
    UNKNOWN_CONNECTION_TRACKING_STATE = 163
    NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION = 165
    SOCKET_LOOKUP_FAILED = 178
    POLICY_DENY = 181
    DROP_RATE_LIMITED = 198
    DROP_EP_NOT_READY = 203


class Direction(StrEnum):
    """Of the connection, seen from the pod whose policy judged."""

    UNKNOWN = "TRAFFIC_DIRECTION_UNKNOWN"
    INGRESS = "INGRESS"
    EGRESS = "EGRESS"


class Event(IntEnum):
    """Where a flow comes from: Cilium's monitor message types (`pkg/monitor/api`)."""

    UNSPECIFIED = 0
    DROP = 1
    TRACE = 4
    POLICY_VERDICT = 5
    L7 = 129


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at an end of a flow: a pod, or something known by its labels alone (`reserved:world`)."""

    address: str
    identity: int = 0
    namespace: str = ""
    pod: str = ""
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """DNS names that were answered with this address."""
    service: str = ""
    """`namespace/name` of the Service that was asked for."""
    endpoint_id: int = 0

    @property
    def key(self) -> str:
        """`namespace/name` of the pod, or ""."""
        return f"{self.namespace}/{self.pod}" if self.pod else ""


class L4Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"
    ICMPV4 = "ICMPv4"
    ICMPV6 = "ICMPv6"


@dataclass(frozen=True, slots=True)
class Layer4:
    """Ports and TCP flags, or an ICMP type and code; 0 where there is none or it is not known."""

    protocol: L4Protocol
    source_port: int = 0
    destination_port: int = 0
    flags: tuple[str, ...] = ()
    type: int = 0
    code: int = 0


@dataclass(frozen=True, slots=True)
class DNSMessage:
    """A DNS query, or the answer to one (`is_answer`)."""

    query: str
    qtypes: tuple[str, ...] = ()
    is_answer: bool = False
    rcode: int = 0
    addresses: tuple[str, ...] = ()
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """A policy that decided. `labels` as Cilium writes them, and where in which file the rule stands."""

    kind: str
    name: str
    namespace: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """`policies` allowed it, or denied it, as the verdict says. `notes` are for people: what is missing."""

    time_ns: int
    node: str
    verdict: Verdict
    source: Peer
    destination: Peer
    direction: Direction = Direction.UNKNOWN
    event: Event = Event.UNSPECIFIED
    reason: DropReason = DropReason.DROP_REASON_UNKNOWN
    is_reply: bool | None = None
    l4: Layer4 | None = None
    dns: DNSMessage | None = None
    policies: tuple[PolicyRef, ...] = ()
    notes: tuple[str, ...] = ()
    interface: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """Flows of which nothing is known but that there were so many, at least: more than could be taken in."""

    time_ns: int
    node: str
    count: int


Record = Flow | Lost
