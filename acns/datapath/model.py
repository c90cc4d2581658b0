"""What a node's table should hold, and what it does hold, as plain values.

`Ruleset` is the wish (compiled from a NodePolicy), `Inventory` is the kernel's answer; `transaction` is the
way from one to the other. Every rule carries its id as the first word of its comment, and the id is a digest
of the rule's text: so an inventory needs only comments to tell whether a chain is what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import Enum

from acns.policy.model import Direction, Origin


class Content(Enum):
    """Who decides what is in a set."""

    FIXED = "fixed"  # its name is a digest of its elements: never changed, only made and removed
    KEPT = "kept"  # the ruleset says; transactions bring the difference
    LEARNED = "learned"  # the cache says, through `elements`; transactions add, and take nothing out
    COUNTED = "counted"  # rules do, as packets pass


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A named set. Elements are nft text, without timeout."""

    name: str
    type: str
    content: Content
    elements: frozenset[str] = frozenset()
    flags: str = ""
    comment: str = ""
    options: str = ""  # what else nft wants to be told, as it has it


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A verdict map: key text → chain name."""

    name: str
    type: str
    elements: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `text` is everything but the comment; `id` is the comment's first word, `note` the rest."""

    id: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """A chain; `hook` is empty for the ones that maps and other chains lead to. `alone`: its rules refer to
    nothing that has a name."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""
    alone: bool = False
    ids: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(rule.id for rule in self.rules))


@dataclass(frozen=True, slots=True)
class Description:
    """What an id in the kernel stands for: the selector or peer, where policies say so, whom it serves.

    `direction` is that of the policies; None for what belongs to none. `deny`: the id of a rule that denies.
    """

    kind: str  # "rule" | "set" | "selector" | "chain" | "counter"
    text: str
    origins: tuple[Origin, ...] = ()
    endpoints: tuple[str, ...] = ()
    direction: Direction | None = None
    deny: bool = False


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The whole table, as values. Compare two with `==` to see whether anything changed.

    Sets stand in the order in which the kernel should get them: it looks for them by their names from the
    first on, each time a rule that uses one is added. `selectors`: the ids of the FQDN selectors that rules
    name. `learned`: what a transaction that brings this adds to the learned set: id → address → timeout_s.
    """

    counters: frozenset[str]
    sets: Mapping[str, SetSpec]
    maps: Mapping[str, MapSpec]
    chains: Mapping[str, ChainSpec]
    descriptions: Mapping[str, Description]
    selectors: Set[str] = frozenset()
    learned: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the kernel's table holds now: elements of the plain sets (the learned and interval ones are left
    unread), ids of rules by chain. `grants`: of rules that give one, for whoever lost the registries; empty
    in an inventory that was not read from the kernel."""

    exists: bool = False
    counters: Set[str] = frozenset()
    sets: Set[str] = frozenset()
    set_elements: Mapping[str, frozenset[str]] = field(default_factory=dict)
    map_elements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    chain_rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grants: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, ruleset: Ruleset) -> Inventory:
        """What the kernel holds once this ruleset is committed."""
        return cls(
            exists=True,
            counters=ruleset.counters,
            sets=ruleset.sets.keys(),
            set_elements={name: one.elements for name, one in ruleset.sets.items() if not one.flags},
            map_elements={name: one.elements for name, one in ruleset.maps.items()},
            chain_rules={name: chain.ids for name, chain in ruleset.chains.items()},
        )


EMPTY = Inventory()
