"""toFQDNs whose ports an egressDeny shuts altogether: a deny goes before every allow, so it opens nothing.

Said only where it is sure: the deny applies to every pod that the rule applies to, by the words of their
selectors (a deny for some of them is meant), and to every address outside. Inside names open none anyway.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import itemgetter

from acns.policy.codes import Code
from acns.policy.doubts.nearby import Nearby
from acns.policy.doubts.scene import Doubt, Scene, at_rule
from acns.policy.implications import Implied
from acns.policy.model import ICMP, CIDRs, Direction, Enforcement, Everything, Ports, Protocol, Traffic, World
from acns.policy.networks import without
from acns.policy.objects import Rule, SelectedFQDN, Spec
from acns.policy.peers import peers_of
from acns.policy.selectors import Selector
from acns.policy.servers import ANYWHERE
from acns.policy.view import View

_PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
_LAST = 65_535
_HINT = "a deny goes before every allow: except networks from it, or name the ports that it means"


def doubts(scene: Scene) -> Iterator[Doubt]:
    if scene.enforcement is Enforcement.NEVER:
        return
    view = View(scene.directory, "")
    specs = [spec for policy in scene.cluster.policies for spec in policy.specs]
    denying: dict[Selector, list[tuple[int, _Shut]]] = {}
    for number, spec in enumerate(specs):
        if denies := _denies(spec, view):
            denying.setdefault(spec.subject, []).append((number, _Shut(denies)))
    nearby = Nearby(denying)
    for spec in specs if denying else ():
        wanted = [rule for rule in spec.of(Direction.EGRESS) if _is_by_names(rule)]
        if wanted:
            subject = Implied.by(spec.subject)
            found = sorted((each for some in nearby.including(subject) for each in some), key=itemgetter(0))
            yield from _shut(wanted, [shut for _, shut in found])


class _Shut:
    """What some denies shut. Of the spans that begin no later than a port the longest counts."""

    def __init__(self, denies: Iterable[Rule]) -> None:
        self._others: dict[Traffic, Rule] = {}
        self._spans: dict[Protocol, list[tuple[int, int, Rule]]] = {each: [] for each in _PROTOCOLS}
        for deny in denies:
            for traffic in _traffic(deny):
                self._add(traffic, deny)
        for spans in self._spans.values():
            spans.sort(key=lambda span: span[:2])
            spans[:] = accumulate(spans, lambda longest, span: (span[0], *max(longest, span, key=_end)[1:]))

    def _add(self, traffic: Traffic, deny: Rule) -> None:
        if not isinstance(traffic, Ports):
            self._others.setdefault(traffic, deny)
            return
        last = max(traffic.first, traffic.last) if traffic.first else _LAST
        for protocol in _PROTOCOLS if traffic.protocol is Protocol.ANY else (traffic.protocol,):
            self._spans[protocol].append((traffic.first, last, deny))

    def by(self, traffic: Traffic) -> Rule | None:
        """The deny that means all of it."""
        if everything := self._others.get(None):
            return everything
        if not isinstance(traffic, Ports):
            return self._others.get(traffic)
        spans = self._spans[traffic.protocol]
        at = bisect_right(spans, traffic.first, key=itemgetter(0)) - 1
        return spans[at][2] if at >= 0 and spans[at][1] >= traffic.last else None


def _end(span: tuple[int, int, Rule]) -> int:
    return span[1]


def _shut(rules: Iterable[Rule], denies: list[_Shut]) -> Iterator[Doubt]:
    for rule in rules:
        by = []
        for traffic in _allowed(rule):
            by.append(next((found for each in denies if (found := each.by(traffic))), None))
            if by[-1] is None:
                break
        if by and all(by):
            origins = " and ".join(dict.fromkeys(str(deny.origin) for deny in by if deny))
            message = f"toFQDNs opens nothing: its ports are denied at every address by {origins}"
            yield at_rule(Code.FQDN_DENIED, rule.origin, message, _HINT)


def _denies(spec: Spec, view: View) -> list[Rule]:
    """Those that deny every address outside."""
    denies = (rule for rule in spec.of(Direction.EGRESS) if rule.deny)
    return [rule for rule in denies if _means_all_outside(rule, view)]


def _means_all_outside(rule: Rule, view: View) -> bool:
    peers = peers_of(rule, view)
    if any(isinstance(peer, Everything | World) for peer in peers):
        return True
    networks = tuple(network for peer in peers if isinstance(peer, CIDRs) for network in peer.networks)
    return not without((ANYWHERE,), networks)


def _is_by_names(rule: Rule) -> bool:
    return not rule.deny and any(isinstance(peer, SelectedFQDN) for peer in rule.peers or ())


def _allowed(rule: Rule) -> Iterator[Traffic]:
    """Protocol by protocol: each can be denied by a rule of its own."""
    for traffic in _traffic(rule):
        if isinstance(traffic, Ports) and traffic.protocol is Protocol.ANY:
            for protocol in _PROTOCOLS:
                yield Ports(protocol, traffic.first, traffic.last)
        else:
            yield traffic


def _traffic(rule: Rule) -> Iterator[Traffic]:
    """A named port is left out: it is pods' alone, and each says for itself which number it has."""
    if rule.icmps is not None:
        yield from map(ICMP, rule.icmps)
    elif rule.ports is None:
        yield None
    else:
        ports = (port for block in rule.ports for port in block.ports if not port.name)
        yield from (Ports(port.protocol, port.first, port.last) for port in ports)
