"""What a running lab looks like from outside: plain values that the runtime fills and the report prints."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

Health = Literal["ready", "starting", "not ready", "stopped"]


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One daemon on one node (`shim`, `resolver`). `detail` says why it is not ready; `external` is the
    program that runs in its place, empty for ours; `restarts`: how often it was started again after it had
    ended by itself."""

    name: str
    health: Health
    pid: int | None = None
    detail: str = ""
    external: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    name: str
    address: IPv4Address
    agents: tuple[AgentStatus, ...]


@dataclass(frozen=True, slots=True)
class PodStatus:
    """`identity` and `enforced` are what the node's shim says; None when it cannot be asked.

    `enforced` names the directions in which policy is enforced: `none`, `egress`, `ingress` or `both`.
    """

    name: str
    namespace: str
    node: str
    address: IPv4Address
    address_v6: IPv6Address | None = None
    identity: int | None = None
    enforced: str | None = None
    program: str = "idle"
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    lab: str
    topology: str
    nodes: tuple[NodeStatus, ...]
    pods: tuple[PodStatus, ...]
    services: tuple[tuple[str, str], ...] = ()
    """(`namespace/name`, `10.96.0.10:53/udp, …`)"""
    state_dir: str = ""
    problems: tuple[str, ...] = ()
    """What the shims have to say against manifests, each with file:line:col."""
    errors: int = 0
    """How many of them are errors: of those manifests nothing, or what they last said, is in force."""
