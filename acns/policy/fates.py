"""Where outside the cluster connections have another fate: one part of the outside for each fate there is.

A part is judged by the rules that speak of it alone. Else each of many CIDR rules would be asked about the
ports that all the others name, in each of the parts that they cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from acns.policy import verdict
from acns.policy.learnings import Learnings
from acns.policy.model import FQDN, CIDRs, DirectionPolicy, Match, Traffic
from acns.policy.overview import Local
from acns.policy.routes import Judgement, Outcome, Route
from acns.policy.shares import shares
from acns.policy.standin import Networks, StandIn

_MOST = 8

_Kind = tuple[Outcome, bool]
_Fate = tuple[tuple[str, _Kind], ...]


@dataclass(frozen=True, slots=True)
class Apart:
    """`areas`: the largest of each fate, the largest first. `unshown`: how many more fates there are; no
    packet has an outcome there that none has in `areas`, by a name or else."""

    areas: tuple[StandIn, ...]
    unshown: int = 0


def apart(
    source: Local, areas: Sequence[StandIn], wanted: Traffic, learned: Callable[[IPv4Address], Learnings]
) -> Apart:
    """Of `areas` those that differ in what becomes of `wanted`. `learned`: what is known when this address
    is asked about."""
    egress, some = source.policy.egress, areas[0].address
    known = learned(some).open

    def is_for_outside(match: Match) -> bool:
        return verdict.selects(match.peer, source.node, some, known)

    allows, denies = (_Candidates(each, is_for_outside) for each in (egress.allows, egress.denies))
    fates: dict[_Fate, StandIn] = {}
    for area in areas:
        there = DirectionPolicy(egress.enforced, allows.of(area), denies.of(area))
        sender = replace(source, policy=replace(source.policy, egress=there))
        found = shares(Route(sender, area.address, area.address), wanted, learned(area.address), _kind)
        fates.setdefault(tuple((one.text, _kind(one.judgement)) for one in found), area)
    chosen = set(list(_telling_first(fates))[:_MOST])
    return Apart(tuple(area for fate, area in fates.items() if fate in chosen), len(fates) - len(chosen))


def _kind(judgement: Judgement) -> _Kind:
    """The outcome, and whether it is by a name: that opens only once the name has been looked up."""
    match = judgement.egress.match
    allowed = judgement.outcome is Outcome.ALLOWED
    return judgement.outcome, allowed and match is not None and isinstance(match.peer, FQDN)


def _telling_first(fates: Iterable[_Fate]) -> Iterator[_Fate]:
    """Those first that have a kind which those before have not."""
    seen: set[_Kind] = set()
    others = []
    for fate in fates:
        kinds = {kind for _, kind in fate}
        if kinds <= seen:
            others.append(fate)
        else:
            seen |= kinds
            yield fate
    yield from others


class _Candidates:
    """The matches of a direction, by where outside they apply."""

    def __init__(self, matches: Iterable[Match], is_for_outside: Callable[[Match], bool]) -> None:
        self._everywhere: list[tuple[int, Match]] = []
        self._inside: dict[Networks, list[tuple[int, Match]]] = {}
        for place, match in enumerate(matches):
            if isinstance(match.peer, CIDRs):
                self._inside.setdefault(match.peer.networks, []).append((place, match))
            elif is_for_outside(match):
                self._everywhere.append((place, match))

    def of(self, area: StandIn) -> tuple[Match, ...]:
        """Those that apply there, in their order."""
        found = list(self._everywhere)
        for networks in area.inside:
            found += self._inside.get(networks, ())
        return tuple(match for _, match in sorted(found, key=lambda one: one[0]))
