"""From what the kernel holds to what it should hold: one nft transaction, in an order that the kernel takes.

Things are made before they are referred to and removed after nothing refers to them. The rules of
a commit come into force together; what sets and maps hold changes with them only where that is not seen by
packets already on their way, so no element that leads to a chain is ever changed (see `chains`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

from acns.datapath import constants, names, selectors
from acns.datapath.model import ChainSpec, Content, Inventory, Ruleset, SetSpec

_TABLE = f"{constants.FAMILY} {constants.TABLE}"

COMMIT = "# commit"
"""A line in a transaction: what stands before it is committed first (to `nft -f` it is a comment)."""


def transaction(inventory: Inventory, ruleset: Ruleset) -> str:
    """The nft text that turns the one into the other, all at once; "" when there is nothing to do."""
    lines = [
        *_prepared(inventory, ruleset),
        *_new_sets_in_time(inventory, ruleset),
        *_new_alone(inventory, ruleset),
        *_new_objects(inventory, ruleset),
        *_rules(inventory, ruleset),
        *_dispatch(inventory, ruleset),
        *_elements(inventory, ruleset),
        *_learned(ruleset),
        *_stale_objects(inventory, ruleset),
    ]
    if not lines and inventory.exists:
        return ""
    return "\n".join([f"add table {_TABLE}", *lines, ""])


def _prepared(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    """New interval sets go ahead in a commit of their own; until a rule names them they do nothing.

    The kernel fills them only after the rules of the same commit are in force (measured: packets in between
    match nothing, and connections that both policies allow lose some).
    """
    if inventory.exists:
        new = [_new_set(spec) for spec in _new_sets(inventory, ruleset) if spec.content is Content.FIXED]
        if new:
            yield from (*new, COMMIT)


def _new_sets_in_time(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    for spec in _new_sets(inventory, ruleset):
        if not (inventory.exists and spec.content is Content.FIXED):
            yield _new_set(spec)


def _new_alone(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    """Chains with their rules, as early as can be: for each set that stands in a rule the kernel goes through
    all of the commit that is before it, and for each set that a rule names through all sets that were made
    before that one."""
    for name in _new(ruleset.chains, inventory.chain_rules.keys()):
        if (chain := ruleset.chains[name]).alone:
            yield _new_chain(chain)
            yield from _chain_rules(chain)


def _new_objects(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    for name in sorted(ruleset.counters - inventory.counters):
        yield f"add counter {_TABLE} {name}"
    for name, one in ruleset.maps.items():
        if name not in inventory.map_elements:
            yield f"add map {_TABLE} {name} {{ type {one.type}; }}"
    for name in _new(ruleset.chains, inventory.chain_rules.keys()):
        if not (chain := ruleset.chains[name]).alone:
            yield _new_chain(chain)


def _new_sets(inventory: Inventory, ruleset: Ruleset) -> list[SetSpec]:
    return [ruleset.sets[name] for name in _new(ruleset.sets, inventory.sets)]


def _new(wanted: Mapping[str, object], found: Set[str]) -> list[str]:
    """In their order. Most often there is none, and that is soon known."""
    return [] if wanted.keys() <= found else [name for name in wanted if name not in found]


def _new_set(spec: SetSpec) -> str:
    parts = [f"{'typeof' if spec.content is Content.LEARNED else 'type'} {spec.type};"]
    if spec.flags:
        parts.append(f"flags {spec.flags};")
    if spec.options:
        parts.append(spec.options)
    if spec.comment:
        parts.append(f'comment "{spec.comment}";')
    if spec.elements:
        parts.append(f"elements = {{ {', '.join(sorted(spec.elements))} }};")
    return f"add set {_TABLE} {spec.name} {{ {' '.join(parts)} }}"


def _new_chain(chain: ChainSpec) -> str:
    return f"add chain {_TABLE} {chain.name}" + (f" {{ {chain.hook} }}" if chain.hook else "")


def _rules(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    for name, chain in ruleset.chains.items():
        found = inventory.chain_rules.get(name)
        if found is chain.ids or found == chain.ids or (found is None and chain.alone):
            continue
        if found:
            yield f"flush chain {_TABLE} {name}"
        yield from _chain_rules(chain)


def _chain_rules(chain: ChainSpec) -> Iterator[str]:
    for rule in chain.rules:
        yield f'add rule {_TABLE} {chain.name} {rule.text} comment "{names.comment(rule.id, rule.note)}"'


def _dispatch(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    for name, one in ruleset.maps.items():
        found = inventory.map_elements.get(name, {})
        if found == one.elements:
            continue
        gone = [key for key, chain in found.items() if one.elements.get(key) != chain]
        new = [key for key, chain in one.elements.items() if found.get(key) != chain]
        yield from _change("delete", name, gone)
        yield from _change("add", name, [f"{key} : jump {one.elements[key]}" for key in new])


def _elements(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    for name, spec in ruleset.sets.items():
        if spec.content is not Content.KEPT or name not in inventory.sets:
            continue
        found = inventory.set_elements.get(name, frozenset())
        if found is spec.elements:
            continue
        yield from _change("delete", name, found - spec.elements)
        yield from _change("add", name, spec.elements - found)


def _learned(ruleset: Ruleset) -> Iterator[str]:
    """One line for each selector: a list of all might be too long for one message."""
    for id_, timeouts_s in sorted(ruleset.learned.items()):
        yield from _change(
            "add",
            selectors.LEARNED,
            [
                f"{selectors.element(id_, address)} timeout {max(1, round(timeout_s * 1000))}ms"
                for address, timeout_s in timeouts_s.items()
            ],
        )


def _change(verb: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    ordered = sorted(elements)
    if ordered:
        yield f"{verb} element {_TABLE} {name} {{ {', '.join(ordered)} }}"


def _stale_objects(inventory: Inventory, ruleset: Ruleset) -> Iterator[str]:
    """References first (map elements, rules), then what they referred to."""
    stale_maps = sorted(inventory.map_elements.keys() - ruleset.maps.keys())
    stale_chains = sorted(inventory.chain_rules.keys() - ruleset.chains.keys())
    stale_sets = sorted(inventory.sets - ruleset.sets.keys())
    yield from (f"flush map {_TABLE} {name}" for name in stale_maps)
    yield from (f"flush chain {_TABLE} {name}" for name in stale_chains)
    yield from (f"delete chain {_TABLE} {name}" for name in stale_chains)
    yield from (f"delete map {_TABLE} {name}" for name in stale_maps)
    yield from (f"delete set {_TABLE} {name}" for name in stale_sets)
    yield from (f"delete counter {_TABLE} {name}" for name in sorted(inventory.counters - ruleset.counters))
