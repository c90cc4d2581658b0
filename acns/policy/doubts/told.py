"""Which names a pod may be told over UDP, and which over TCP: clients ask over UDP, unless a resolv.conf says
`use-vc`.

Where there are pods and DNS Services, it is known which servers a rule means and what denies leave of them;
else the words of the rules decide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from acns.dns.pattern import FQDNSelector
from acns.policy.doubts.peers import includes, peers_by_words
from acns.policy.doubts.scene import Scene, Subject
from acns.policy.doubts.silent_servers import TCP, UDP, may_answer
from acns.policy.meaning import Meaning
from acns.policy.model import Direction, Protocol
from acns.policy.objects import PortSpec, Rule

Names = tuple[FQDNSelector, ...] | None
"""Of a rules.dns; None: all, by a rule without."""

_PROTOCOLS = {TCP: Protocol.TCP, UDP: Protocol.UDP}


@dataclass(frozen=True, slots=True)
class Told:
    """What servers may tell the pods of a subject. `has_servers`: whether DNS Services are known."""

    subject: Subject
    scene: Scene
    has_servers: bool

    def is_watched(self, protocol: int) -> bool:
        """Whether some rules.dns may lead to a server over this protocol."""
        return any(True for _ in self._listed(protocol))

    def names(self, protocol: int) -> Iterator[Names]:
        """Those that a server may tell over it, by each rule, as far as somebody watches."""
        yield from self._listed(protocol)
        if meaning := self._known:
            opened = (each.servers for each in meaning.dns if not each.redirects)
            if any(may_answer(servers, protocol, meaning.egress.denies, self.scene) for servers in opened):
                yield None
        elif is_all_opened(list(self.subject.may_allow_out()), protocol):
            yield None

    @property
    def _known(self) -> Meaning | None:
        return self.subject.meaning if self.has_servers else None

    def _listed(self, protocol: int) -> Iterator[Names]:
        if meaning := self._known:
            denies = meaning.egress.denies
            for allow in meaning.dns:
                if allow.redirects and may_answer(allow.servers, protocol, denies, self.scene):
                    yield allow.names
            return
        denying = [rule for spec in self.subject.specs for rule in spec.of(Direction.EGRESS) if rule.deny]
        for rule, names, port in _blocks(self.subject.may_allow_out(), protocol):
            if not any(_shuts(deny, rule, port, protocol) for deny in denying):
                yield names


def is_all_opened(rules: Collection[Rule], protocol: int) -> bool:
    """Whether a rule without rules.dns opens all names, by its port alone: which servers it means is not
    known."""
    seen = {_number_or_name(port) for _, _, port in _blocks(rules, protocol)}
    return any(
        takes(port, protocol) and _number_or_name(port) in seen
        for rule in (rules if seen else ())
        for block in rule.ports or ()
        if block.dns is None
        for port in block.ports
    )


def _blocks(
    rules: Iterable[Rule], protocol: int
) -> Iterator[tuple[Rule, tuple[FQDNSelector, ...], PortSpec]]:
    """All rules.dns over a protocol, by the words of rules."""
    for rule in rules:
        for block in rule.ports or ():
            if block.dns is not None:
                yield from ((rule, block.dns, port) for port in block.ports if takes(port, protocol))


def takes(port: PortSpec, protocol: int) -> bool:
    """Whether it means this protocol too."""
    return port.protocol in (_PROTOCOLS[protocol], Protocol.ANY)


def _shuts(deny: Rule, rule: Rule, port: PortSpec, protocol: int) -> bool:
    """Whether it surely takes all away that the rule opens at this port."""
    return _means_port(deny, port, protocol) and all(
        any(includes(wide, narrow) for wide in peers_by_words(deny)) for narrow in peers_by_words(rule)
    )


def _means_port(deny: Rule, port: PortSpec, protocol: int) -> bool:
    if deny.ports is None:
        return deny.icmps is None and not deny.selects_nothing
    return any(
        takes(each, protocol) and not each.name and _holds(each, port)
        for block in deny.ports
        for each in block.ports
    )


def _holds(wide: PortSpec, narrow: PortSpec) -> bool:
    if wide.first == 0:
        return True
    return not narrow.name and wide.first <= narrow.first and narrow.last <= wide.last


def _number_or_name(port: PortSpec) -> int | str:
    return port.name or (port.first if port.first == port.last else 0)
