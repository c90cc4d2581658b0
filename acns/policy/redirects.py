"""What an endpoint may ask DNS servers: `rules.dns` blocks, and the plain rules that open them wider.

Most rules of a cluster name the same few servers: these are expanded once (`Expansions`) and again only when
somebody moved who is, or may be, one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from acns.policy.changes import Moves
from acns.policy.model import Addresses, DNSAllow, DNSServers, Host, Match, Origin, ServerAddress
from acns.policy.rules import Resolved, Target, Targets
from acns.policy.servers import Undecidable, is_wide, opened_by, servers_of, without_denied
from acns.policy.traffic import includes, packet
from acns.policy.view import View


@dataclass(frozen=True, slots=True)
class Expansion:
    """The servers at some targets, and the Services that may or may not be among them."""

    servers: DNSServers | None
    undecidable: tuple[Undecidable, ...]


@dataclass(frozen=True, slots=True)
class Redirects:
    """The DNS side of an endpoint. What it was made from: `targets` (keys of expansions) and `groups` (those
    whose members decide about the servers); `undecidable`: of which Services, and by which rule."""

    dns: tuple[DNSAllow, ...] = ()
    undecidable: tuple[tuple[Origin, Undecidable], ...] = ()
    targets: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


class Expansions:
    """The servers at all targets that were asked for."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._known: dict[str, tuple[Targets, Expansion]] = {}

    def of(self, key: str, targets: Targets) -> Expansion:
        """The servers at `targets`, whose key is `key`."""
        if key not in self._known:
            undecidable: list[Undecidable] = []
            servers = servers_of(targets, self.view, undecidable.append)
            self._known[key] = targets, Expansion(servers, tuple(sorted(undecidable)))
        return self._known[key][1]

    def update(self, moves: Moves) -> set[str]:
        """Forget what may not hold any more; returns the keys."""
        stale = {key for key, (targets, _) in self._known.items() if self._is_stale(targets, moves)}
        for key in stale:
            del self._known[key]
        return stale

    def keep_only(self, keys: Iterable[str]) -> None:
        """Forget all others."""
        for key in self._known.keys() - set(keys):
            del self._known[key]

    def _is_stale(self, targets: Targets, moves: Moves) -> bool:
        behind = self.view.directory.services.before.keys()
        may_answer = bool(moves.backends) or not behind.isdisjoint(moves.addresses)
        return moves.nodes or any(
            may_answer if is_wide(target) else self._is_touched(target, moves) for target in targets
        )

    def _is_touched(self, target: Target, moves: Moves) -> bool:
        """Pods are touched by what happens to them, and by what happens to Services before them."""
        view = self.view
        match target.peer:
            case Addresses(key):
                return key in view.touched or not view.members(key).isdisjoint(moves.backends)
            case Host():
                return not view.directory.addresses_of(view.node_name).isdisjoint(moves.backends)
        return False


def redirects(
    allows: Sequence[Resolved], denies: Sequence[Match], names_count: bool, expansions: Expansions
) -> Redirects:
    """The DNS side of an endpoint's egress rules. `names_count` False: they deny nothing by default, so no
    names either (Cilium adds `*`, l4_filter.go)."""
    blocks = [block for each in allows for block in each.blocks]
    asked = {(target.protocol, target.port) for block in blocks for target in block.targets}
    if not asked:
        return Redirects()
    denies = [each for each in denies if any(includes(each.traffic, packet(*port)) for port in asked)]
    plain = [each for each in allows if not asked.isdisjoint(_ports(each.plain))]
    maker = _Maker(expansions, denies)
    redirecting = [found for each in allows for found in maker.redirecting(each, names_count)]
    opening = [found for each in plain for found in maker.opening(each, redirecting)]
    peers = (*(match.peer for match in denies), *(target.peer for each in plain for target in each.plain))
    return Redirects(
        dns=(*redirecting, *opening, *_refusing(maker.undecidable, redirecting)),
        undecidable=tuple(maker.undecidable),
        targets=frozenset(block.key for block in blocks),
        groups=frozenset(peer.key for peer in peers if isinstance(peer, Addresses)),
    )


class _Maker:
    """Makes the entries of one endpoint."""

    def __init__(self, expansions: Expansions, denies: Sequence[Match]) -> None:
        self.undecidable: list[tuple[Origin, Undecidable]] = []
        self._expansions = expansions
        self._view = expansions.view
        self._denies = denies

    def redirecting(self, rule: Resolved, names_count: bool) -> Iterator[DNSAllow]:
        for block in rule.blocks:
            expansion = self._expansions.of(block.key, block.targets)
            self.undecidable += ((rule.origin, each) for each in expansion.undecidable)
            if servers := self._without_denied(expansion.servers, rule.origin):
                yield DNSAllow(servers, block.names if names_count else None, True, rule.origin)

    def opening(self, rule: Resolved, redirecting: Iterable[DNSAllow]) -> Iterator[DNSAllow]:
        for servers in {allow.servers.key: allow.servers for allow in redirecting}.values():
            opened = opened_by(rule.plain, servers, self._view)
            if opened := self._without_denied(opened, rule.origin):
                yield DNSAllow(opened, names=None, redirects=False, origin=rule.origin)

    def _without_denied(self, servers: DNSServers | None, origin: Origin) -> DNSServers | None:
        if servers is None or not self._denies:
            return servers
        return without_denied(
            servers, self._denies, self._view, lambda found: self.undecidable.append((origin, found))
        )


def _refusing(
    undecidable: Iterable[tuple[Origin, Undecidable]], redirecting: Iterable[DNSAllow]
) -> Iterator[DNSAllow]:
    """Their queries go to the resolver too, which has no names for them; unless another rule decides."""
    decided = frozenset[ServerAddress]().union(*(allow.servers.exact for allow in redirecting))
    left: dict[Origin, set[ServerAddress]] = {}
    for origin, each in undecidable:
        if each.server not in decided:
            left.setdefault(origin, set()).add(each.server)
    for origin, servers in left.items():
        key = "undecidable:" + ",".join(f"{one.address}:{one.port}/{one.protocol}" for one in sorted(servers))
        yield DNSAllow(DNSServers(key, frozenset(servers)), (), True, origin)


def _ports(targets: Targets) -> Iterator[tuple[int, int]]:
    return ((target.protocol, target.port) for target in targets)
