"""The sets behind peers and DNS servers: which set a peer has, what it is called, what is in it at first.

* The pods that a selector names are a set called after the *selector*: it stays while its contents change.
* Addresses that names have opened are all in one set (`selectors`).
* CIDRs are interval sets called after their *contents*, since touching one costs a hundred times a plain one;
  so are the sets of DNS servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from acns.datapath import constants, names, rules, selectors
from acns.datapath.model import Content, SetSpec
from acns.dns.pattern import FQDNSelector
from acns.policy.model import Addresses, CIDRs, DNSServers, Peer

Learned = Mapping[FQDNSelector, Mapping[IPv4Address, float]]

LEARNED = SetSpec(selectors.LEARNED, selectors.KEY_TYPE, Content.LEARNED, flags="timeout")


def by_id(learned: Learned) -> dict[str, dict[str, float]]:
    """The same by the selectors' ids, in the words of nft."""
    return {
        selectors.selector_id(selector): {str(one): timeout_s for one, timeout_s in timeouts_s.items()}
        for selector, timeouts_s in learned.items()
        if timeouts_s
    }


def peer_set(peer: Peer) -> SetSpec | None:
    """The set of a peer that has one of its own; still without the members of a group."""
    match peer:
        case Addresses(key=key):
            comment = names.quotable(key, constants.SELECTOR_COMMENT_BYTES)
            return SetSpec(f"peers_{names.digest(key)}", "ipv4_addr", Content.KEPT, comment=comment)
        case CIDRs(networks=networks):
            return cidr_set(networks)
        case _:
            return None


def exact_server_set(servers: DNSServers) -> SetSpec:
    """Address, protocol and port of the exact servers of a `rules.dns` block."""
    elements = frozenset(
        f"{server.address} . {rules.protocol(server.protocol)} . {server.port}" for server in servers.exact
    )
    return SetSpec(
        name=f"dns_{names.digest(*sorted(elements))}",
        type="ipv4_addr . inet_proto . inet_service",
        content=Content.KEPT,
        elements=elements,
    )


def cidr_set(networks: Iterable[IPv4Network]) -> SetSpec:
    """An interval set, shared by all whose networks come to the same addresses."""
    elements = [str(network) for network in collapse_addresses(networks)]
    return SetSpec(
        name=f"cidr_{names.digest(*elements)}",
        type="ipv4_addr",
        content=Content.FIXED,
        elements=frozenset(elements),
        flags="interval",
    )


def kept(name: str, set_type: str, elements: Iterable[str]) -> SetSpec:
    """A set whose elements the ruleset keeps."""
    return SetSpec(name, set_type, Content.KEPT, frozenset(elements))
