"""The chains that an endpoint's packets are dispatched to: what it may send, what may come back, what is
redirected.

Life of a connection. The rule that lets a connection out writes its *grant* (a number for peer × ports) into
`ct mark`. Afterwards, both ways, a packet passes when

* its connection's grant is alive in the chain: so a connection outlives the TTL of the name that opened it;
  or
* a rule allows it *now*, read forwards or (for what comes back) backwards, which renews the grant: so it
  survives a rule's replacement by another that covers it, even when only the server is sending.

Otherwise it is dropped, in both directions with the same commit: taking a rule away cuts its connections at
once and deletes no conntrack entry (TCP would be picked up again from mid-stream, as a connection of the
server's). Connections to pods and nodes have no such memory: their addresses change hands, so each packet is
judged anew, and a grant only lets their ICMP errors through.

Chains with rules of policy are immutable and named after their text: endpoints with equal rules share one.
Between the dispatch and them stands a chain of one rule, `goto`, of the endpoint's own. A packet sees
*rules* of one generation, but looks into sets and maps as they are at that instant: a map that is pointed to
another chain in the commit that makes the chain leads packets into a chain still empty to them (measured:
they pass). So the map's element stays, and the rule behind it is what a change of policy replaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from acns.datapath import constants, names, rules
from acns.datapath.model import ChainSpec, Rule
from acns.datapath.rules import Side
from acns.policy.model import FQDN, CIDRs, DNSServers, Everything, Host, Origin, Peer, Ports, World

_REMEMBERED_OUTSIDE = (FQDN, CIDRs, World)
_REMEMBERED = (Everything, Host)


@dataclass(frozen=True, slots=True)
class Atom:
    """One peer on one range of ports, whoever allows it; the unit of grants and of counters."""

    id: str
    peer: Peer
    set_name: str
    ports: Ports | None
    grant: int
    origins: tuple[Origin, ...]

    @property
    def text(self) -> str:
        return f"{self.peer.key} {ports_text(self.ports)}"

    @property
    def note(self) -> str:
        """The grant first: who lost the registry of grants reads it back from the kernel's comments."""
        return f"{self.grant} {self.text}"


@dataclass(frozen=True, slots=True)
class Redirect:
    """One `rules.dns` block's servers."""

    id: str
    servers: DNSServers
    exact_set: str
    network_set: str
    origins: tuple[Origin, ...]


def ports_text(ports: Ports | None) -> str:
    """`443/TCP`, `8000-8100/ANY`, or `all traffic`."""
    if ports is None:
        return "all traffic"
    if ports.first == 0:
        return f"every port/{ports.protocol.value}"
    span = str(ports.first) if ports.last <= ports.first else f"{ports.first}-{ports.last}"
    return f"{span}/{ports.protocol.value}"


def egress_chain(atoms: Iterable[Atom]) -> ChainSpec:
    """What the endpoint sends, after Service translation."""
    ordered = sorted(atoms, key=lambda atom: atom.id)
    opened_to_the_pod = _rule("ct direction reply ct state established,related accept")
    allowed = [
        Rule(
            atom.id,
            rules.join(
                _match(atom, Side.OUT), f"counter name {atom.id}", rules.set_grant(atom.grant), "accept"
            ),
            atom.note,
        )
        for atom in ordered
    ]
    body = [opened_to_the_pod, *_remembered(ordered, Side.OUT), _self(), *allowed]
    return _closed("eg", body, "")


def replies_chain(atoms: Iterable[Atom]) -> ChainSpec:
    """What comes back to the endpoint; connections opened to it are not egress's to judge."""
    ordered = sorted(atoms, key=lambda atom: atom.id)
    body = [
        _rule("ct state invalid counter name invalid drop"),
        # Else a connection that was cut comes back as the server's own once its conntrack entry is gone.
        _rule(
            "meta l4proto tcp ct direction original ct state new tcp flags & (fin | syn | rst | ack) != syn "
            "counter name midstream drop"
        ),
        _rule("ct direction original accept"),
        *_remembered(ordered, Side.BACK),
        _self(),
        *[
            Rule(
                atom.id,
                rules.join(
                    "ct direction reply ct state established",
                    _match(atom, Side.BACK),
                    rules.set_grant(atom.grant),
                    "accept",
                ),
                atom.note,
            )
            for atom in ordered
        ],
    ]
    return _closed("in", body, "ct direction reply")


def redirect_chain(redirects: Iterable[Redirect]) -> ChainSpec:
    """The DNS queries that go to the resolver."""
    body = [
        Rule(
            redirect.id,
            rules.join(match, f"counter name {redirect.id}", rules.to_proxy()),
            f"dns {redirect.servers.key}",
        )
        for redirect in sorted(redirects, key=lambda redirect: redirect.id)
        for match in rules.servers_matches(redirect.servers, redirect.exact_set, redirect.network_set)
    ]
    return ChainSpec(_name("rd", body), tuple(body))


def endpoint_chain(prefix: str, key: str, target: ChainSpec) -> ChainSpec:
    """The endpoint's own link between a map's element (`key`) and the chain that it shares with others."""
    text = f"goto {target.name}"
    return ChainSpec(f"{prefix}_{names.digest(key)}", (Rule(f"g_{names.digest(text)}", text),))


def _match(atom: Atom, side: Side) -> str:
    return rules.join(rules.peer_match(atom.peer, atom.set_name, side), rules.ports_match(atom.ports, side))


def _remembered(atoms: list[Atom], side: Side) -> list[Rule]:
    everyone = [atom.grant for atom in atoms]
    outside = [atom.grant for atom in atoms if isinstance(atom.peer, _REMEMBERED_OUTSIDE)]
    others = [atom.grant for atom in atoms if isinstance(atom.peer, _REMEMBERED)]
    # A pod or node that took over an address meanwhile is not what the name or CIDR opened.
    no_cluster = f"ip {side.address} != @{rules.CLUSTER}"
    texts = []
    if outside:
        texts.append(f"ct state established {rules.has_grant(outside)} {no_cluster} accept")
    if others:
        texts.append(f"ct state established {rules.has_grant(others)} accept")
    if everyone:
        texts.append(f"ct state related {rules.has_grant(everyone)} accept")
    return [_rule(text) for text in texts]


def _self() -> Rule:
    return _rule(f"ip saddr . ip daddr @{rules.SELF} accept", "a pod reaches itself")


def _rule(text: str, note: str = "") -> Rule:
    return Rule(f"k_{names.digest(text)}", text, note)


def _closed(prefix: str, body: list[Rule], match: str) -> ChainSpec:
    name = _name(prefix, body)
    text = rules.join(
        match,
        f"counter name {name}",
        f'log prefix "{constants.LOG_PREFIX}{name} " group {constants.NFLOG_GROUP}',
        "drop",
    )
    return ChainSpec(name, (*body, Rule(name, text, "not allowed")))


def _name(prefix: str, body: list[Rule]) -> str:
    return f"{prefix}_{names.digest(*[part for rule in body for part in (rule.id, rule.text)])}"
