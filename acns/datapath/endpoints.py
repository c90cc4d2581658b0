"""One endpoint's part of the table: its chains, its links, and what they use.

A part depends on the endpoint's policy and on its interface, and on nothing else: neither on other endpoints
nor on who is in a group. So it is made once and kept for as long as these two stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from acns.datapath import base, chains, names, selectors
from acns.datapath.atoms import WAYS, Atom, Atoms
from acns.datapath.chains import Judge
from acns.datapath.drops import DenyResponse
from acns.datapath.grants import Grants
from acns.datapath.model import ChainSpec, SetSpec
from acns.datapath.redirects import Redirect, redirect
from acns.datapath.rules import Way
from acns.datapath.shared import Made, Mention
from acns.policy.model import (
    FQDN,
    Addresses,
    Direction,
    DirectionPolicy,
    DNSServers,
    EndpointPolicy,
    Match,
    Origin,
)

_WAY_TEXTS = {
    Way.EGRESS: "sent, though no egress rule allows it",
    Way.EGRESS_REPLY: "come back, though no egress rule allows it",
    Way.INGRESS: "come in, though no ingress rule allows it",
    Way.INGRESS_REPLY: "answered, though no ingress rule allows it",
}
_LINK_TEXTS = {
    base.FROM_MAP: "what it sends",
    base.TO_MAP: "what comes to it",
    base.DNS_MAP: "its queries",
    base.NODE_MAP: "what its own node opens to it",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is, as nft text: "" where that is not known; `key` as the maps have it. And which
    directions are enforced."""

    address: str
    interface: str
    egress: bool
    ingress: bool
    key: str


@dataclass(frozen=True, slots=True)
class Part:
    """`links`: by map. `groups`: set → key of `NodePolicy.groups`. `selectors`: ids of those that rules name.
    `mentions`: what ids stand for."""

    policy: EndpointPolicy
    interface: str | None
    place: Place
    chains: Mapping[str, ChainSpec] = field(default_factory=dict)
    links: Mapping[str, ChainSpec] = field(default_factory=dict)
    sets: Mapping[str, SetSpec] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    selectors: Mapping[str, None] = field(default_factory=dict)
    counters: Mapping[str, None] = field(default_factory=dict)
    mentions: Mapping[str, Mention] = field(default_factory=dict)


@dataclass(slots=True)
class _Uses:
    """What something consists of and refers to, being gathered; the fields are a part's."""

    chains: dict[str, ChainSpec] = field(default_factory=dict)
    sets: dict[str, SetSpec] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    selectors: dict[str, None] = field(default_factory=dict)
    counters: dict[str, None] = field(default_factory=dict)
    mentions: dict[str, Mention] = field(default_factory=dict)

    def set(self, spec: SetSpec, text: str, origins: tuple[Origin, ...]) -> None:
        """A set may serve both directions, and it or a selector several atoms: all their origins count."""
        self.sets[spec.name] = spec
        self.mention(spec.name, Mention("set", text, origins))

    def chain(self, chain: ChainSpec, text: str, direction: Direction) -> None:
        self.chains[chain.name] = chain
        self.mention(chain.name, Mention("chain", text, direction=direction))

    def mention(self, id_: str, said: Mention) -> None:
        before = self.mentions.get(id_)
        if before and said.kind in ("set", "selector"):
            said = replace(said, origins=tuple(dict.fromkeys((*before.origins, *said.origins))))
        self.mentions[id_] = said

    def atom(self, atom: Atom, origins: tuple[Origin, ...]) -> None:
        self.counters[atom.id] = None
        said = atom.saying
        self.mention(atom.id, Mention("rule", said.text, origins, said.direction, said.deny))
        for chain in atom.drops:
            self.chains[chain.name] = chain
            self.mention(chain.name, Mention("chain", f"deny {said.text}", origins, said.direction, True))
        if atom.set:
            self.set(atom.set, _set_text(atom), origins)
        if isinstance(said.peer, Addresses) and atom.set:
            self.groups[atom.set.name] = said.peer.key
        if isinstance(said.peer, FQDN):
            id_ = selectors.selector_id(said.peer.selector)
            self.selectors[id_] = None
            self.mention(id_, Mention("selector", said.peer.key, origins))

    def add(self, other: _Uses) -> None:
        """All of it, too."""
        self.chains.update(other.chains)
        self.sets.update(other.sets)
        self.groups.update(other.groups)
        self.selectors.update(other.selectors)
        self.counters.update(other.counters)
        for id_, said in other.mentions.items():
            self.mention(id_, said)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A direction's policy: what judges it, by way; and the atoms that it denies."""

    policy: DirectionPolicy
    judges: Mapping[Way, Judge] = field(default_factory=dict)
    denies: Collection[Atom] = ()
    uses: _Uses = field(default_factory=_Uses)


