"""What a rule's ports come to: numbers as written, and names as pods have them.

A named port is resolved per pod. On ingress the endpoint's own containers say which numbers it has. On egress
each destination says so for itself: one group of pods for each number that occurs among them, so that a pod
whose `http` is 8080 is not opened at another pod's 80. (Cilium asks one map for the whole cluster on egress
and matches nothing where numbers conflict; this is the wording of Kubernetes' NetworkPolicy.) Who is no pod
has no named ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from acns.policy import groups
from acns.policy.groups import Group
from acns.policy.model import ICMP, Addresses, Direction, Everything, Peer, Ports, Protocol, Traffic
from acns.policy.objects import NamedPort, PortBlock, PortSpec, Rule
from acns.policy.view import View

Reach = tuple[Peer, Traffic]
"""One atom of a rule: who, and with which traffic."""


def reach_of(
    rule: Rule, block: PortBlock | None, peers: Iterable[Peer], own: tuple[NamedPort, ...], view: View
) -> Iterator[Reach]:
    """The atoms of one entry of `toPorts`, or without any, of the whole rule. `own`: the endpoint's ports."""
    for peer in peers:
        if block is None:
            yield from ((peer, traffic) for traffic in _without_ports(rule))
            continue
        for port in block.ports:
            if not port.name:
                yield peer, Ports(port.protocol, port.first, port.last)
            elif rule.direction is Direction.INGRESS:
                yield from ((peer, Ports(*found)) for found in _own_ports(port, own))
            else:
                yield from _pods_with(port, peer, view)


def port_names(rule: Rule) -> frozenset[str]:
    """The named ports that a rule speaks of."""
    return frozenset(port.name for block in rule.ports or () for port in block.ports if port.name)


def _without_ports(rule: Rule) -> Iterator[Traffic]:
    if rule.icmps is None:
        yield None
    else:
        yield from map(ICMP, rule.icmps)


def _own_ports(port: PortSpec, own: Iterable[NamedPort]) -> Iterator[tuple[Protocol, int, int]]:
    found = {(Protocol(each.protocol), each.port) for each in own if each.name == port.name}
    for protocol, number in sorted(found):
        if port.protocol in (protocol, Protocol.ANY):
            yield protocol, number, number


def _pods_with(port: PortSpec, peer: Peer, view: View) -> Iterator[Reach]:
    base = _pods_of(peer, view)
    if base is None:
        return
    group, addresses = base
    for protocol, number in view.ports_named(port.name, addresses):
        if port.protocol in (protocol, Protocol.ANY):
            key = f"{peer.key} with {port.name}/{protocol}={number}"
            who = view.define(key, groups.WithPort(group, port.name, protocol, number))
            yield who, Ports(protocol, number, number)


def _pods_of(peer: Peer, view: View) -> tuple[Group, Iterable[IPv4Address]] | None:
    """The pods among whom a peer's named ports are looked for."""
    match peer:
        case Everything():
            return groups.EveryPod(), view.directory.residents
        case Addresses(key) if groups.has_pods(view.definition(key)):
            return view.definition(key), view.members(key)
    return None
