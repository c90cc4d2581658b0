"""From one state of the table to another: order, and nothing that does not need to change."""

from __future__ import annotations

from dataclasses import replace

from acns.datapath.model import EMPTY, ChainSpec, Content, Inventory, MapSpec, Rule, Ruleset, SetSpec
from acns.datapath.transaction import transaction

KEPT = SetSpec("peers", "ipv4_addr", Content.KEPT, frozenset({"192.0.2.1"}))
LEARNED = SetSpec("learned", "numgen inc mod 2 . ip daddr", Content.LEARNED, flags="timeout")
KNOWN = {"fqdn_0000070009": {"192.0.2.9": 1.5}}
CHAIN = ChainSpec("eg_1", (Rule("r_1", "ip daddr @peers accept", "a note"), Rule("eg_1", "drop")))
BASE = ChainSpec(
    "base", (Rule("b_1", "vmap @egress"),), "type filter hook forward priority 0; policy accept;"
)


def table(*chains: ChainSpec, sets: tuple[SetSpec, ...] = (KEPT, LEARNED)) -> Ruleset:
    dispatch = {'"v" . 10.0.0.1': chains[-1].name} if chains else {}
    return Ruleset(
        counters=frozenset({"r_1"}),
        sets={one.name: one for one in sets},
        maps={"egress": MapSpec("egress", "ifname . ipv4_addr : verdict", dispatch)},
        chains={one.name: one for one in chains},
        descriptions={},
        selectors=KNOWN.keys(),
    )


def lines(before: Inventory, after: Ruleset) -> list[str]:
    return [line.replace(" inet acns", "") for line in transaction(before, after).splitlines()[1:]]


def test_what_is_there_already_needs_no_transaction() -> None:
    ruleset = table(BASE, CHAIN)
    assert transaction(Inventory.of(ruleset), ruleset) == ""


def test_a_new_table_is_made_in_the_order_of_references() -> None:
    verbs = [" ".join(line.split()[:2]) for line in lines(EMPTY, replace(table(BASE, CHAIN), learned=KNOWN))]
    assert verbs == sorted(
        verbs, key=["add set", "add counter", "add map", "add chain", "add rule", "add element"].index
    )
    assert "add set learned { typeof numgen inc mod 2 . ip daddr; flags timeout; }" in lines(EMPTY, table())


def test_chains_that_refer_to_nothing_go_ahead_with_their_rules_behind_the_sets_alone() -> None:
    alone = ChainSpec("lv_1", (Rule("lv_1", "ct mark & 0xffff { 1, 2 } accept"),), alone=True)
    added = ["add chain lv_1", 'add rule lv_1 ct mark & 0xffff { 1, 2 } accept comment "lv_1"']
    found = lines(EMPTY, table(BASE, alone, CHAIN))
    at = found.index(added[0])
    assert found[at : at + 2] == added
    assert found.count(added[0]) == found.count(added[1]) == 1
    assert {" ".join(line.split()[:2]) for line in found[:at]} == {"add set"}
    assert not any(line.startswith("add set") for line in found[at:])
    assert lines(Inventory.of(table(BASE, CHAIN)), table(BASE, alone, CHAIN)) == added


def test_a_chain_that_refers_to_nothing_and_was_emptied_is_filled_again() -> None:
    alone = ChainSpec("lv_1", (Rule("lv_1", "ct mark & 0xffff { 1, 2 } accept"),), alone=True)
    ruleset = table(BASE, alone, CHAIN)
    found = Inventory.of(ruleset)
    emptied = replace(found, chain_rules={**found.chain_rules, "lv_1": ()})
    assert lines(emptied, ruleset) == [
        'add rule lv_1 ct mark & 0xffff { 1, 2 } accept comment "lv_1"',
    ]


def test_a_changed_policy_moves_the_dispatch_and_flushes_nothing_in_use() -> None:
    new = ChainSpec("eg_2", (Rule("r_2", "accept"), Rule("eg_2", "drop")))
    assert lines(Inventory.of(table(BASE, CHAIN)), table(BASE, new)) == [
        "add chain eg_2",
        'add rule eg_2 accept comment "r_2"',
        'add rule eg_2 drop comment "eg_2"',
        'delete element egress { "v" . 10.0.0.1 }',
        'add element egress { "v" . 10.0.0.1 : jump eg_2 }',
        "flush chain eg_1",
        "delete chain eg_1",
    ]


def test_a_new_interval_set_of_a_table_in_use_goes_ahead_in_its_own_commit() -> None:
    cidr = SetSpec("cidr", "ipv4_addr", Content.FIXED, frozenset({"192.0.2.0/24"}), flags="interval")
    new = ChainSpec("eg_1", (Rule("r_3", "ip daddr @cidr accept"),))
    ruleset = table(BASE, new, sets=(KEPT, LEARNED, cidr))
    found = lines(Inventory.of(table(BASE, CHAIN)), ruleset)
    assert found[:2] == [
        "add set cidr { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }",
        "# commit",
    ]
    assert not any(line.startswith("add set") for line in found[2:])
    assert "# commit" not in lines(EMPTY, ruleset)


def test_only_the_difference_of_kept_elements_is_sent() -> None:
    before = Inventory.of(table(BASE, CHAIN))
    after = replace(KEPT, elements=frozenset({"192.0.2.1", "192.0.2.2"}))
    assert lines(before, table(BASE, CHAIN, sets=(after, LEARNED))) == ["add element peers { 192.0.2.2 }"]
    gone = replace(KEPT, elements=frozenset())
    assert lines(before, table(BASE, CHAIN, sets=(gone, LEARNED))) == ["delete element peers { 192.0.2.1 }"]


def test_learned_addresses_are_added_and_nothing_that_is_learned_is_taken_out() -> None:
    before = replace(table(BASE, CHAIN), learned=KNOWN)
    assert lines(Inventory.of(before), table(BASE, CHAIN)) == []
    assert lines(Inventory.of(table(BASE, CHAIN)), before) == [
        "add element learned { 7 . 9 . 192.0.2.9 timeout 1500ms }"
    ]


def test_a_chain_that_somebody_changed_is_rewritten() -> None:
    ruleset = table(BASE, CHAIN)
    found = Inventory.of(ruleset)
    meddled = replace(found, chain_rules={**found.chain_rules, "base": ("", "b_1")})
    assert lines(meddled, ruleset) == ["flush chain base", 'add rule base vmap @egress comment "b_1"']


def test_what_nobody_asked_for_is_removed_references_first() -> None:
    ruleset = table(BASE, CHAIN)
    found = Inventory.of(ruleset)
    cluttered = replace(
        found,
        counters=found.counters | {"old"},
        sets=found.sets | {"old_set"},
        map_elements={**found.map_elements, "old_map": {"x": "old_chain"}},
        chain_rules={**found.chain_rules, "old_chain": ("r",)},
    )
    assert lines(cluttered, ruleset) == [
        "flush map old_map",
        "flush chain old_chain",
        "delete chain old_chain",
        "delete map old_map",
        "delete set old_set",
        "delete counter old",
    ]
