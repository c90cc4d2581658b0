"""May this pod connect there, and why: the whole answer, from a cluster's objects and what names resolved to.

Pure: the same whether the cluster runs or is only written down. What a name resolves to may be known before
anybody has looked it up (a topology says it); where it is not, the name may be anywhere outside the cluster,
and an address is tried in each part of it that rules treat alike. A name is reached only by who can look it
up, so that is part of the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.errors import InputError
from acns.policy import fates
from acns.policy.connections import Part, parts, untranslated
from acns.policy.destination import AtAddress, AtName, AtService, Destination, Outside
from acns.policy.doubts.scene import Resolutions
from acns.policy.learnings import Learning, Learnings
from acns.policy.lookups import Answer, Lookup, Server, lookup
from acns.policy.model import FQDN, Traffic
from acns.policy.overview import Local, Overview
from acns.policy.routes import Outcome
from acns.policy.standin import StandIn, stand_ins
from acns.policy.wording import selector_text, traffic_text

NOTHING = Learnings()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known beside the objects. `learned`: per node what names resolved to; None: the cluster does
    not run, so nothing can be known. `server`: whom the pod asks; None: not known. `resolutions`: what names
    resolve to, whether or not anybody has looked them up."""

    learned: Mapping[str, Learnings] | None = None
    server: Server | None = None
    resolutions: Resolutions = field(default_factory=dict)

    def on(self, node: str) -> Learnings:
        return (self.learned or {}).get(node, NOTHING)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`lookup`: for a destination that is a name. `supposed`: the parts are about what would be if it had
    been looked up. `unshown`: how many parts of the outside have other fates than those shown."""

    source: str
    destination: str
    outcome: Outcome
    parts: tuple[Part, ...] = ()
    lookup: Lookup | None = None
    notes: tuple[str, ...] = ()
    supposed: bool = False
    unshown: int = 0

    @property
    def redirected(self) -> tuple[str, ...]:
        """The traffic that the resolver takes."""
        found = (part.traffic for part in self.parts if part.outcome is Outcome.REDIRECTED)
        return tuple(dict.fromkeys(found))


def explain(overview: Overview, source: Local, destination: Destination, knowledge: Knowledge) -> Explanation:
    """The answer. Raises InputError for a port that the Service does not have."""
    return _Answer(overview, source, destination, knowledge).explanation()


def explain_query(overview: Overview, source: Local, name: Name, knowledge: Knowledge) -> Explanation:
    """What becomes of a DNS query; `knowledge.server` must be known."""
    assert knowledge.server is not None
    found = lookup(overview, source, name, knowledge.server, knowledge.on(source.node.node))
    outcome = Outcome.ALLOWED if found.succeeds else Outcome.DENIED
    return Explanation(source.key, f"the name {found.name}", outcome, lookup=found)


class _Answer:
    """One question, being answered."""

    def __init__(
        self, overview: Overview, source: Local, destination: Destination, knowledge: Knowledge
    ) -> None:
        self.overview = overview
        self.source = source
        self.destination = destination
        self.knowledge = knowledge
        self.learned = knowledge.on(source.node.node)

    def explanation(self) -> Explanation:
        wanted = self.destination.traffic
        match self.destination.target:
            case AtAddress(address):
                return self._connection([address], wanted)
            case AtService(service, name):
                addresses = service.cluster_ips[:1] or sorted(
                    self.overview.directory.services.endpoints(service.namespace, service.name)
                )
                if not addresses:
                    raise InputError(
                        f"nobody is behind Service {service.key}", hint="it has no address at all"
                    )
                return self._connection(addresses, wanted, name)
            case AtName(name):
                return self._named(name, wanted)
            case Outside():
                largest = stand_ins(self.source, self.learned)[0]
                found = self._connection([largest.address], wanted)
                return replace(found, notes=(*found.notes, _stands_for(largest)))

    def _connection(
        self, addresses: Iterable[IPv4Address], wanted: Traffic, name: Name | None = None
    ) -> Explanation:
        found = self._parts(addresses, wanted, self.learned)
        looked_up = self._lookup(name) if name else None
        outcome = _outcome(found, looked_up)
        notes = tuple(dict.fromkeys(self._shared(found, name)))
        return Explanation(self.source.key, self._text(), outcome, found, looked_up, notes)

    def _named(self, name: Name, wanted: Traffic) -> Explanation:
        """A name outside: at the addresses that are learned, else at those that it would have."""
        known = dict.fromkeys(one.address for one in self.learned.of(name)) or self._of_kernel(name)
        if known:
            return self._connection(known, wanted, name)
        resolved = self.knowledge.resolutions.get(name)
        unshown = 0
        if resolved is None:
            found, unshown = self._anywhere(name, wanted)
        else:
            found = self._resolved(name, resolved, wanted)
        looked_up = self._lookup(name)
        outcome, notes = _outcome(found, looked_up), []
        waits = any(map(_waits, found))
        if waits and self.knowledge.learned is not None:
            outcome = _outcome(found, looked_up, unlearned=True)
            notes.append(self._unlearned(name, looked_up))
        elif waits and looked_up and looked_up.answer is Answer.UNPROXIED:
            outcome = _outcome(found, looked_up, unlearned=True)
        elif waits:
            notes.append(
                f"from the moment on when {self.source.key} has looked the name up, until its TTL ends"
            )
        if resolved is None:
            notes.append(
                "if it resolves to a public address outside the cluster: names never open pods or nodes"
            )
            if unshown:
                notes.append(f"CIDRs of rules give it another fate in {unshown} more parts of the outside")
        elif not resolved:
            notes.append(f"{_plain(name)} has no IPv4 address, and only IPv4 is shown here")
        return Explanation(
            self.source.key, self._text(), outcome, found, looked_up, tuple(notes), True, unshown
        )

    def _of_kernel(self, name: Name) -> Collection[IPv4Address]:
        """What a kernel's set holds of the name, whose agent cannot be asked: what is open by its very name,
        and of its addresses those that are open by a pattern for it."""
        resolved = self.knowledge.resolutions.get(name, ())
        return dict.fromkeys(
            one.address
            for one in self.learned.all
            for selector in one.selectors
            if one.of_kernel
            and selector.matches(name)
            and (selector.literal is not None or one.address in resolved)
        )

    def _resolved(self, name: Name, addresses: Collection[IPv4Address], wanted: Traffic) -> tuple[Part, ...]:
        """At each of the addresses, as if they had been learned. Only who asks for a Service can have meant
        another port: an address that is one's by chance is one more where nobody is reached."""
        supposed = Learnings.supposing(self._selectors(), name, addresses)
        found: list[Part] = []
        for address in sorted(addresses):
            try:
                found += self._parts([address], wanted, supposed, f"{_plain(name)} ({address})")
            except InputError:
                found += untranslated(self.overview, self.source, address, wanted, supposed)
        return tuple(found)

    def _anywhere(self, name: Name, wanted: Traffic) -> tuple[tuple[Part, ...], int]:
        """In each part of the outside that has another fate, the largest alone where all have one; and how
        many more fates there are."""
        selectors = [one for one in self._selectors() if one.matches(name)]

        def supposed(address: IPv4Address) -> Learnings:
            return Learnings.supposing(selectors, name, [address])

        found = fates.apart(self.source, stand_ins(self.source, NOTHING), wanted, supposed)
        judged = tuple(
            part
            for area in found.areas
            for part in self._parts(
                [area.address],
                wanted,
                supposed(area.address),
                _plain(name) if len(found.areas) == 1 else f"{_plain(name)} ({_where(area)})",
            )
        )
        return judged, found.unshown

    def _parts(
        self, addresses: Iterable[IPv4Address], wanted: Traffic, learned: Learnings, called: str = ""
    ) -> tuple[Part, ...]:
        return tuple(
            part
            for address in addresses
            for part in parts(self.overview, self.source, address, wanted, learned, called)
        )

    def _lookup(self, name: Name) -> Lookup | None:
        server = self.knowledge.server
        return lookup(self.overview, self.source, name, server, self.learned) if server else None

    def _selectors(self) -> set[FQDNSelector]:
        allows = self.source.policy.egress.allows
        return {match.peer.selector for match in allows if isinstance(match.peer, FQDN)}

    def _text(self) -> str:
        asked, traffic = self.destination.asked, self.destination.traffic
        return asked if ":" in asked else f"{asked}, {traffic_text(traffic)}"

    def _unlearned(self, name: Name, looked_up: Lookup | None) -> str:
        node = self.source.node.node
        why = "no pod has looked it up, or its TTL is over"
        if any(one.of_kernel for one in self.learned.all) and name not in self.knowledge.resolutions:
            why = "its kernel holds addresses whose names its agent cannot be asked for"
        text = f"no address of {_plain(name)} is known on {node}: {why}"
        if looked_up and looked_up.allow:
            return f"{text}; {looked_up.allow.origin} lets {self.source.key} look it up"
        return text

    def _shared(self, found: Iterable[Part], name: Name | None) -> Iterator[str]:
        """Addresses that are open by a name, and are another name's as well."""
        for part in found:
            if not _is_by_name(part) or part.outcome is not Outcome.ALLOWED:
                continue
            opening = {one for side in part.sides for said in side.rules for one in said.learned}
            for one in sorted(opening | set(self.learned.at(part.route.reached)), key=_order):
                if one.name is not None and one.name != name and (name or one not in opening):
                    yield _also(one)


