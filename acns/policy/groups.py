"""Who belongs to a group of addresses, as a definition that outlives its members.

Rules name a group by its key (`Addresses`); what the key means is one of these values, and who that is at the
moment is for `View` to know. An address that several pods claim belongs to a group only if all of them do: a
forged or forgotten claim then opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.policy.anchors import Pair, anchors_of
from acns.policy.directory import Directory, Resident
from acns.policy.model import Protocol
from acns.policy.selectors import Selector

API_SERVER = ("default", "kubernetes")
"""The Service whose slices have the addresses of the API servers."""


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods that a selector matches."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class EveryPod:
    """All pods that own an address."""


@dataclass(frozen=True, slots=True)
class WithPort:
    """Those pods of a group that have a container port of this name, protocol and number."""

    group: Group
    name: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """All pods and all nodes, and the API servers, outside too (Cilium: pkg/policy/api/entity.go)."""


@dataclass(frozen=True, slots=True)
class RemoteNodes:
    """All nodes but this one."""


@dataclass(frozen=True, slots=True)
class APIServers:
    """The addresses of the Kubernetes API, wherever they are."""


Group = Pods | EveryPod | WithPort | Cluster | RemoteNodes | APIServers


def is_of_pods(group: Group) -> bool:
    """Whether pods alone make up the group, each judged by itself."""
    return isinstance(group, Pods | EveryPod | WithPort)


def anchors(group: Group) -> tuple[Pair, ...] | None:
    """Labels of which everybody in the group has one; None: it asks for none."""
    match group:
        case Pods(selector):
            return anchors_of(selector)
        case WithPort(base):
            return anchors(base)
    return None


def has_pods(group: Group) -> bool:
    """Whether pods may be in the group as pods, not for an address that they share with somebody else."""
    return is_of_pods(group) or isinstance(group, Cluster)


def holds(group: Group, claimants: Sequence[Resident]) -> bool:
    """Whether the address that these pods claim belongs to a group as theirs."""
    return bool(claimants) and all(_has(group, each) for each in claimants)


def members(group: Group, directory: Directory, node_name: str) -> frozenset[IPv4Address]:
    """Everybody in the group, as seen from a node."""
    match group:
        case Cluster():
            return directory.cluster_addresses | directory.services.endpoints(*API_SERVER)
        case RemoteNodes():
            return directory.node_addresses - directory.addresses_of(node_name)
        case APIServers():
            return directory.services.endpoints(*API_SERVER)
    candidates, residents = _candidates(group, directory), directory.residents
    return frozenset(address for address in candidates if holds(group, residents[address]))


def _candidates(group: Group, directory: Directory) -> Iterable[IPv4Address]:
    match group:
        case Pods(selector):
            return directory.candidates(selector)
        case WithPort(base):
            return _candidates(base, directory)
    return directory.residents


def _has(group: Group, resident: Resident) -> bool:
    match group:
        case Pods(selector):
            return selector.matches(resident.labels)
        case EveryPod() | Cluster():
            return True
        case WithPort(base, name, protocol, port):
            named = any(
                (each.name, each.protocol, each.port) == (name, protocol, port)
                for each in resident.named_ports
            )
            return named and _has(base, resident)
    return False
