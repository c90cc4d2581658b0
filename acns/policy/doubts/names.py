"""toFQDNs and rules.dns that miss each other: names that are opened and never learned, or looked up in vain.

Addresses of names are learned from the answers that pods get. So a toFQDNs entry opens nothing unless its pod
may ask a DNS server (`dns-missing`), and may ask it for a name that the entry matches (`fqdn-not-in-dns`):
over UDP, as clients do.
Where a pod may ask for `example.com` itself, and of its toFQDNs entries only `*.example.com` comes near, the
pattern surely was to match it, and does not (`apex-not-matched`).

What is said holds for the first pod by name of all that a rule is wrong for; a policy that selects no pod yet
is judged with those that can select the same pods. In case of doubt there is none: a name counts as asked for
if any rule lets the pod ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector, match_name
from acns.policy.codes import Code
from acns.policy.doubts.scene import Doubt, Scene, Subject, at_entry, at_rule
from acns.policy.doubts.silent_servers import DNS_PORT, TCP, UDP
from acns.policy.doubts.told import Told, is_all_opened, takes
from acns.policy.model import FQDN, Addresses, Direction, Origin, Peer
from acns.policy.objects import PortBlock, PortSpec, Rule, SelectedFQDN
from acns.policy.overlap import Overlaps
from acns.policy.peers import peers_of
from acns.policy.profiles import is_address
from acns.policy.view import View

_TAKE_UDP = "let its rules.dns take UDP too (protocol: ANY)"


@dataclass(frozen=True, slots=True)
class _Finding:
    """A doubt about a rule, or about one entry of its toFQDNs."""

    code: Code
    rule: Rule
    message: str
    hint: str
    entry: SelectedFQDN | None = None

    def doubt(self) -> Doubt:
        if self.entry is None:
            return at_rule(self.code, self.rule.origin, self.message, self.hint)
        return at_entry(self.code, self.rule, self.entry, self.message, self.hint)


def doubts(scene: Scene) -> Iterator[Doubt]:
    anywhere = _Anywhere(scene)
    said: set[tuple[Code, Origin, SelectedFQDN | None]] = set()
    for subject in scene.subjects:
        for each in _Judge(subject, scene, anywhere).findings():
            key = (each.code, each.rule.origin, each.entry)
            if key not in said:
                said.add(key)
                yield each.doubt()


class _Judge:
    """Judges the egress rules of one subject."""

    def __init__(self, subject: Subject, scene: Scene, anywhere: _Anywhere) -> None:
        self._subject = subject
        self._scene = scene
        self._anywhere = anywhere
        wanted = [(rule, peer) for rule in subject.allows_out() for peer in _fqdns(rule)]
        # Addresses, too, open nothing whatever rules.dns says; which reading has doubted.
        self._wanted = [(rule, peer) for rule, peer in wanted if not is_address(peer.selector)]

    def findings(self) -> Iterator[_Finding]:
        if not self._wanted or not self._subject.denies_out:
            return
        if not self._may_ask():
            yield from self._dns_missing(
                "no rule lets it ask a DNS server over UDP",
                "add an egress rule with toEndpoints for kube-dns, toPorts 53 and rules.dns",
            )
        elif self._told.is_watched(UDP):
            yield from self._not_asked()
            yield from self._apex()
        elif any(True for _ in self._blocks()) and not self._has_udp:
            yield from self._dns_missing("no rules.dns takes UDP", f"{_TAKE_UDP}, and these names")
        elif any(True for _ in self._blocks()):
            yield from self._dns_missing(
                "no DNS server is at the peers and ports of its rules.dns, or all are denied over UDP",
                "policy.explain POD --dns NAME says which; kube-dns is in the namespace kube-system, and no "
                "CIDR selects it",
            )
        else:
            for rule, _ in self._by_rule():
                message = f"{self._nothing}: no rules.dns sees what it looks up"
                hint = "add rules.dns with these names to the rule that lets it ask the DNS server"
                yield _Finding(Code.FQDN_NOT_IN_DNS, rule, message, hint)

    def _may_ask(self) -> bool:
        if not self._anywhere.has_ways:
            return False
        return any(map(self._anywhere.lets_dns_through, self._subject.may_allow_out()))

    def _dns_missing(self, why: str, hint: str) -> Iterator[_Finding]:
        for rule, entries in self._by_rule():
            if any(map(self._is_told_over_tcp, entries)):
                message = f"{self._nothing} unless it asks over TCP (use-vc in its resolv.conf): {why}"
                yield _Finding(Code.DNS_MISSING, rule, message, hint if self._has_udp else _TAKE_UDP)
            else:
                yield _Finding(Code.DNS_MISSING, rule, f"{self._nothing}: {why}", hint)

    def _by_rule(self) -> Iterable[tuple[Rule, list[FQDNSelector]]]:
        """The rules with toFQDNs, and their names."""
        found: dict[int, tuple[Rule, list[FQDNSelector]]] = {}
        for rule, peer in self._wanted:
            found.setdefault(id(rule), (rule, []))[1].append(peer.selector)
        return found.values()

    @property
    def _nothing(self) -> str:
        return f"toFQDNs opens nothing for {self._subject.who}"

    @cached_property
    def _told(self) -> Told:
        return Told(self._subject, self._scene, bool(self._anywhere.backends))

    # --- names -----------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[PortBlock]:
        """All `rules.dns`."""
        return _dns_blocks(self._subject.may_allow_out() if self._anywhere.has_blocks else ())

    @cached_property
    def _has_udp(self) -> bool:
        """Whether some `rules.dns` takes UDP."""
        return any(takes(port, UDP) for block in self._blocks() for port in block.ports)

    def _not_asked(self) -> Iterator[_Finding]:
        """Nearly all names are asked for by rules that surely apply: the others are looked for last."""
        surely = Overlaps(_asked(self._subject.allows_out()))
        left = [(rule, peer) for rule, peer in self._wanted if not surely.any(peer.selector)]
        if not left or self._may_ask_everything():
            return
        for rule, peer in left:
            entry = peer.selector
            if not (self._anywhere.asked.any(entry) and self._is_asked(entry)):
                opens = f"'{_text(entry)}' opens nothing for {self._subject.who}"
                if self._anywhere.asked_over_tcp.any(entry) and self._is_told_over_tcp(entry):
                    message = (
                        f"{opens} unless it asks over TCP: no rules.dns that takes UDP lets it ask for it"
                    )
                    yield _Finding(Code.FQDN_NOT_IN_DNS, rule, message, _TAKE_UDP, peer)
                else:
                    message = f"{opens}: no rules.dns lets it ask for it"
                    yield _Finding(Code.FQDN_NOT_IN_DNS, rule, message, "add it to rules.dns", peer)

    def _is_asked(self, entry: FQDNSelector) -> bool:
        return entry in self._asked or self._all_asked.any(entry)

    @cached_property
    def _asked(self) -> set[FQDNSelector]:
        return set(_asked(self._subject.may_allow_out()))

    @cached_property
    def _all_asked(self) -> Overlaps:
        return Overlaps(self._asked)

    def _is_told_over_tcp(self, entry: FQDNSelector) -> bool:
        has_all, names = self._told_over_tcp
        return has_all or names.any(entry)

    @cached_property
    def _told_over_tcp(self) -> tuple[bool, Overlaps]:
        """Whether all names are, and those that rules say."""
        told = list(self._told.names(TCP)) if self._anywhere.has_blocks else []
        return None in told, Overlaps(name for names in told for name in names or ())

    def _may_ask_everything(self) -> bool:
        """A rule without rules.dns opens all names of the servers that it speaks of. Which these are is known
        where there are any; else the port decides."""
        meaning = self._subject.meaning
        if meaning is not None and meaning.dns:
            return any(allow.names is None for allow in meaning.dns)
        if not self._anywhere.is_all_opened:
            return False
        rules = list(self._subject.may_allow_out())
        return any(is_all_opened(rules, protocol) for protocol in (UDP, TCP))

    def _apex(self) -> Iterator[_Finding]:
        for rule, peer in self._wanted:
            entry = peer.selector
            bare = _bare(entry)
            apex = _apex_of(entry)
            if apex is None or not any(name.matches(apex) for name in self._asked_about.get(bare, ())):
                continue
            if not self._is_opened(match_name(bare)):
                asks = f"which rules.dns lets {self._subject.who} ask for"
                message = f"'{_text(entry)}' does not match '{bare}', {asks}"
                yield _Finding(Code.APEX_NOT_MATCHED, rule, message, f"add matchName: {bare}", peer)

    def _is_opened(self, name: FQDNSelector) -> bool:
        """Whether some toFQDNs may open it."""
        return self._opened.any(name) or self._perhaps_opened.any(name)

    @cached_property
    def _opened(self) -> Overlaps:
        """The names that some toFQDNs surely opens."""
        return Overlaps(peer.selector for rule in self._subject.allows_out() for peer in _fqdns(rule))

    @cached_property
    def _perhaps_opened(self) -> Overlaps:
        return Overlaps(peer.selector for rule in self._subject.may_allow_out() for peer in _fqdns(rule))

    @cached_property
    def _asked_about(self) -> dict[str, list[FQDNSelector]]:
        """The names that it surely may look up, by the domain that they are about."""
        found: dict[str, list[FQDNSelector]] = {}
        for name in set(_asked(self._subject.allows_out())):
            found.setdefault(_bare(name), []).append(name)
        return found


class _Anywhere:
    """What holds of all rules there are, and so spares looking at each subject's; and which of them are ways
    to a DNS server, by their own words: which server they mean may not be there yet."""

    def __init__(self, scene: Scene) -> None:
        specs = (spec for policy in scene.cluster.policies for spec in policy.specs)
        rules = [rule for spec in specs for rule in spec.of(Direction.EGRESS) if not rule.deny]
        self._view = View(scene.directory, "")
        self._known: dict[int, bool] = {}  # by the rule's identity
        self.asked = Overlaps(_asked(rules))
        self.asked_over_tcp = Overlaps(_asked(rules, TCP))
        self.has_blocks = any(True for _ in _dns_blocks(rules))
        self.has_ways = any(map(self.lets_dns_through, rules))
        self.is_all_opened = any(is_all_opened(rules, protocol) for protocol in (UDP, TCP))

    def lets_dns_through(self, rule: Rule) -> bool:
        if id(rule) not in self._known:
            self._known[id(rule)] = self._lets_dns_through(rule)
        return self._known[id(rule)]

    def _lets_dns_through(self, rule: Rule) -> bool:
        if any(takes(port, UDP) for block in _dns_blocks([rule]) for port in block.ports):
            return True
        if rule.icmps is not None:
            return False
        peers = [peer for peer in peers_of(rule, self._view) if not isinstance(peer, FQDN)]
        ports = [port for block in rule.ports or () for port in block.ports]
        if any(_names_dns(port) for port in ports):
            return bool(peers)
        if rule.ports is None or any(_includes_dns(port) for port in ports):
            return any(self._may_hold_dns(peer) for peer in peers)
        return False

    def _may_hold_dns(self, peer: Peer) -> bool:
        """Whether a rule for all ports of `peer` reaches a DNS server, as far as Services tell."""
        if not isinstance(peer, Addresses):
            return True
        if self.backends:
            return not self._view.members(peer.key).isdisjoint(self.backends)
        return any(word in peer.key for word in ("dns", "kube-system", "entity:cluster"))

    @cached_property
    def backends(self) -> set[IPv4Address]:
        fronts = self._view.directory.services.fronts.values()
        return {address for front in fronts if front.port == DNS_PORT for address, _ in front.backends}


def _asked(rules: Iterable[Rule], protocol: int = UDP) -> Iterator[FQDNSelector]:
    """The names that rules.dns over this protocol let a pod ask for."""
    for block in _dns_blocks(rules):
        if any(takes(port, protocol) for port in block.ports):
            yield from block.dns or ()


def _dns_blocks(rules: Iterable[Rule]) -> Iterator[PortBlock]:
    return (block for rule in rules for block in rule.ports or () if block.dns is not None)


def _fqdns(rule: Rule) -> Iterator[SelectedFQDN]:
    return (peer for peer in rule.peers or () if isinstance(peer, SelectedFQDN))


def _text(selector: FQDNSelector) -> str:
    """As people write it."""
    return selector.text.removesuffix(".")


def _bare(selector: FQDNSelector) -> str:
    """`example.com` of itself, `*.example.com` and `*example.com`."""
    return _text(selector).lstrip("*.")


def _apex_of(selector: FQDNSelector) -> Name | None:
    """`example.com` of `*.example.com`; None where it has no such form."""
    first, _, rest = selector.text.partition(".")
    return match_name(rest).literal if first in ("*", "**") and rest and "*" not in rest else None


def _names_dns(port: PortSpec) -> bool:
    by_number = port.first == port.last == DNS_PORT
    return takes(port, UDP) and (by_number or port.name.startswith("dns"))


def _includes_dns(port: PortSpec) -> bool:
    if not takes(port, UDP) or port.name:
        return False
    return port.first == 0 or port.first <= DNS_PORT <= port.last
