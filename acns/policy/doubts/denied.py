"""toFQDNs whose ports an egressDeny shuts altogether: a deny goes before every allow, so it opens nothing.

Said only where it is sure: the deny applies to every pod that the rule applies to, by the words of their
selectors (a deny for some of them is meant), and to every address outside. Inside names open none anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from acns.policy.codes import Code
from acns.policy.doubts.scene import Doubt, Scene, at_rule
from acns.policy.doubts.traffic import covers, traffic_by_words
from acns.policy.implications import Implied
from acns.policy.model import CIDRs, Direction, Enforcement, Everything, Ports, Protocol, Traffic, World
from acns.policy.networks import without
from acns.policy.objects import Rule, SelectedFQDN, Spec
from acns.policy.peers import peers_of
from acns.policy.servers import ANYWHERE
from acns.policy.view import View

_HINT = "a deny goes before every allow: except networks from it, or name the ports that it means"


def doubts(scene: Scene) -> Iterator[Doubt]:
    if scene.enforcement is Enforcement.NEVER:
        return
    view = View(scene.directory, "")
    specs = [spec for policy in scene.cluster.policies for spec in policy.specs]
    denying = [(Implied.by(spec.subject), found) for spec in specs if (found := _denies(spec, view))]
    for spec in specs if denying else ():
        wanted = [rule for rule in spec.of(Direction.EGRESS) if _is_by_names(rule)]
        if wanted:
            subject = Implied.by(spec.subject)
            denies = [rule for whom, found in denying if whom.includes(subject) for rule in found]
            yield from _shut(wanted, denies)


def _shut(rules: Iterable[Rule], denies: list[Rule]) -> Iterator[Doubt]:
    for rule in rules:
        by = [_shutting(traffic, denies) for traffic in _allowed(rule)]
        if by and all(by):
            origins = " and ".join(dict.fromkeys(str(deny.origin) for deny in by if deny))
            message = f"toFQDNs opens nothing: its ports are denied at every address by {origins}"
            yield at_rule(Code.FQDN_DENIED, rule.origin, message, _HINT)


def _shutting(traffic: Traffic, denies: Iterable[Rule]) -> Rule | None:
    return next(
        (deny for deny in denies if any(covers(each, traffic) for each in traffic_by_words(deny))), None
    )


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
    for traffic in traffic_by_words(rule):
        if isinstance(traffic, Ports) and traffic.protocol is Protocol.ANY:
            for protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP):
                yield Ports(protocol, traffic.first, traffic.last)
        else:
            yield traffic
