"""What names have opened in a running lab, why each address is still there, and whether the kernels agree.

The shims say what they know; each kernel's set and connections are read beside it. The two are not about the
same instant: what differs is looked at once more, and only what differs again is a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from acns.datapath.conntrack import Connection
from acns.dns import name as names
from acns.dns.pattern import FQDNSelector
from acns.fqdn.cache import Stay
from acns.policy.model import FQDN, Enforcement, NodePolicy
from acns.policy.overview import Overview
from acns.policy.profiles import Profile
from lab.policy_tools import inputs
from lab.policy_tools.node_state import NodeState, learning
from lab.runtime.lab import Lab

_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One address under one name. `name` is "" where only the kernel knew it, from before the shim's start;
    `opens`: the selectors that it is open for; times are in seconds from now, negative: so long ago."""

    name: str
    address: IPv4Address
    opens: tuple[FQDNSelector, ...]
    ttl_left_s: float
    stay: Stay
    stays_s: float
    asked_by: str
    connections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeCache:
    """`answered`: whether the shim could be asked; where not, `entries` are the kernel's. `missing`: what
    should be open and is not in the kernel; `foreign`: what the kernel has and the shim does not know."""

    node: str
    answered: bool
    entries: tuple[Entry, ...]
    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        return not self.missing and not self.foreign

    def shared(self) -> dict[IPv4Address, list[str]]:
        """The addresses of more than one name, with these: by whichever name it opens, it is open."""
        found: dict[IPv4Address, list[str]] = {}
        for one in self.entries:
            if one.name:
                found.setdefault(one.address, []).append(one.name)
        return {address: sorted(set(each)) for address, each in found.items() if len(set(each)) > 1}


def look(lab: Lab, pod: str | None) -> list[NodeCache]:
    """By node; with `pod`, only what its own policy opens. Raises InputError for a pod that is not there."""
    found = _look(lab, pod)
    return found if all(one.agrees for one in found) else _look(lab, pod)


def _look(lab: Lab, pod: str | None) -> list[NodeCache]:
    wanted = lab.pod(pod) if pod else None
    key = f"{wanted.namespace}/{wanted.name}" if wanted else None
    nodes = [node for node in lab.nodes if wanted is None or wanted.node == node.name]
    return [_node(NodeState(lab, node), key) for node in nodes]


def _node(state: NodeState, pod: str | None) -> NodeCache:
    cluster = inputs.cluster_of(state.texts(), Profile(state.settings.profile))
    policy = Overview(cluster, Enforcement(state.settings.enforcement)).node(state.node.name)
    selectors = wanted_of(policy, pod)
    return compared(
        state.node.name, pod, selectors, state.cache(), state.opened(selectors), state.connections()
    )


def wanted_of(policy: NodePolicy, pod: str | None) -> frozenset[FQDNSelector]:
    """The selectors of a node's policies, or of one pod's own."""
    if pod is None:
        return policy.fqdn_selectors()
    (own,) = (one for one in policy.endpoints if one.endpoint.key == pod)
    return frozenset(one.peer.selector for one in own.egress.allows if isinstance(one.peer, FQDN))


def compared(
    node: str,
    pod: str | None,
    selectors: frozenset[FQDNSelector],
    view: Mapping[str, Any] | None,
    opened: Mapping[FQDNSelector, frozenset[IPv4Address]],
    connections: Iterable[Connection],
) -> NodeCache:
    """What the shim says (`view`; None where it does not answer) beside what the kernel's set holds."""
    if view is None:
        return NodeCache(node, False, tuple(_of_kernel(opened)))
    entries = tuple(_entries(view, selectors, connections, everything=pod is None))
    known = {(selector, one.address) for one in entries for selector in one.opens if selector in selectors}
    held = {(selector, address) for selector, addresses in opened.items() for address in addresses}
    return NodeCache(node, True, entries, tuple(_texts(known - held)), tuple(_texts(held - known)))


def _entries(
    view: Mapping[str, Any],
    selectors: frozenset[FQDNSelector],
    connections: Iterable[Connection],
    *,
    everything: bool,
) -> Iterator[Entry]:
    live: dict[IPv4Address, list[str]] = {}
    for one in connections:
        for address in {one.destination, one.reached}:
            live.setdefault(address, []).append(_connection(one))
    for raw in view["addresses"]:
        known = learning(raw)
        if not everything and selectors.isdisjoint(known.selectors):
            continue
        yield Entry(
            names.to_text(known.name) if known.name is not None else "",
            known.address,
            known.selectors,
            known.expires_at - view["now"],
            Stay(raw["stay"]),
            raw["stays_until"] - view["now"],
            known.asked_by,
            tuple(sorted(live.get(known.address, ()))),
        )


def _of_kernel(opened: Mapping[FQDNSelector, frozenset[IPv4Address]]) -> Iterator[Entry]:
    for selector, addresses in opened.items():
        for address in sorted(addresses):
            yield Entry("", address, (selector,), 0.0, Stay.FRESH, 0.0, "", ())


def _connection(one: Connection) -> str:
    protocol = _PROTOCOLS.get(one.protocol, str(one.protocol))
    return f"{protocol} {one.source}:{one.source_port} → {one.destination}:{one.destination_port}"


def _texts(pairs: Iterable[tuple[FQDNSelector, IPv4Address]]) -> list[str]:
    return sorted(f"{address} of {selector.text.removesuffix('.')}" for selector, address in pairs)
