"""Faults as words and values, and storms drawn from a seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import InputError
from lab.runtime.faults import commands
from lab.runtime.faults.model import (
    AgentFault,
    Fault,
    LinkFault,
    Mending,
    Options,
    UpstreamFault,
    parse,
    read,
)
from lab.runtime.faults.storm import CALM_S, Step, Targets, storm

OPTIONS = Options(node="n1", at="kube-system/dns", delay_s=1.5, share=0.2)
TARGETS = Targets(nodes=("n1", "n2"), servers=("kube-system/dns", "internet"), links=("n1", "default/a"))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("hang shim", AgentFault("hang", "shim", "n1")),
        ("upgrade resolver", AgentFault("upgrade", "resolver", "n1")),
        ("upstream slow", UpstreamFault("slow", "kube-system/dns", 1.5, 0.2)),
        ("upstream ok", Mending("upstream", "kube-system/dns")),
        ("link down default/a", LinkFault("down", "default/a", 0.2)),
        ("link ok n1", Mending("link", "n1")),
        ("clear", Mending("everything")),
    ],
)
def test_words_name_a_fault(words: str, meant: object) -> None:
    assert parse(words.split(), OPTIONS) == meant


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("hang kubelet", "hang cannot be 'kubelet'"),
        ("upstream sleepy", "upstream cannot be 'sleepy'"),
        ("link torn a", "link cannot be 'torn'"),
        ("link down", "'link down' has too few words"),
        ("kill", "'kill' has too few words"),
        ("stop resolver n1", "'stop resolver n1' has too few words, or too many"),
        ("explode", "no fault is called 'explode'"),
        ("", "no fault is called ''"),
    ],
)
def test_words_that_name_no_fault_are_refused_with_what_may_be_written(words: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(words.split(), OPTIONS)
    assert said in str(refused.value)
    assert refused.value.hint


SEEDS = st.integers(min_value=0, max_value=2**32)
DURATIONS_S = st.floats(min_value=1, max_value=120)


def target(step: Step) -> str:
    match step.fault:
        case AgentFault(_, agent, node):
            return f"{node}/{agent}"
        case UpstreamFault(_, place):
            return f"upstream {place}"
        case LinkFault(_, place):
            return f"link {place}"


@given(SEEDS, DURATIONS_S)
def test_the_same_seed_gives_the_same_storm(seed: int, duration_s: float) -> None:
    assert storm(seed, duration_s, TARGETS) == storm(seed, duration_s, TARGETS)


@given(SEEDS, DURATIONS_S)
def test_a_storm_is_in_order_and_well_again_before_its_end(seed: int, duration_s: float) -> None:
    steps = storm(seed, duration_s, TARGETS)
    assert [step.at_s for step in steps] == sorted(step.at_s for step in steps)
    assert all(0 <= step.at_s <= step.until_s <= duration_s - CALM_S + 0.1 for step in steps)


@given(SEEDS, DURATIONS_S)
def test_nothing_happens_twice_at_once_to_the_same_target(seed: int, duration_s: float) -> None:
    ends: dict[str, float] = {}
    for step in storm(seed, duration_s, TARGETS):
        assert step.at_s >= ends.get(target(step), 0.0)
        ends[target(step)] = step.until_s


def test_in_some_storms_every_kind_of_fault_happens() -> None:
    faults = {str(step.fault).split(" --")[0] for seed in range(20) for step in storm(seed, 120, TARGETS)}
    agents = {
        f"{action} {agent}"
        for action in ("kill", "stop", "hang", "upgrade")
        for agent in ("shim", "resolver")
    }
    servers = {f"upstream {mode}" for mode in ("silent", "servfail", "slow", "lossy", "lying", "flapping")}
    links = {f"link {mode} {place}" for mode in ("down", "lossy") for place in TARGETS.links}
    assert faults == agents | servers | links


@given(SEEDS)
def test_a_line_of_a_storm_is_the_same_fault_by_hand(seed: int) -> None:
    for step in storm(seed, 60, TARGETS):
        by_hand = read(str(step.fault))
        assert str(by_hand) == str(step.fault)
        if isinstance(step.fault, UpstreamFault) and step.fault.mode in ("slow", "flapping"):
            assert isinstance(by_hand, UpstreamFault)
            assert by_hand.delay_s == step.fault.delay_s
        if isinstance(step.fault, LinkFault) and step.fault.mode == "lossy":
            assert by_hand == step.fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("stop shim", AgentFault("stop", "shim", "")),
        ("kill resolver --node n2", AgentFault("kill", "resolver", "n2")),
        ("upstream slow --at kube-dns --delay 3", UpstreamFault("slow", "kube-dns", 3.0, 0.3)),
        ("link lossy frontend --share 0.1", LinkFault("lossy", "frontend", 0.1)),
        ("--share 0.1 link lossy frontend", LinkFault("lossy", "frontend", 0.1)),
        ("clear", Mending("everything")),
    ],
)
def test_a_fault_is_read_from_one_line_as_from_the_command_line(text: str, fault: Fault | Mending) -> None:
    assert read(text) == fault


@pytest.mark.parametrize(
    "text",
    ["", "stop", "stop 'shim", "stop shim --nod n1", "link lossy a --share 2", "upstream slow --delay nan"],
)
def test_a_line_that_is_no_fault_is_the_operators_mistake(text: str) -> None:
    with pytest.raises(InputError):
        read(text)


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        ("link lossy a", {"share": -1.0}, "a share is from 0 to 1, not -1"),
        ("link lossy a", {"share": float("nan")}, "a share is from 0 to 1, not nan"),
        ("upstream slow", {"delay_s": 1e9}, "a delay is above 0 s and up to an hour"),
        ("upstream flapping", {"delay_s": 0.0}, "a delay is above 0 s and up to an hour"),
    ],
)
def test_a_number_that_cannot_be_is_refused_in_the_words_of_both(
    words: str, options: dict[str, float], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        parse(words.split(), replace(Options(), **options))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("kil shim", "did you mean 'kill'?"),
        ("kill shimm", "did you mean 'shim'?"),
        ("what", "usage: "),
        ("hang", "invoke lab.fault kill|stop|hang|cont|upgrade shim|resolver"),
        ("link down", "invoke lab.fault link down|lossy|ok POD|NODE"),
    ],
)
def test_a_word_that_is_nearly_right_is_recognised(words: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(words.split(), Options())
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("for_s", [-3.0, float("inf"), float("nan"), 1e9])
@pytest.mark.parametrize("seed", [None, 7])
def test_a_time_that_cannot_be_waited_for_breaks_nothing(for_s: float, seed: int | None) -> None:
    with pytest.raises(InputError, match="--for is in seconds"):
        commands.fault(["hang", "shim"] if seed is None else [], "none", Options(), for_s, seed)


def test_a_storm_in_which_nothing_can_happen_is_refused() -> None:
    with pytest.raises(InputError, match="nothing happens in the last 3 s"):
        commands.fault([], "none", Options(), 2.0, 7)