class PartMaker:
    """Makes parts; equal atoms and redirects are made once, and so is what judges one and the same policy."""

    def __init__(self, grants: Grants, answer: DenyResponse) -> None:
        self.atoms = Atoms(grants, answer)
        self.redirects: Made[DNSServers, Redirect] = Made(redirect)
        self.answer = answer
        self._judged: dict[tuple[Direction, int], _Judged] = {}
        """By the identity of the policy, which each entry keeps alive."""
        self._new: set[tuple[Direction, int]] = set()

    def settle(self, gone: Collection[str], live: Container[str]) -> None:
        """These ids are used no more."""
        self.atoms.made.settle(gone, live)
        self.redirects.settle(gone, live)
        doubtful = [
            key
            for key, one in self._judged.items()
            if key in self._new or not one.uses.counters.keys().isdisjoint(gone)
        ]
        for key in doubtful:
            if not all(id_ in live for id_ in self._judged[key].uses.counters):
                del self._judged[key]
        self._new.clear()

    def make(self, policy: EndpointPolicy, interface: str | None) -> Part:
        """The part of an endpoint; one without an interface is shut by its address alone."""
        quoted = "" if interface is None else names.interface(interface)
        address = str(policy.endpoint.address)
        key = f"{quoted} . {address}"
        place = Place(address, quoted, policy.egress.enforced, policy.ingress.enforced, key)
        if interface is None:
            return Part(policy, interface, place)
        return _Draft(self, policy, interface, place).finished()

    def judged(self, direction: Direction, policy: DirectionPolicy) -> _Judged:
        """What becomes of a direction."""
        if not policy.enforced:
            return _Judged(policy)
        key = direction, id(policy)
        found = self._judged.get(key)
        if found is None:
            found = self._judged[key] = self._judge(direction, policy)
            self._new.add(key)
        return found

    def _judge(self, direction: Direction, policy: DirectionPolicy) -> _Judged:
        uses = _Uses()
        allows = self._atoms(uses, direction, policy.allows, deny=False)
        denies = self._atoms(uses, direction, policy.denies, deny=True)
        live = chains.live_chains(direction, allows)
        for chain in live.chains:
            uses.chain(chain, "connections that a rule has allowed", direction)
        judges = {}
        for way in WAYS[direction]:
            judges[way] = chains.judge(way, live, allows, denies, self.answer)
            uses.chain(judges[way].chain, _WAY_TEXTS[way], direction)
            uses.counters[judges[way].chain.name] = None
        return _Judged(policy, judges, denies, uses)

    def _atoms(
        self, uses: _Uses, direction: Direction, matches: Iterable[Match], *, deny: bool
    ) -> list[Atom]:
        found: dict[str, Atom] = {}
        origins: defaultdict[str, list[Origin]] = defaultdict(list)
        for match in matches:
            atom = self.atoms.of(direction, match, deny=deny)
            found[atom.id] = atom
            origins[atom.id].append(match.origin)
        for id_, atom in found.items():
            uses.atom(atom, tuple(dict.fromkeys(origins[id_])))
        return list(found.values())


@dataclass(slots=True)
class _Draft:
    """A part in the making."""

    maker: PartMaker
    policy: EndpointPolicy
    interface: str
    place: Place
    links: dict[str, ChainSpec] = field(default_factory=dict)
    uses: _Uses = field(default_factory=_Uses)

    def finished(self) -> Part:
        egress = self.maker.judged(Direction.EGRESS, self.policy.egress)
        ingress = self.maker.judged(Direction.INGRESS, self.policy.ingress)
        for one in (egress, ingress):
            self.uses.add(one.uses)
        there, back, address = egress.judges, ingress.judges, self.place.address
        self._link(
            base.FROM_MAP,
            chains.from_pod_link(address, egress=there.get(Way.EGRESS), ingress=back.get(Way.INGRESS_REPLY)),
        )
        self._link(
            base.TO_MAP,
            chains.to_pod_link(address, egress=there.get(Way.EGRESS_REPLY), ingress=back.get(Way.INGRESS)),
        )
        self._link(base.DNS_MAP, self._redirected(egress.denies))
        if of_node := chains.node_chain(ingress.denies):
            self.uses.chain(of_node, "what is denied to its own node", Direction.INGRESS)
            self._link(base.NODE_MAP, chains.node_link(address, of_node))
        return Part(
            self.policy,
            self.interface,
            self.place,
            self.uses.chains,
            self.links,
            self.uses.sets,
            self.uses.groups,
            self.uses.selectors,
            self.uses.counters,
            self.uses.mentions,
        )

    def _redirected(self, denied: Iterable[Atom]) -> ChainSpec:
        """The link of its queries."""
        found: dict[str, Redirect] = {}
        origins: defaultdict[str, list[Origin]] = defaultdict(list)
        for allow in self.policy.dns:
            if allow.redirects:
                one = self.maker.redirects.of(allow.servers)
                found[one.id] = one
                origins[one.id].append(allow.origin)
        for id_, one in found.items():
            said = tuple(dict.fromkeys(origins[id_]))
            self.uses.counters[id_] = None
            self.uses.mentions[id_] = Mention("rule", one.text, said, Direction.EGRESS)
            for spec in one.sets:
                self.uses.set(spec, _elements_text(spec), said)
        if not found:
            return chains.dns_link(self.place.key, None, ())
        chain = chains.redirect_chain(found.values(), denied)
        self.uses.chain(chain, "redirected queries", Direction.EGRESS)
        ports = frozenset[int]().union(*(one.ports for one in found.values()))
        return chains.dns_link(self.place.key, chain, ports)

    def _link(self, map_name: str, chain: ChainSpec) -> None:
        self.links[map_name] = chain
        self.uses.mentions[chain.name] = Mention("chain", _LINK_TEXTS[map_name])


def _set_text(atom: Atom) -> str:
    if atom.set and atom.set.elements:
        return _elements_text(atom.set)
    return atom.saying.peer.key


def _elements_text(spec: SetSpec) -> str:
    """Called after its contents, so described by them: those who share it call it by other names."""
    return names.quotable(", ".join(sorted(spec.elements)), 200)
