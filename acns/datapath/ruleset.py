"""Policy → nftables, as values: what one node's table must hold so that the kernel enforces a NodePolicy.

A `Compiler` says what there should be, `transaction` how to get there from what there is. What both keep
true:

* Nothing is flushed. A changed policy brings new chains beside the old ones, moves the dispatch to them and
  removes the old ones, in one commit: no packet sees anything between.
* Learned addresses are never touched by a transaction, except that a set which it makes starts full.
* The same policy compiles to the same names and texts, on every node and after every restart; so an unchanged
  policy is an empty transaction, and unchanged rules keep their counters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address

from acns.datapath import constants
from acns.datapath.compiler import Compiler
from acns.datapath.drops import DenyResponse
from acns.datapath.grants import Grants
from acns.datapath.model import Description, Inventory, Ruleset
from acns.datapath.sets import Learned
from acns.datapath.transaction import transaction
from acns.policy.model import NodePolicy

__all__ = [
    "Compiler",
    "DenyResponse",
    "Grants",
    "Inventory",
    "Ruleset",
    "compile_ruleset",
    "describe",
    "transaction",
]


def compile_ruleset(
    node: NodePolicy,
    interfaces: Mapping[IPv4Address, str],
    grants: Grants,
    learned: Learned,
    *,
    uplinks: Collection[str] = (),
    proxy_port: int = constants.PROXY_PORT,
    query_rate: int = constants.QUERY_RATE,
    transparent: bool = False,
    deny_response: DenyResponse = "none",
) -> Ruleset:
    """The table for this policy, compiled once; see `Compiler.compile`."""
    compiler = Compiler(
        grants,
        proxy_port=proxy_port,
        query_rate=query_rate,
        transparent=transparent,
        deny_response=deny_response,
    )
    return compiler.compile(node, interfaces, learned, uplinks=uplinks)


def describe(ruleset: Ruleset) -> Mapping[str, Description]:
    """Every id of the table (sets, chains, rules, counters) → what it stands for: the shim's ids file."""
    return ruleset.descriptions
