"""What a label set may do on one node: every policy that selects it, its rules added up.

Endpoints with the same labels have the same meaning, computed once; so have the parts of a rule, whoever it
applies to. What cannot be expanded is left out, on the side of denying, and kept in `mixed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from acns.policy.directory import Directory, Resident
from acns.policy.model import Allow, DNSAllow, DNSServers, EndpointPolicy, Everything, Origin, Peer
from acns.policy.objects import EgressRule, PortBlock, Spec
from acns.policy.peers import exact_ports, peers_of
from acns.policy.servers import Mixed, PortSet, View, opened_by, servers_of


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a label set may do: an `EndpointPolicy` without the endpoint."""

    enforced: bool
    allows: tuple[Allow, ...] = ()
    dns: tuple[DNSAllow, ...] = ()


@dataclass(frozen=True, slots=True)
class Atom:
    """One `toPorts` entry (or, without any, the whole rule) with its peers."""

    peers: tuple[Peer, ...]
    block: PortBlock | None
    default_deny: bool
    origin: Origin


Expansion = tuple[DNSServers | None, tuple[Mixed, ...]]


class NodeResolver:
    """Resolves for one node. `mixed` collects the Services that a rule could not be expanded to."""

    def __init__(self, directory: Directory, node_name: str) -> None:
        self.view = View(directory, node_name)
        self.mixed: dict[tuple[Origin, Mixed], None] = {}
        self._meanings: dict[frozenset[str], Meaning] = {}
        self._atoms: dict[Origin, tuple[Atom, ...]] = {}
        self._expansions: dict[tuple[tuple[str, ...], PortSet], Expansion] = {}

    def endpoints(self) -> Iterator[EndpointPolicy]:
        for resident in self.view.directory.on_node(self.view.node_name):
            meaning = self.meaning(resident)
            yield EndpointPolicy(resident.endpoint, meaning.enforced, meaning.allows, meaning.dns)

    def meaning(self, resident: Resident) -> Meaning:
        labels = resident.labels.texts
        if labels not in self._meanings:
            self._meanings[labels] = self._resolve(resident)
        return self._meanings[labels]

    def _resolve(self, resident: Resident) -> Meaning:
        specs = self.view.directory.specs_for(resident)
        atoms = [atom for spec in specs for rule in spec.egress for atom in self.atoms(rule, spec)]
        dns = tuple(self._dns(atoms))
        denies = any(spec.default_deny for spec in specs)
        if not denies and not dns:
            return Meaning(enforced=False)
        allows = [allow for atom in atoms for allow in _allows(atom)]
        if not denies:
            # Nothing is denied, yet queries are to be seen: everything else passes (Cilium inserts the same).
            allows.append(Allow(Everything(), None, atoms[0].origin))
        return Meaning(True, tuple(allows), dns)

    def atoms(self, rule: EgressRule, spec: Spec) -> tuple[Atom, ...]:
        """The rule's parts, resolved once for all endpoints of the node."""
        if rule.origin not in self._atoms:
            peers = peers_of(rule, self.view.directory, self.view.node_name)
            blocks: Iterable[PortBlock | None] = (None,) if rule.ports is None else rule.ports
            self._atoms[rule.origin] = tuple(
                Atom(peers, block, spec.default_deny, rule.origin) for block in blocks
            )
        return self._atoms[rule.origin]

    # --- DNS ------------------------------------------------------------------------------------------------

    def _dns(self, atoms: Iterable[Atom]) -> Iterator[DNSAllow]:
        redirecting = [allow for atom in atoms for allow in self._redirecting(atom)]
        yield from redirecting
        servers = {allow.servers.key: allow.servers for allow in redirecting}
        for atom in atoms:
            if atom.block is None or atom.block.dns is not None:
                continue
            ports = exact_ports(atom.block.ports)
            for redirected in servers.values():
                if opened := opened_by(atom.peers, ports, redirected, self.view):
                    yield DNSAllow(opened, names=None, redirects=False, origin=atom.origin)

    def _redirecting(self, atom: Atom) -> Iterator[DNSAllow]:
        if atom.block is None or atom.block.dns is None:
            return
        # A policy that denies nothing by default does not deny names either (l4_filter.go adds `*`).
        names = atom.block.dns if atom.default_deny else None
        servers, mixed = self._servers_of(atom.peers, exact_ports(atom.block.ports))
        self.mixed.update(((atom.origin, each), None) for each in mixed)
        if servers:
            yield DNSAllow(servers, names, redirects=True, origin=atom.origin)

    def _servers_of(self, peers: tuple[Peer, ...], ports: PortSet) -> Expansion:
        """Most rules name the same few servers."""
        key = (tuple(peer.key for peer in peers), ports)
        if key not in self._expansions:
            mixed: list[Mixed] = []
            servers = servers_of(peers, ports, self.view, mixed.append)
            self._expansions[key] = servers, tuple(mixed)
        return self._expansions[key]


def _allows(atom: Atom) -> Iterator[Allow]:
    """L3/L4: a `rules.dns` block permits nothing but the queries the resolver lets pass."""
    if atom.block is not None and atom.block.dns is not None:
        return
    ports = (None,) if atom.block is None else atom.block.ports
    for peer in atom.peers:
        for each in ports:
            yield Allow(peer, each, atom.origin)
