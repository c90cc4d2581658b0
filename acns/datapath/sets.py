"""The sets behind peers and DNS servers: which set a peer has, what it is called, what is in it at first.

* A selector's learned addresses, and the pods a selector names, are sets called after the *selector*: they
  stay while their contents change.
* CIDRs are interval sets called after their *contents*, since touching one costs a hundred times a plain one;
  so are the sets of DNS servers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from acns.datapath import constants, names, rules
from acns.datapath.model import Content, SetSpec
from acns.dns.pattern import FQDNSelector
from acns.policy.model import FQDN, Addresses, CIDRs, DNSServers, Peer

Learned = Mapping[FQDNSelector, Mapping[IPv4Address, float]]


@functools.lru_cache(maxsize=1 << 14)
def fqdn_set_name(selector: FQDNSelector) -> str:
    """The set of a selector: `fqdn_` and ten hex digits of its key."""
    return f"fqdn_{names.digest(selector.key)}"


def fqdn_set_of(set_id: bytes) -> str:
    """The set with that id, as `fqdn_set_id` gives it."""
    return f"fqdn_{set_id.hex()}"


def fqdn_set_id(selector: FQDNSelector) -> bytes:
    """What tells a selector's set from others: the five octets of its name's digits."""
    return bytes.fromhex(names.digest(selector.key))


def peer_set(peer: Peer) -> SetSpec | None:
    """The set of a peer that has one; still without the members of a group."""
    match peer:
        case FQDN(selector=selector):
            return _keyed(fqdn_set_name(selector), Content.LEARNED, selector.text, flags="timeout")
        case Addresses(key=key):
            return _keyed(f"peers_{names.digest(key)}", Content.KEPT, key)
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


def _keyed(name: str, content: Content, text: str, flags: str = "") -> SetSpec:
    comment = names.quotable(text, constants.SELECTOR_COMMENT_BYTES)
    return SetSpec(name, "ipv4_addr", content, flags=flags, comment=comment)
