"""One endpoint's part of the table: its chains, its links, and what they use.

A part depends on the endpoint's policy and on its interface, and on nothing else: neither on other endpoints
nor on who is in a group. So it is made once and kept for as long as these two stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field

from acns.datapath import base, chains, names
from acns.datapath.atoms import WAYS, Atom, Atoms
from acns.datapath.chains import Judge
from acns.datapath.drops import DenyResponse
from acns.datapath.grants import Grants
from acns.datapath.model import ChainSpec, SetSpec
from acns.datapath.redirects import Redirect, redirect
from acns.datapath.rules import Way
from acns.datapath.shared import Made, Mention
from acns.policy.model import (
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
_LINK_TEXTS = {base.FROM_MAP: "what it sends", base.TO_MAP: "what comes to it", base.DNS_MAP: "its queries"}


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
    """`links`: by map. `groups`: set → key of `NodePolicy.groups`. `mentions`: what ids stand for."""

    policy: EndpointPolicy
    interface: str | None
    place: Place
    chains: Mapping[str, ChainSpec] = field(default_factory=dict)
    links: Mapping[str, ChainSpec] = field(default_factory=dict)
    sets: Mapping[str, SetSpec] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[str, None] = field(default_factory=dict)
    mentions: Mapping[str, Mention] = field(default_factory=dict)


class PartMaker:
    """Makes parts; equal atoms and redirects are made once."""

    def __init__(self, grants: Grants, answer: DenyResponse) -> None:
        self.atoms = Atoms(grants, answer)
        self.redirects: Made[DNSServers, Redirect] = Made(redirect)
        self.answer = answer

    def settle(self, gone: Collection[str], live: Container[str]) -> None:
        """These ids are used no more."""
        self.atoms.made.settle(gone, live)
        self.redirects.settle(gone, live)

    def make(self, policy: EndpointPolicy, interface: str | None) -> Part:
        """The part of an endpoint; one without an interface is shut by its address alone."""
        quoted = "" if interface is None else names.interface(interface)
        address = str(policy.endpoint.address)
        key = f"{quoted} . {address}"
        place = Place(address, quoted, policy.egress.enforced, policy.ingress.enforced, key)
        if interface is None:
            return Part(policy, interface, place)
        return _Draft(self, policy, interface, place).finished()


@dataclass(slots=True)
class _Draft:
    """A part in the making."""

    maker: PartMaker
    policy: EndpointPolicy
    interface: str
    place: Place
    chains: dict[str, ChainSpec] = field(default_factory=dict)
    links: dict[str, ChainSpec] = field(default_factory=dict)
    sets: dict[str, SetSpec] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    counters: dict[str, None] = field(default_factory=dict)
    mentions: dict[str, Mention] = field(default_factory=dict)

    def finished(self) -> Part:
        egress, denied = self._judged(Direction.EGRESS, self.policy.egress)
        ingress, _ = self._judged(Direction.INGRESS, self.policy.ingress)
        address = self.place.address
        self._link(
            base.FROM_MAP,
            chains.from_pod_link(
                address, egress=egress.get(Way.EGRESS), ingress=ingress.get(Way.INGRESS_REPLY)
            ),
        )
        self._link(
            base.TO_MAP,
            chains.to_pod_link(
                address, egress=egress.get(Way.EGRESS_REPLY), ingress=ingress.get(Way.INGRESS)
            ),
        )
        self._link(base.DNS_MAP, self._redirected(denied))
        return Part(
            self.policy,
            self.interface,
            self.place,
            self.chains,
            self.links,
            self.sets,
            self.groups,
            self.counters,
            self.mentions,
        )

    def _judged(
        self, direction: Direction, policy: DirectionPolicy
    ) -> tuple[dict[Way, Judge], Collection[Atom]]:
        """What judges a direction, by way; and the atoms that it denies."""
        if not policy.enforced:
            return {}, ()
        allows = self._atoms(direction, policy.allows, deny=False)
        denies = self._atoms(direction, policy.denies, deny=True)
        live = chains.live_chains(direction, allows)
        for chain in live.chains:
            self._use_chain(chain, "connections that a rule has allowed", direction)
        found = {}
        for way in WAYS[direction]:
            found[way] = chains.judge(way, live, allows, denies, self.maker.answer)
            self._use_chain(found[way].chain, _WAY_TEXTS[way], direction)
            self.counters[found[way].chain.name] = None
        return found, denies

    def _atoms(self, direction: Direction, matches: Iterable[Match], *, deny: bool) -> list[Atom]:
        found: dict[str, Atom] = {}
        origins: defaultdict[str, list[Origin]] = defaultdict(list)
        for match in matches:
            atom = self.maker.atoms.of(direction, match, deny=deny)
            found[atom.id] = atom
            origins[atom.id].append(match.origin)
        for id_, atom in found.items():
            self._use(atom, tuple(dict.fromkeys(origins[id_])))
        return list(found.values())

    def _use(self, atom: Atom, origins: tuple[Origin, ...]) -> None:
        self.counters[atom.id] = None
        said = atom.saying
        self.mentions[atom.id] = Mention("rule", said.text, origins, said.direction, said.deny)
        for chain in atom.drops:
            self.chains[chain.name] = chain
            self.mentions[chain.name] = Mention("chain", f"deny {said.text}", origins, said.direction, True)
        if atom.set:
            self._use_set(atom.set, _set_text(atom), origins)
        if isinstance(said.peer, Addresses) and atom.set:
            self.groups[atom.set.name] = said.peer.key

    def _use_set(self, spec: SetSpec, text: str, origins: tuple[Origin, ...]) -> None:
        """A set may serve both directions, and several atoms: all their origins count."""
        before = self.mentions.get(spec.name)
        known = before.origins if before else ()
        self.sets[spec.name] = spec
        self.mentions[spec.name] = Mention("set", text, tuple(dict.fromkeys((*known, *origins))))

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
            self.counters[id_] = None
            self.mentions[id_] = Mention("rule", one.text, said, Direction.EGRESS)
            for spec in one.sets:
                self._use_set(spec, _elements_text(spec), said)
        if not found:
            return chains.dns_link(self.place.key, None, ())
        chain = chains.redirect_chain(found.values(), denied)
        self._use_chain(chain, "redirected queries", Direction.EGRESS)
        ports = frozenset[int]().union(*(one.ports for one in found.values()))
        return chains.dns_link(self.place.key, chain, ports)

    def _use_chain(self, chain: ChainSpec, text: str, direction: Direction) -> None:
        self.chains[chain.name] = chain
        self.mentions[chain.name] = Mention("chain", text, direction=direction)

    def _link(self, map_name: str, chain: ChainSpec) -> None:
        self.links[map_name] = chain
        self.mentions[chain.name] = Mention("chain", _LINK_TEXTS[map_name])


def _set_text(atom: Atom) -> str:
    if atom.set and atom.set.elements:
        return _elements_text(atom.set)
    return atom.saying.peer.key


def _elements_text(spec: SetSpec) -> str:
    """Called after its contents, so described by them: those who share it call it by other names."""
    return names.quotable(", ".join(sorted(spec.elements)), 200)
