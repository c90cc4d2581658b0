"""The sets behind peers and DNS servers: which set a peer has, what it is called, what is in it at first.

* A selector's learned addresses, and the pods a selector names, are sets called after the *selector*: they
  stay while their contents change. Two peers that claim the same text for different addresses get sets of
  their own, called after text and contents, so that neither opens the other's.
* CIDRs are interval sets called after their *contents*, since touching one costs a hundred times a plain one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import TypeVar

from acns.datapath import constants, names, rules
from acns.datapath.model import Content, SetSpec
from acns.dns.pattern import FQDNSelector
from acns.policy.model import FQDN, Addresses, CIDRs, DNSServers, Peer

Learned = Mapping[FQDNSelector, Mapping[IPv4Address, float]]

_Keyed = TypeVar("_Keyed", Addresses, DNSServers)


def fqdn_set_name(selector: FQDNSelector) -> str:
    """The set of a selector: `fqdn_` and ten hex digits of its key."""
    return f"fqdn_{names.digest(selector.key)}"


def peer_sets(peers: Iterable[Peer], learned: Learned) -> dict[Peer, SetSpec]:
    """The set of each peer that has one."""
    everyone = set(peers)
    pods = _keyed_sets(
        [peer for peer in everyone if isinstance(peer, Addresses)],
        "peers",
        "ipv4_addr",
        lambda peer: frozenset(map(str, peer.addresses)),
    )
    sets: dict[Peer, SetSpec] = {peer: spec for peer, spec in pods.items()}  # noqa: C416
    for peer in everyone:
        if isinstance(peer, FQDN):
            sets[peer] = _fqdn_set(peer.selector, learned.get(peer.selector, {}))
        elif isinstance(peer, CIDRs):
            sets[peer] = cidr_set(peer.networks, peer.key)
    return sets


def exact_server_sets(servers: Iterable[DNSServers]) -> dict[DNSServers, SetSpec]:
    """Address, protocol and port of the exact servers of each `rules.dns` block."""
    return _keyed_sets(
        [one for one in servers if one.exact],
        "dns",
        "ipv4_addr . inet_proto . inet_service",
        lambda one: frozenset(
            f"{server.address} . {rules.protocol(server.protocol)} . {server.port}" for server in one.exact
        ),
    )


def cidr_set(networks: Iterable[IPv4Network], note: str) -> SetSpec:
    """An interval set, shared by all whose networks come to the same addresses."""
    elements = [str(network) for network in collapse_addresses(networks)]
    return SetSpec(
        name=f"cidr_{names.digest(*elements)}",
        type="ipv4_addr",
        content=Content.FIXED,
        elements=frozenset(elements),
        flags="interval",
        comment=names.quotable(note, constants.SELECTOR_COMMENT_BYTES),
    )


def kept(name: str, set_type: str, elements: Iterable[str]) -> SetSpec:
    """A set whose elements the ruleset keeps."""
    return SetSpec(name, set_type, Content.KEPT, frozenset(elements))


def _fqdn_set(selector: FQDNSelector, timeouts: Mapping[IPv4Address, float]) -> SetSpec:
    return SetSpec(
        name=fqdn_set_name(selector),
        type="ipv4_addr",
        content=Content.LEARNED,
        flags="timeout",
        comment=names.quotable(selector.text, constants.SELECTOR_COMMENT_BYTES),
        timeouts_s={str(address): timeout_s for address, timeout_s in timeouts.items()},
    )


def _keyed_sets(
    keyed: list[_Keyed], prefix: str, set_type: str, elements_of: Callable[[_Keyed], frozenset[str]]
) -> dict[_Keyed, SetSpec]:
    claims: defaultdict[str, set[frozenset[str]]] = defaultdict(set)
    for one in keyed:
        claims[one.key].add(elements_of(one))
    sets = {}
    for one in keyed:
        elements = elements_of(one)
        contents = sorted(elements) if len(claims[one.key]) > 1 else []
        sets[one] = SetSpec(
            name=f"{prefix}_{names.digest(one.key, *contents)}",
            type=set_type,
            content=Content.KEPT,
            elements=elements,
            comment=names.quotable(one.key, constants.SELECTOR_COMMENT_BYTES),
        )
    return sets
