"""Where the product may differ from Cilium, and why: all of it, so that nothing else goes unseen.

Queries are caught before Service translation, and the resolver knows a server by identity and port. Both make
some queries to Services undecidable here that Cilium decides by the backend.
"""

from __future__ import annotations

from dataclasses import replace

from .cluster import Packet
from .semantics import Oracle, Verdict


def verdicts(oracle: Oracle, packet: Packet, expected: Verdict) -> set[Verdict]:
    """Those that are no finding."""
    if packet.backend and packet.backend[0] == packet.source:
        return {expected, Verdict.PROXY}  # what a pod asks itself through a Service is caught too
    if expected is not Verdict.PROXY:
        return {expected}
    services = {address for address, _, _ in oracle.cluster.service_ports()}
    nobody_there = not packet.backend and packet.destination in services
    if nobody_there:
        return {Verdict.PROXY, Verdict.DENY}
    # The agents report such a Service as an error. To be mended: where another rule opens the backend without
    # naming ports, its queries pass unseen instead of being dropped.
    undecidable = packet.backend and not _backends_are_alike(oracle, packet)
    return set(Verdict) if undecidable else {Verdict.PROXY}


def answers(oracle: Oracle, packet: Packet, allowed: bool) -> set[bool]:
    """Whether the name is allowed: the answers that are no finding."""
    # A ClusterIP has its backends' identity. So where its port is another than theirs, names of a rule for
    # the one number are open on the other.
    as_sent = replace(packet, backend=(packet.target[0], packet.port))
    if packet.backend and packet.backend[1] != packet.port and oracle.name_allowed(as_sent):
        return {allowed, True}
    # Opened by `toFQDNs` for the server's port: who tells the resolver does not know the server's name.
    if allowed and not oracle.name_allowed(packet, by_names=False):
        return {True, False}
    return {allowed}


def _backends_are_alike(oracle: Oracle, packet: Packet) -> bool:
    for address, service, port in oracle.cluster.service_ports():
        key = (address, port["port"], port.get("protocol", "TCP"))
        if key == (packet.destination, packet.port, packet.protocol):
            backends = oracle.cluster.backends(service, port, ready_only=False)
            outcomes = {oracle.judge(replace(packet, backend=backend)) for backend in backends}
            remotes = (oracle.peers.remote(backend) for backend, _ in backends)
            identities = {repr(oracle.peers.identity(remote)) for remote in remotes}
            return len(outcomes) == len(identities) == 1
    return True
