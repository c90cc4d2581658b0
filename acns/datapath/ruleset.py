"""Policy → nftables, as values: what one node's table must hold so that the kernel enforces a NodePolicy."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from acns.datapath.model import Description, Inventory, Ruleset
from acns.dns.pattern import FQDNSelector
from acns.policy.model import NodePolicy
from acns.policy.numbers import NumberRegistry


def fqdn_set_name(selector: FQDNSelector) -> str:
    """The set of a selector: `fqdn_` and ten hex digits of its key."""
    raise NotImplementedError


def compile_ruleset(
    node: NodePolicy,
    interfaces: Mapping[IPv4Address, str],
    grants: NumberRegistry,
    learned: Mapping[FQDNSelector, Mapping[IPv4Address, float]],
) -> Ruleset:
    """The table for this policy.

    `interfaces`: the node-side interface of each local endpoint that has one (an enforced endpoint without is
    shut by its address). `grants` is asked for a number per atom, then told which are live. `learned`: the
    element timeouts, in seconds from now, that a set gets if this transaction creates it.
    """
    raise NotImplementedError


def transaction(inventory: Inventory, ruleset: Ruleset) -> str:
    """The nft text that turns the one into the other, all at once; "" when there is nothing to do."""
    raise NotImplementedError


def describe(ruleset: Ruleset) -> Mapping[str, Description]:
    """Every id of the table (sets, chains, rules) → what it stands for: the shim's ids file."""
    return ruleset.descriptions
