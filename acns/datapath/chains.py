"""The chains that judge an endpoint's packets, one for each way, and the links that lead there.

Life of a connection. The rule that lets a connection in or out writes its *grant* (a number for peer ×
traffic) into its half of `ct mark`. Afterwards, both ways, a packet passes unless a rule denies it, when

* its connection's grant is alive in the chain: so a connection outlives the TTL of the name that opened it;
  or
* a rule allows it *now*, read forwards or (for answers) backwards, which renews the grant: so it survives a
  rule's replacement by another that covers it, even when only the other end is sending.

Otherwise it is dropped, in both directions with the same commit: taking a rule away, or adding one that
denies, cuts connections at once and deletes no conntrack entry (TCP would be picked up again from mid-stream,
as a connection of the other end's). Connections with pods and nodes have no such memory: their addresses
change hands, so each packet is judged anew, and a grant only lets their ICMP errors through. ICMP errors
are judged by their connection alone, as Cilium does: the router that sends one is nobody's peer.

Chains with rules of policy are immutable and named after their text: endpoints with equal rules share one.
Between the dispatch and them stands a link chain of the endpoint's own. A packet sees *rules* of one
generation, but looks into sets and maps as they are at that instant: a map that is pointed to another chain
in the commit that makes the chain leads packets into a chain still empty to them (measured: they pass). So
every endpoint has its links from its first day on, restricted or not; the elements that lead there stay, and
the rules in them are what a change of policy replaces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from acns.datapath import constants, drops, names, rules
from acns.datapath.atoms import Atom
from acns.datapath.drops import DenyResponse, fixed
from acns.datapath.model import ChainSpec, Rule
from acns.datapath.redirects import Redirect
from acns.datapath.rules import Way
from acns.policy.model import FQDN, CIDRs, Direction, Everything, World

MIDSTREAM, INVALID = "midstream", "invalid"
RESOLVER = "resolver"
"""The chain that redirected queries go to."""

_REMEMBERED = (FQDN, CIDRs, World, Everything)
_OUTSIDE = (FQDN, CIDRs, World)
"""Peers that are never the node."""
_FEW = 4

OPENED_BEFORE = (
    "ct state new meta l4proto tcp ct direction original tcp flags & (fin | syn | rst | ack) != syn "
    f"goto x_{MIDSTREAM}"
)
"""Else a connection that was cut comes back, as its other end's own or by a wider rule, once its conntrack
entry is gone."""
_NO_QUERY = fixed("accept", "for the other hooks to judge")
_UNKNOWN = f"ct state invalid,untracked goto x_{INVALID}"
_REDIRECTED = fixed(f"{rules.has_packet_mark(constants.MARK_TO_PROXY)} accept", "to the resolver")


@dataclass(frozen=True, slots=True)
class Live:
    """The chains that accept what has one of a policy's grants: of connections that are remembered, of
    others. None: there are no such grants."""

    remembered: ChainSpec | None
    others: ChainSpec | None

    @property
    def chains(self) -> list[ChainSpec]:
        return [chain for chain in (self.remembered, self.others) if chain]


@dataclass(frozen=True, slots=True)
class Judge:
    """One way's judgement: its chain; and what may be accepted before (most packets are of these)."""

    chain: ChainSpec
    known: Rule | None


def live_chains(direction: Direction, allows: Collection[Atom]) -> Live:
    """Both ways of a direction use them."""
    granted = [atom for atom in allows if atom.grant]
    remembered = [atom.grant for atom in granted if isinstance(atom.saying.peer, _REMEMBERED)]
    others = [atom.grant for atom in granted if not isinstance(atom.saying.peer, _REMEMBERED)]
    return Live(_live_chain(direction, remembered), _live_chain(direction, others))


def judge(
    way: Way, live: Live, allows: Iterable[Atom], denies: Collection[Atom], answer: DenyResponse
) -> Judge:
    """One way's judgement."""
    remembered = _remembered(live, way)
    body = [
        fixed(f"ip saddr . ip daddr @{rules.SELF} accept", "a pod reaches itself"),
        *(fixed(f"meta l4proto icmp ct state related jump {chain.name}") for chain in live.chains),
        *(atom.rules[way] for atom in _ordered(denies, way)),
        *_node_traffic(way),
        *([remembered] if remembered and denies else []),
        *(atom.rules[way] for atom in _ordered(allows, way)),
        *([] if way.is_reply else [fixed(_UNKNOWN)]),
    ]
    name = drops.named(way.value, [*body, *drops.answer(way, answer)])
    counts = Rule(name, f"counter name {name}", "not allowed")
    ends = (counts, drops.log(name), *drops.answer(way, answer), fixed("drop"))
    return Judge(ChainSpec(name, (*body, *ends)), None if denies else remembered)