def _also(one: Learning) -> str:
    by = " and ".join(selector_text(selector) for selector in one.selectors) or "no selector"
    assert one.name is not None
    return f"{one.address} is also known as {_plain(one.name)} (under {by}): it is open by either name"


def _order(one: Learning) -> tuple[Name, IPv4Address]:
    return (one.name or (), one.address)


def _is_by_name(part: Part) -> bool:
    return any(said.learned for side in part.sides for said in side.rules[:1])


def _waits(part: Part) -> bool:
    """Whether it is open only once the name has been looked up."""
    return part.outcome is Outcome.ALLOWED and _is_by_name(part)


def _outcome(found: Iterable[Part], looked_up: Lookup | None, *, unlearned: bool = False) -> Outcome:
    """Of all parts; `unlearned`: as long as the name has not been looked up. Where there are none, nobody is
    reached."""
    outcomes = {Outcome.DENIED if unlearned and _waits(part) else part.outcome for part in found}
    if not outcomes:
        return Outcome.DENIED
    if looked_up is not None and not looked_up.succeeds:
        return Outcome.DENIED
    if len(outcomes) == 1:
        return outcomes.pop()
    return Outcome.PARTLY if Outcome.DENIED in outcomes or Outcome.PARTLY in outcomes else Outcome.ALLOWED


def _plain(name: Name) -> str:
    return names.to_text(name).removesuffix(".")


def _where(area: StandIn) -> str:
    return f"in {area.within}" if area.within else "in no narrower CIDR of a rule"


def _stands_for(part: StandIn) -> str:
    if not part.within:
        return f"{part.address} stands for all addresses outside that no rule is more particular about"
    return (
        f"{part.address} stands for the addresses outside in {part.within}, "
        "the largest part that rules treat alike"
    )
