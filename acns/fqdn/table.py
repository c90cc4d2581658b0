"""The policy as the gate looks it up: who asks, which server that is, and which names it may be asked for.

A table is one snapshot of the policy stream, whole. It never changes, so a snapshot takes effect at once and
in one piece, and what a snapshot no longer says is forgotten with the table before it (Cilium's proxy applies
parts one by one and keeps rules that have gone). Results are remembered per question, in bounded number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.fqdn.matcher import Matcher

WORLD_IDENTITY = 2  # Cilium's reserved identity of whatever is outside the cluster
ANY = 0  # as a server's identity, port or protocol

_REMEMBERED_RESULTS = 8_192
_REMEMBERED_SERVERS = 1_024


@dataclass(frozen=True, slots=True)
class DNSServer:
    """A class of DNS servers; 0 in any field means any."""

    identity: int
    port: int
    protocol: int

    def covers(self, identity: int, port: int, protocol: int) -> bool:
        return (
            self.identity in (ANY, identity) and self.port in (ANY, port) and self.protocol in (ANY, protocol)
        )


@dataclass(frozen=True, slots=True)
class DNSRule:
    """One endpoint may ask these servers for these names; no selector at all means every name."""

    endpoint_id: int
    selectors: tuple[FQDNSelector, ...]
    servers: tuple[DNSServer, ...]


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """An endpoint's IPv4 address (four octets), id (0: not on this node) and identity."""

    address: bytes
    endpoint_id: int
    identity: int


@dataclass(frozen=True, slots=True)
class IdentityPrefix:
    """An IPv4 network (four octets and a length) and the identity of what lies in it."""

    network: bytes
    length: int
    identity: int


class NameRules:
    """The names that somebody may ask some servers for. Equal ones of one table are one object."""

    __slots__ = ("_everything", "_matcher", "_selectors")

    def __init__(self, selectors: Iterable[FQDNSelector], *, everything: bool) -> None:
        self._everything = everything
        self._selectors = frozenset(selectors)
        self._matcher: Matcher | None = None  # made for the first name: most never hear one

    @property
    def are_none(self) -> bool:
        """Whether no rule says anything."""
        return not (self._everything or self._selectors)

    def allow(self, name: Name) -> bool:
        if self._everything:
            return True
        if self._matcher is None:
            self._matcher = Matcher(self._selectors)
        return self._matcher.matches(name)


class PolicyTable:
    """One snapshot of the policy. Looked up only; two tables with the same contents are equal."""

    def __init__(
        self,
        rules: Iterable[DNSRule] = (),
        endpoints: Iterable[EndpointAddress] = (),
        prefixes: Iterable[IdentityPrefix] = (),
    ) -> None:
        self.rules = tuple(rules)
        self.endpoints = tuple(endpoints)
        self.prefixes = tuple(prefixes)
        self._endpoint_ids = {e.address: e.endpoint_id for e in self.endpoints if e.endpoint_id}
        self._identities = {e.address: e.identity for e in self.endpoints}
        self._by_length = _by_length(self.prefixes)
        self._rules_of = _rules_of(self.rules)
        self._identity: Callable[[bytes], int] = lru_cache(_REMEMBERED_SERVERS)(self._find_identity)
        self._interned: dict[tuple[frozenset[FQDNSelector], bool], NameRules] = {}
        self._names: Callable[[int, int, int, int], NameRules] = lru_cache(_REMEMBERED_RESULTS)(
            self._find_names
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PolicyTable):
            return NotImplemented
        return (self.rules, self.endpoints, self.prefixes) == (other.rules, other.endpoints, other.prefixes)

    def __hash__(self) -> int:
        return hash((self.rules, self.endpoints, self.prefixes))

    @property
    def contradiction(self) -> str:
        """An address or a prefix of which two things are said, where the last counts; empty: none."""
        if len(self._identities) < len(self.endpoints):
            for one in self.endpoints:
                counts = self._endpoint_ids.get(one.address, 0), self._identities[one.address]
                if counts != (one.endpoint_id, one.identity):
                    return f"{IPv4Address(one.address)} is of several endpoints"
        if sum(len(networks) for _, networks in self._by_length) < len(self.prefixes):
            by_length = dict(self._by_length)
            for each in self.prefixes:
                if by_length[each.length][_bits(each)] != each.identity:
                    return f"{IPv4Address(each.network)}/{each.length} is of several identities"
        return ""

    def endpoint_of(self, source_ip: bytes) -> int | None:
        """The id of this node's endpoint with that address."""
        return self._endpoint_ids.get(source_ip)

    def identity_of(self, server_ip: bytes) -> int:
        """The identity behind an address: an endpoint's own, else the longest prefix's, else world."""
        return self._identity(server_ip)

    def names_for(self, endpoint_id: int, server_ip: bytes, port: int, protocol: int) -> NameRules:
        """The names that this endpoint may ask this server for."""
        return self._names(endpoint_id, self._identity(server_ip), port, protocol)

    def allowed(self, endpoint_id: int, server_ip: bytes, port: int, protocol: int, name: Name) -> bool:
        """Whether any rule lets this endpoint ask this server for this name."""
        return self.names_for(endpoint_id, server_ip, port, protocol).allow(name)

    def _find_identity(self, server_ip: bytes) -> int:
        exact = self._identities.get(server_ip)
        if exact is not None:
            return exact
        value = int.from_bytes(server_ip, "big")
        for length, networks in self._by_length:
            found = networks.get(value >> 32 - length)
            if found is not None:
                return found
        return WORLD_IDENTITY

    def _find_names(self, endpoint_id: int, identity: int, port: int, protocol: int) -> NameRules:
        rules = [
            rule
            for rule in self._rules_of.get(endpoint_id, ())
            if any(server.covers(identity, port, protocol) for server in rule.servers)
        ]
        selectors = frozenset(selector for rule in rules for selector in rule.selectors)
        everything = any(not rule.selectors for rule in rules)
        found = self._interned.get((selectors, everything))
        if found is None:
            found = self._interned[selectors, everything] = NameRules(selectors, everything=everything)
        return found


def _by_length(prefixes: Iterable[IdentityPrefix]) -> list[tuple[int, dict[int, int]]]:
    """Longest first: prefix length, and network (without its zero bits) to identity."""
    lengths: dict[int, dict[int, int]] = {}
    for prefix in prefixes:
        lengths.setdefault(prefix.length, {})[_bits(prefix)] = prefix.identity
    return sorted(lengths.items(), reverse=True)


def _bits(prefix: IdentityPrefix) -> int:
    return int.from_bytes(prefix.network, "big") >> 32 - prefix.length


def _rules_of(rules: Iterable[DNSRule]) -> dict[int, list[DNSRule]]:
    grouped: dict[int, list[DNSRule]] = {}
    for rule in rules:
        grouped.setdefault(rule.endpoint_id, []).append(rule)
    return grouped
