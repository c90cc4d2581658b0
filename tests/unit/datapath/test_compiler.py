"""Compiling what has changed comes to the same as compiling everything, and keeps the rest as it is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings

from acns.datapath import ruleset
from acns.datapath.ruleset import Compiler, Grants
from acns.datapath.selectors import selector_id
from acns.errors import Bug, EnvironmentFault
from acns.policy import model
from acns.policy.numbers import NumberRegistry

from .policies import API, INTERFACES, PEER, POD_A, POD_B, PODS, chain_of, endpoint, match, node, only, pod_a
from .walks import Step, walks


@settings(max_examples=150, deadline=None)
@given(walks())
def test_step_by_step_is_as_good_as_anew(walk: list[Step]) -> None:
    grants = Grants.fresh()
    compiler = Compiler(grants)
    for step in walk:
        stepwise = compiler.compile(step.node, step.interfaces, {})
        assert stepwise == ruleset.compile_ruleset(step.node, step.interfaces, grants, {})


@settings(max_examples=50, deadline=None)
@given(walks())
def test_what_is_compiled_does_not_change_afterwards(walk: list[Step]) -> None:
    """The shim compares it with the next one, and falls back to it."""
    compiler = Compiler(Grants.fresh())
    before = [compiler.compile(step.node, step.interfaces, {}) for step in walk]
    texts = [repr(one) for one in before]
    for step in walk:
        compiler.compile(step.node, step.interfaces, {})
    assert [repr(one) for one in before] == texts


def test_the_unchanged_parts_are_the_same_objects() -> None:
    compiler = Compiler(Grants.fresh())
    a, b = pod_a(only(match(PODS))), endpoint("b", POD_B, only(match(model.FQDN(API))))
    before = compiler.compile(node(a, b), INTERFACES, {})
    after = compiler.compile(node(a, replace(b, egress=only())), INTERFACES, {})
    kept = chain_of(before, "eg").name
    assert after.chains[kept] is before.chains[kept]
    same = [id_ for id_, one in before.descriptions.items() if after.descriptions.get(id_) is one]
    assert {id_ for id_ in same if before.descriptions[id_].endpoints == ("ns/a",)} == {
        id_ for id_, one in before.descriptions.items() if one.endpoints == ("ns/a",)
    }
    (members,) = [name for name in before.sets if name.startswith("peers_")]
    assert after.sets[members] is before.sets[members]


def test_what_is_learned_is_added_only_by_the_compilation_that_says_so() -> None:
    compiler = Compiler(Grants.fresh())
    one = node(pod_a(only(match(model.FQDN(API)))))
    learned = {API: {PEER: 60.0}}
    assert compiler.compile(one, INTERFACES, learned).learned == {selector_id(API): {str(PEER): 60.0}}
    assert compiler.compile(one, INTERFACES, {}).learned == {}


def test_a_selector_is_named_for_as_long_as_one_endpoint_has_it() -> None:
    compiler, named = Compiler(Grants.fresh()), only(match(model.FQDN(API)))
    a, b = pod_a(named), endpoint("b", POD_B, named)
    assert compiler.compile(node(a, b), INTERFACES, {}).selectors == {selector_id(API)}
    assert compiler.compile(node(b), INTERFACES, {}).selectors == {selector_id(API)}
    assert compiler.compile(node(), INTERFACES, {}).selectors == frozenset()


def test_the_grant_of_a_rule_that_went_may_become_anothers() -> None:
    """With the numbers used up, the longest forgotten is given away, and is its first owner's no more."""
    grants = Grants(*(NumberRegistry(name, 1, 2) for name in ("egress", "ingress")))
    compiler = Compiler(grants)
    ports = [model.Ports(model.Protocol.TCP, port, port) for port in (1, 2, 3)]

    def compile_ports(*numbers: int) -> ruleset.Ruleset:
        allows = (match(model.World(), ports[number]) for number in numbers)
        return compiler.compile(node(pod_a(only(*allows))), INTERFACES, {})

    compile_ports(0, 1)
    compile_ports(1)
    compile_ports(1, 2)  # takes the number of 0
    compile_ports(2)
    table = compile_ports(2, 0)  # which takes the number of 1
    marks = {
        rule.text.rpartition("| ")[2] for rule in chain_of(table, "eg").rules if rule.id.startswith("re_")
    }
    assert marks == {"0x1 accept", "0x2 accept"}
    with pytest.raises(EnvironmentFault, match="egress"):
        compile_ports(0, 1, 2)
    assert compile_ports(2, 0) == table


def test_addresses_without_an_endpoint_are_nobodys_interface() -> None:
    compiler = Compiler(Grants.fresh())
    strangers = {**INTERFACES, IPv4Address("10.244.1.77"): "veth-x"}
    one = node(pod_a(only()))
    assert compiler.compile(one, strangers, {}) == compiler.compile(one, INTERFACES, {})


def test_links_that_move_while_a_policy_stays_are_noticed() -> None:
    compiler = Compiler(Grants.fresh())
    one = node(pod_a(only(match(PODS))))
    before = compiler.compile(one, INTERFACES, {})
    moved = {**INTERFACES, POD_A: "veth-c"}
    after = compiler.compile(one, moved, {})
    assert '"veth-c"' in after.sets["pod_ifaces"].elements
    assert after == ruleset.compile_ruleset(one, moved, Grants.fresh(), {})
    assert compiler.compile(one, INTERFACES, {}) == before


def test_a_compilation_that_fails_is_not_taken_for_done() -> None:
    compiler = Compiler(Grants.fresh())
    one = node(pod_a(only(match(PODS))))
    compiler.compile(one, INTERFACES, {})
    moved, wrong = {POD_A: "veth-c", POD_B: 'veth" drop'}, node(*one.endpoints, endpoint("b", POD_B))
    with pytest.raises(Bug):
        compiler.compile(wrong, moved, {})
    assert '"veth-c"' in compiler.compile(one, moved, {}).sets["pod_ifaces"].elements


def test_endpoints_of_one_policy_have_it_judged_once_and_have_its_word_when_the_others_go() -> None:
    compiler = Compiler(Grants.fresh())
    policy = only(match(PODS), match(model.FQDN(API)))
    a, b = pod_a(policy), endpoint("b", POD_B, policy)
    both = compiler.compile(node(a, b), INTERFACES, {})
    assert chain_of(both, "eg") is chain_of(both, "eg", POD_B)
    alone = compiler.compile(node(b), INTERFACES, {})
    assert alone == ruleset.compile_ruleset(node(b), INTERFACES, Grants.fresh(), {})
    assert compiler.compile(node(a, b), INTERFACES, {}) == both


def test_a_policy_that_comes_again_when_its_grant_is_anothers_gets_a_new_one() -> None:
    compiler = Compiler(Grants(*(NumberRegistry(name, 1, 2) for name in ("egress", "ingress"))))
    first, second, third = (
        node(pod_a(only(match(model.World(), model.Ports(model.Protocol.TCP, port, port)))))
        for port in (1, 2, 3)
    )
    for one in (first, second, third):  # the third takes the number of the first
        compiler.compile(one, INTERFACES, {})
    table = compiler.compile(first, INTERFACES, {})
    (rule,) = [rule.text for rule in chain_of(table, "eg").rules if rule.id.startswith("re_")]
    assert rule.endswith("| 0x2 accept")
