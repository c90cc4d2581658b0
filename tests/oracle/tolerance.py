"""Where the product may differ from Cilium, and why: all of it, so that nothing else goes unseen.

Queries are caught before Service translation, and the resolver knows a server by identity and port. Both make
some queries to Services undecidable here that Cilium decides by the backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .cluster import Packet
from .semantics import Oracle, Verdict


def verdicts(oracle: Oracle, packet: Packet, expected: Verdict) -> set[Verdict]:
    """Those that are no finding."""
    packets = _to_each_backend(oracle, packet)
    if any(each.target[0] == packet.source for each in packets):
        return {expected, Verdict.PROXY}  # what a pod asks itself through a Service is caught too
    if Verdict.PROXY in (expected, *map(oracle.judge, packets)):
        # Undecidable where not all backends are servers: it goes to the resolver, which has no names for it.
        services = {address for address, _, _ in oracle.cluster.service_ports()}
        nobody_there = not packet.backend and packet.destination in services
        return {Verdict.PROXY, Verdict.DENY} if nobody_there else {Verdict.PROXY}
    # Where a rule names some backends and others are denied, it is refused rather than dropped.
    refused = expected is Verdict.DENY and not _are_alike(oracle, packets)
    return {expected, Verdict.PROXY} if refused else {expected}


def answers(oracle: Oracle, packet: Packet, allowed: bool) -> set[bool]:
    """Whether the name is allowed: the answers that are no finding."""
    packets = _to_each_backend(oracle, packet)
    possible = {allowed}
    if not _are_alike(oracle, packets):  # a name is open where one rule opens it on all of them
        others = [each for each in packets if each.target[0] != each.source]
        everywhere = all(oracle.judge(one) is Verdict.PROXY and oracle.name_allowed(one) for one in others)
        possible = {everywhere, False}
    # Opened by `toFQDNs` for the server's port: who tells the resolver does not know the server's name.
    elif allowed and not oracle.name_allowed(packet, by_names=False):
        possible = {True, False}
    if any(map(oracle.name_allowed, _as_the_resolver_sees_it(oracle, packet))):
        possible.add(True)
    return possible


def _as_the_resolver_sees_it(oracle: Oracle, packet: Packet) -> Iterator[Packet]:
    """A ClusterIP has its backends' identity, and pods with equal labels have one. So names of a rule for the
    port of the one (its named port, say) are open on the others."""
    address, port = packet.target
    if port != packet.port:
        yield replace(packet, backend=(address, packet.port))
    behind = {_identity(oracle, each.target[0]) for each in _to_each_backend(oracle, packet)}
    if len(behind) > 1:  # nobody else has the identity of such a Service
        return
    for other in oracle.cluster.endpoints():
        there = other["status"]["podIP"]
        if there != address and _identity(oracle, there) == _identity(oracle, address):
            yield from (replace(packet, backend=(there, each)) for each in {port, packet.port})


def _identity(oracle: Oracle, address: str) -> str:
    return repr(oracle.peers.identity(oracle.peers.remote(address)))


def _to_each_backend(oracle: Oracle, packet: Packet) -> list[Packet]:
    """The packet as each backend of its Service would get it."""
    if not packet.backend:
        return []
    asked = (packet.destination, packet.port, packet.protocol)
    return [
        replace(packet, backend=backend)
        for address, service, port in oracle.cluster.service_ports()
        if (address, port["port"], port.get("protocol", "TCP")) == asked
        for backend in oracle.cluster.backends(service, port, ready_only=False)
    ]


def _are_alike(oracle: Oracle, packets: list[Packet]) -> bool:
    """Whether to every rule these backends are one."""
    return len({_as_rules_see_it(oracle, *one.target) for one in packets}) <= 1


def _as_rules_see_it(oracle: Oracle, address: str, port: int) -> tuple[str, int, str]:
    remote = oracle.peers.remote(address)
    named = [container.get("ports") for pod in remote.pods for container in pod["spec"].get("containers", [])]
    return _identity(oracle, address), port, repr(named)