def redirect_chain(redirects: Iterable[Redirect], denies: Iterable[Atom]) -> ChainSpec:
    """The DNS queries that go to the resolver; not those that a deny is about: the egress chain drops them.

    Exact servers that are denied are not in the policy (a deny speaks of the backend's port, which a packet
    to a ClusterIP does not have yet); which ones of a network are is seen here.
    """
    ordered = sorted(redirects, key=lambda redirect: redirect.id)
    spared = denies if any(redirect.networks for redirect in ordered) else ()
    body = [
        *(_to_resolver(redirect, match) for redirect in ordered for match in redirect.exact),
        *(
            fixed(f"{_before_translation(atom)} accept", "denied")
            for atom in _ordered(spared, Way.EGRESS)
            if rules.carries_queries(atom.saying.traffic)
        ),
        *(_to_resolver(redirect, match) for redirect in ordered for match in redirect.networks),
        _NO_QUERY,
    ]
    return ChainSpec(drops.named("rd", body), tuple(body))


def _to_resolver(redirect: Redirect, match: str) -> Rule:
    text = rules.join(match, f"counter name {redirect.id}", rules.to_proxy(), f"goto {RESOLVER}")
    return Rule(redirect.id, text, redirect.text)


def from_pod_link(address: str, *, egress: Judge | None, ingress: Judge | None) -> ChainSpec:
    """What an endpoint sends; `ingress` judges its answers. None: not enforced."""
    body = [
        *_known(egress, ingress),
        *([_REDIRECTED] if egress else []),
        *_answered(ingress, egress),
        *([fixed(OPENED_BEFORE)] if egress or ingress else []),
        _judged(egress),
    ]
    return _link("f", address, body)


def to_pod_link(address: str, *, egress: Judge | None, ingress: Judge | None) -> ChainSpec:
    """What comes to an endpoint; `egress` judges the answers that it gets. None: not enforced."""
    body = [
        *_known(egress, ingress),
        *_answered(egress, ingress),
        *([fixed(OPENED_BEFORE)] if egress or ingress else []),
        *([fixed(_UNKNOWN)] if egress and not ingress else []),
        _judged(ingress),
    ]
    return _link("t", address, body)


def node_chain(denies: Iterable[Atom]) -> ChainSpec | None:
    """What is denied to the pod's own node, which needs no allow; None where no deny can mean it."""
    told = [atom for atom in _ordered(denies, Way.INGRESS) if not isinstance(atom.saying.peer, _OUTSIDE)]
    if not told:
        return None
    body = [atom.rules[Way.INGRESS] for atom in told]
    return ChainSpec(drops.named("nd", body), tuple(body))


def node_link(address: str, chain: ChainSpec) -> ChainSpec:
    """What the endpoint's own node opens to it. Only endpoints with such a chain have one: who gets the first
    was open to its node before, and so is nothing more while the link's chain is still empty to a packet."""
    return _link("n", address, [fixed(f"goto {chain.name}")])


def dns_link(key: str, redirects: ChainSpec | None, ports: Collection[int]) -> ChainSpec:
    """The queries of an endpoint, which go to these ports."""
    if not redirects:
        return _link("d", key, [_NO_QUERY])
    others = [fixed(f"th dport != {port} accept", _NO_QUERY.note) for port in ports if len(ports) == 1]
    return _link("d", key, [*others, fixed(f"goto {redirects.name}")])


def _known(*judges: Judge | None) -> list[Rule]:
    return [one.known for one in judges if one and one.known]


def _answered(by: Judge | None, other: Judge | None) -> list[Rule]:
    """What answers: judged, or accepted where only the other direction is."""
    if by:
        return [fixed(f"ct direction reply goto {by.chain.name}")]
    return [fixed("ct direction reply accept")] if other else []


def _judged(by: Judge | None) -> Rule:
    return fixed(f"goto {by.chain.name}" if by else "accept")


def _link(prefix: str, key: str, body: list[Rule]) -> ChainSpec:
    return ChainSpec(f"{prefix}_{names.digest(key)}", tuple(body))


def _ordered(atoms: Iterable[Atom], way: Way) -> list[Atom]:
    return sorted((atom for atom in atoms if way in atom.rules), key=lambda atom: atom.id)


def _node_traffic(way: Way) -> list[Rule]:
    """What a node opens to its own pods takes no allow: output never sends it here, its answers come."""
    return [fixed("fib daddr type local accept", "its own node's")] if way is Way.INGRESS_REPLY else []


def _live_chain(direction: Direction, grants: list[int]) -> ChainSpec | None:
    """A few comparisons are faster than a set, and much cheaper to make."""
    if not grants:
        return None
    groups = [[grant] for grant in sorted(grants)] if len(grants) <= _FEW else [grants]
    body = [fixed(f"{rules.has_grant(direction, group)} accept") for group in groups]
    return ChainSpec(drops.named("lv", body), tuple(body), alone=True)


def _remembered(live: Live, way: Way) -> Rule | None:
    """A pod or node that took over an address meanwhile is not what the name or CIDR opened."""
    if not live.remembered:
        return None
    direction = "reply" if way.is_reply else "original"
    known = f"ct direction {direction} ct state established {rules.no_cluster(way)}"
    return fixed(f"{known} jump {live.remembered.name}")


def _before_translation(atom: Atom) -> str:
    saying = atom.saying
    peer = rules.peer_match(saying.peer, atom.set.name if atom.set else "", Way.EGRESS)
    outside = rules.no_service() if isinstance(saying.peer, CIDRs | World) else ""
    return rules.join(peer, outside, rules.traffic_match(saying.traffic, Way.EGRESS) or "")
