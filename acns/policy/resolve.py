"""From a cluster to what one node enforces, again and again, at the cost of what has changed.

Pure and deterministic: the same cluster gives an equal `NodePolicy`, whatever the resolver saw before. It
remembers, so that whoever comes after it (compiler, policy stream) can tell by identity what is new: an
`EndpointPolicy` that says the same as before is the same object, and so is the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.errors import Problem
from acns.policy import doubts
from acns.policy.cluster import Cluster
from acns.policy.directory import Directory, Resident
from acns.policy.doubts.scene import NOTHING_KNOWN, Resolutions
from acns.policy.meaning import Meaning, Meanings
from acns.policy.model import EndpointPolicy, Enforcement, NodePolicy
from acns.policy.specs import Specs
from acns.policy.view import View


@dataclass(frozen=True, slots=True)
class _Local:
    """The node's own pods that claim one address, mostly one, and what came of them."""

    claimants: tuple[Resident, ...]
    meaning: Meaning
    policy: EndpointPolicy


class Resolver:
    """Resolves for one node. Never raises for what policies or objects say."""

    def __init__(self, node_name: str, enforcement: Enforcement = Enforcement.DEFAULT) -> None:
        self.node_name = node_name
        self.enforcement = enforcement
        self._directory = Directory()
        self._specs = Specs()
        self._view = View(self._directory, node_name)
        self._meanings = Meanings(self._view, self._specs, enforcement)
        self._local: dict[IPv4Address, _Local] = {}
        self._last = NodePolicy(node_name, (), frozenset(), frozenset(), frozenset())

    def resolve(self, cluster: Cluster) -> NodePolicy:
        """What the agents of the node need for this cluster."""
        moves = self._directory.update(cluster)
        edit = self._specs.update(moves.policies)
        self._view.update(moves)
        if self._meanings.update(moves, edit):
            changed = self._settle({*moves.addresses, *self._local})
        else:
            changed = self._settle(moves.addresses)
        self._meanings.keep_only(local.meaning for local in self._local.values())
        self._last = self._node_policy(changed)
        return self._last

    def _settle(self, addresses: Iterable[IPv4Address]) -> bool:
        """Judge who is at these addresses anew; whether anything came of it."""
        changed = False
        for address in addresses:
            old = self._local.pop(address, None)
            claimants = self._directory.residents.get(address, ())
            mine = tuple(each for each in claimants if each.node_name == self.node_name)
            new = self._judged(mine, old) if mine else None
            if new is not None:
                self._local[address] = new
            changed = changed or new is not old
        return changed

    def _judged(self, claimants: tuple[Resident, ...], old: _Local | None) -> _Local:
        meaning = self._meanings.of(claimants)
        if old and old.meaning is meaning and old.claimants == claimants:
            return old
        policy = EndpointPolicy(claimants[0].endpoint, meaning.egress, meaning.ingress, meaning.dns)
        return _Local(claimants, meaning, old.policy if old and old.policy == policy else policy)

    def _node_policy(self, changed: bool) -> NodePolicy:
        """The last one, as far as it still holds."""
        last, directory = self._last, self._directory
        endpoints, keys = last.endpoints, frozenset(last.groups)
        if changed:
            policies = (local.policy for local in self._local.values())
            endpoints = tuple(sorted(policies, key=lambda policy: policy.endpoint.key))
            keys = frozenset[str]().union(*(local.meaning.groups for local in self._local.values()))
        groups = {key: _same(last.groups.get(key), self._view.members(key)) for key in sorted(keys)}
        new = NodePolicy(
            node=self.node_name,
            endpoints=endpoints,
            cluster_addresses=directory.cluster_addresses,
            service_addresses=directory.services.addresses,
            node_addresses=directory.addresses_of(self.node_name),
            groups=groups,
        )
        return last if new == last else new


def resolve(cluster: Cluster, node_name: str, enforcement: Enforcement = Enforcement.DEFAULT) -> NodePolicy:
    """What the agents of `node_name` need, from nothing."""
    return Resolver(node_name, enforcement).resolve(cluster)


def problems(
    cluster: Cluster,
    enforcement: Enforcement = Enforcement.DEFAULT,
    resolutions: Resolutions = NOTHING_KNOWN,
) -> list[Problem]:
    """What is wrong or doubtful between the objects of a cluster, over all nodes, sorted. Looks at all of it.
    `resolutions`: what names are known to resolve to."""
    return doubts.problems(cluster, enforcement, resolutions)


def _same(old: frozenset[IPv4Address] | None, new: frozenset[IPv4Address]) -> frozenset[IPv4Address]:
    return old if old is not None and old == new else new
