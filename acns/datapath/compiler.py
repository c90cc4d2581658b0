"""Policy → nftables: what one node's table must hold so that the kernel enforces a NodePolicy.

Between two compilations little changes. Each endpoint's part is kept as long as its policy is *the same
object* (the resolver sees to that) and its interface stays; what parts share is counted. So a change costs
what the changed endpoints have, and the result is equal to that of compiling everything anew. A group that
gains or loses a pod changes one set and no rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import replace
from ipaddress import IPv4Address

from acns.datapath import base, constants, names, rules, sets
from acns.datapath.drops import DenyResponse
from acns.datapath.endpoints import Part, PartMaker, Place
from acns.datapath.grants import Grants
from acns.datapath.model import ChainSpec, Description, MapSpec, Ruleset, SetSpec
from acns.datapath.shared import Register, Shared
from acns.policy.model import NodePolicy

_MAPS = {
    base.DNS_MAP: "ifname . ipv4_addr : verdict",
    base.FROM_MAP: "ipv4_addr : verdict",
    base.TO_MAP: "ipv4_addr : verdict",
    base.NODE_MAP: "ipv4_addr : verdict",
}
_LOOPBACK = "lo"
_CLUSTER, _SERVICES = (sets.kept(name, "ipv4_addr", ()) for name in (rules.CLUSTER, rules.SERVICES))
_PORTED = sets.kept(rules.PORTED, "inet_proto", rules.ported())
_BASE_DESCRIPTIONS = {counter: Description("counter", text) for counter, text in base.COUNTERS.items()}


class Compiler:
    """Compiles one policy after another, and does again only what has changed.

    `grants` is asked for a number per atom, then told which are live; live connections carry these numbers.
    `query_rate`: DNS messages a second that one pod gets through to the resolver. `transparent`: it may ask
    as the pod. `unknown_pods`: what becomes of pods that are in no policy, being too new.
    `deny_response`: what pods are told of what their egress policy drops.
    """

    def __init__(
        self,
        grants: Grants,
        *,
        proxy_port: int = constants.PROXY_PORT,
        query_rate: int = constants.QUERY_RATE,
        transparent: bool = False,
        deny_response: DenyResponse = "none",
        unknown_pods: base.UnknownPods = "open",
    ) -> None:
        self._grants = grants
        self._proxy_port = proxy_port
        self._query_rate = query_rate
        self._transparent = transparent
        self._unknown_pods: base.UnknownPods = unknown_pods
        self._maker = PartMaker(grants, deny_response)
        self._parts: dict[str, Part] = {}
        self._chains: Shared[ChainSpec] = Shared()
        self._sets: Shared[SetSpec] = Shared()
        self._groups: Shared[str] = Shared()
        self._selectors: Shared[None] = Shared()
        self._counters: Shared[None] = Shared()
        self._register = Register()
        self._kept = _Kept()
        self._based: tuple[base.Unplaced, set[str], dict[str, ChainSpec]] | None = None
        self._interfaces: Mapping[IPv4Address, str] | None = None

    def compile(
        self,
        node: NodePolicy,
        interfaces: Mapping[IPv4Address, str],
        learned: sets.Learned,
        *,
        uplinks: Collection[str] = (),
    ) -> Ruleset:
        """The table for this policy.

        `interfaces`: the node-side interface of every address that has one (the same object says the same);
        others than endpoints' are ignored, and an enforced endpoint without is shut by its address.
        `learned`: what this ruleset's transaction adds to the learned set, with timeouts in seconds from now.
        `uplinks`: interfaces that lead to no pod: what passes there is looked at no further. While
        an enforced endpoint has none, IPv6 is refused on all that are neither a pod's nor among these.
        """
        self._take(node, interfaces)
        found = self._all_sets(node, uplinks)
        self._kept.keep_only(found.keys())
        return Ruleset(
            counters=frozenset((*base.COUNTERS, *self._counters.values)),
            sets=found,
            maps={name: self._map(name) for name in _MAPS},
            chains={**self._base_for(uplinks), **self._chains.values, **self._links()},
            descriptions={**_BASE_DESCRIPTIONS, **self._register.descriptions},
            selectors=frozenset(self._selectors.values),
            learned=sets.by_id(learned),
        )

    def _take(self, node: NodePolicy, interfaces: Mapping[IPv4Address, str]) -> None:
        """Bring the parts up to date."""
        wanted: dict[str, Part] = {}
        changed = []
        same_links = interfaces is self._interfaces
        for policy in node.endpoints:
            key = policy.endpoint.key
            part = self._parts.get(key)
            if not (same_links and part and part.policy is policy):  # else nothing can have changed
                interface = interfaces.get(policy.endpoint.address)
                if part is None or part.policy is not policy or part.interface != interface:
                    part = self._maker.make(policy, interface)
                    changed.append(key)
            wanted[key] = part
        # Nothing above changes what is kept, so nothing is half done if it raises.
        gone = [key for key in self._parts if wanted.get(key) is not self._parts[key]]
        if changed or gone:
            self._replace(gone, wanted, changed)
        self._interfaces = interfaces

    def _replace(self, gone: Iterable[str], wanted: dict[str, Part], new: Iterable[str]) -> None:
        for key in new:  # first: what stays in use by the next is not forgotten in between
            self._count(wanted[key])
            before = self._parts.get(key)
            self._register.move(key, before.mentions if before else {}, wanted[key].mentions)
        unused: list[str] = []
        for key in gone:
            unused += self._discount(self._parts[key])
            if key not in wanted:
                self._register.remove(key, self._parts[key].mentions)
        self._parts = wanted
        self._register.update()
        live = self._counters.values.keys()
        self._maker.settle(unused, live)
        if unused or not gone:
            self._grants.keep_only(live)

    def _count(self, part: Part) -> None:
        self._chains.add(part.chains)
        self._sets.add(part.sets)
        self._groups.add(part.groups)
        self._selectors.add(part.selectors)
        self._counters.add(part.counters)

    def _discount(self, part: Part) -> list[str]:
        """The ids that nobody uses any more."""
        self._chains.remove(part.chains)
        self._sets.remove(part.sets)
        self._groups.remove(part.groups)
        self._selectors.remove(part.selectors)
        return self._counters.remove(part.counters)

    def _all_sets(self, node: NodePolicy, uplinks: Collection[str]) -> dict[str, SetSpec]:
        """The node's first: nearly every rule names one of them."""
        found = {spec.name: spec for spec in self._node_sets(node, uplinks)}
        found.update(self._sets.values)
        for name, key in self._groups.values.items():
            found[name] = self._kept.filled(found[name], node.groups.get(key, frozenset()))
        return found

    def _node_sets(self, node: NodePolicy, uplinks: Collection[str]) -> list[SetSpec]:
        places = [part.place for part in self._parts.values()]
        placed = [place for place in places if place.interface]
        pods = {place.interface for place in placed}
        known = {*pods, *map(names.interface, uplinks), names.interface(_LOOPBACK)}
        pairs = "ifname . ipv4_addr"
        return [
            self._kept.filled(_CLUSTER, node.cluster_addresses | node.node_addresses),
            self._kept.filled(_SERVICES, node.service_addresses),
            sets.LEARNED,
            sets.kept(
                rules.SELF, "ipv4_addr . ipv4_addr", (f"{one.address} . {one.address}" for one in placed)
            ),
            _PORTED,
            base.query_rates(self._query_rate),
            sets.kept(base.POD_INTERFACES, "ifname", pods),
            sets.kept(base.KNOWN_INTERFACES, "ifname", known),
            sets.kept(base.ENFORCED, pairs, (one.key for one in placed if one.egress or one.ingress)),
            sets.kept(base.UNPLACED_FROM, "ipv4_addr", _unplaced(place for place in places if place.egress)),
            sets.kept(base.UNPLACED_TO, "ipv4_addr", _unplaced(place for place in places if place.ingress)),
            sets.kept(base.V6_FROM, "ifname", (one.interface for one in placed if one.egress)),
            sets.kept(base.V6_TO, "ifname", (one.interface for one in placed if one.ingress)),
        ]

    def _base_for(self, uplinks: Collection[str]) -> dict[str, ChainSpec]:
        places = [part.place for part in self._parts.values()]
        waiting = [place for place in places if not place.interface]
        unplaced = base.Unplaced(
            egress=any(place.egress for place in waiting), ingress=any(place.ingress for place in waiting)
        )
        away = {*map(names.interface, uplinks)} - {place.interface for place in places}
        if self._based is None or self._based[:2] != (unplaced, away):
            chains = base.base_chains(
                self._proxy_port,
                self._query_rate,
                unplaced,
                away,
                transparent=self._transparent,
                unknown_pods=self._unknown_pods,
            )
            self._based = unplaced, away, {chain.name: chain for chain in chains}
        return self._based[2]

    def _links(self) -> dict[str, ChainSpec]:
        return {link.name: link for part in self._parts.values() for link in part.links.values()}

    def _map(self, name: str) -> MapSpec:
        parts = [part for part in self._parts.values() if name in part.links]
        by_address = name != base.DNS_MAP
        keys = ((part.place.address if by_address else part.place.key, part) for part in parts)
        return MapSpec(name, _MAPS[name], {key: part.links[name].name for key, part in keys})


class _Kept:
    """Sets of addresses, as text; those whose addresses stay are reused."""

    def __init__(self) -> None:
        self._filled: dict[str, tuple[frozenset[IPv4Address], SetSpec]] = {}

    def filled(self, spec: SetSpec, members: frozenset[IPv4Address]) -> SetSpec:
        """The set with these members."""
        before = self._filled.get(spec.name)
        if before and (before[0] is members or before[0] == members):
            return before[1]
        if before:
            were, last = before
            gone, come = map(str, were - members), map(str, members - were)
            made = replace(spec, elements=last.elements.difference(gone).union(come))
        else:
            made = replace(spec, elements=frozenset(map(str, members)))
        self._filled[spec.name] = members, made
        return made

    def keep_only(self, set_names: Set[str]) -> None:
        """Forget the others."""
        self._filled = {name: one for name, one in self._filled.items() if name in set_names}


def _unplaced(places: Iterable[Place]) -> list[str]:
    return [place.address for place in places if not place.interface]
