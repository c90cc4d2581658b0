"""Smaller scenarios: what is left still shows the same, and nothing is left that could go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scapy.layers.inet import IP, TCP

from acns.errors import InputError
from lab.repro.running import pure
from lab.repro.running.order import Found, Timing
from lab.repro.scenario.model import Scenario
from lab.repro.shrinking import shrink
from lab.repro.shrinking.shrink import Shrinking

from .scenes import ask, learned_on_each, scenario


def noisy() -> Scenario:
    """A connection that should not have been refused, among much else."""
    steps = [
        step
        for number in range(1, 21)
        for step in (
            ask(f"n{number}.example.com", f"198.51.100.{number}", at_ms=number * 137.3, ttl=57, pod="client",
                outcome=f"NOERROR 198.51.100.{number}"),
            {"at_ms": number * 137.3 + 20.7, "pod": "client", "connect": f"198.51.100.{number}:443",
             "after": 2 * number - 1, "outcome": "silent" if number == 7 else "established"},
        )
    ]  # fmt: skip
    pods = [{"name": "client", "labels": {"app": "client", "tier": "x"}}, {"name": "idle"}]
    return scenario(*steps, pods=pods, shim={"min_ttl_s": 1})


def faulty(made: Scenario) -> Sequence[Found]:
    """A run in which whoever connects to 198.51.100.7 after being told it is not let through."""
    return [
        Found(one.number, one.recorded, "silent")
        if step.connect and step.connect.startswith("198.51.100.7:")
        else one
        for step, one in zip(made.steps, pure.run(made), strict=True)
    ]


def test_a_scenario_shrinks_to_nothing_that_another_rule_decides() -> None:
    """Recording and model agree, and would still if no policy selected the pod."""
    steps = [ask("api.example.com", "198.51.100.7", outcome="NOERROR 198.51.100.7"),
             ask("other.example.com", "198.51.100.8", at_ms=10),
             {"at_ms": 20, "connect": "198.51.100.7:443", "after": 1, "outcome": "established"}]  # fmt: skip
    made = Shrinking(scenario(*steps), 3, None, Timing())
    made.shrunk()
    kinds = [step.kind for step in made.scenario.steps]
    assert kinds == ["ask", "connect"]
    assert "*.example.com" in pure.run(made.scenario)[-1].why


def test_what_silence_is_for_stays_its_reason() -> None:
    """A name that was learned for another port, not a pod that no rule lets out at all."""
    steps = [ask("api.example.com", "198.51.100.7", outcome="NOERROR 198.51.100.7"),
             {"at_ms": 20, "connect": "198.51.100.7:80", "after": 1, "outcome": "silent"}]  # fmt: skip
    scene = scenario(*steps)
    made = Shrinking(scene, 2, None, Timing())
    made.shrunk()
    assert pure.run(made.scenario)[-1].causes == pure.run(scene)[-1].causes


def shrunk(scene: Scenario) -> Shrinking:
    made = Shrinking(scene, shrink.symptom(scene, Timing()), faulty, Timing())
    made.shrunk()
    return made


def test_what_matters_is_where_recording_and_model_differ() -> None:
    assert shrink.symptom(noisy(), Timing()) == 14
    assert not shrink.is_pure(noisy(), 14, Timing())


def test_what_is_left_still_shows_the_fault_and_would_be_right_without_it() -> None:
    made = shrunk(noisy())
    assert faulty(made.scenario)[made.symptom - 1].outcome == "silent"
    assert pure.run(made.scenario)[made.symptom - 1].outcome == "established"


def test_steps_pods_settings_and_odd_numbers_go() -> None:
    made = shrunk(noisy()).scenario
    assert len(made.steps) <= 2
    assert ([pod.name for pod in made.pods], made.shim) == (["client"], {})
    assert all(float(step.at_ms).is_integer() for step in made.steps)


def test_it_ends_the_same_each_time() -> None:
    assert shrunk(noisy()).scenario == shrunk(noisy()).scenario


def test_nothing_more_can_be_taken_away() -> None:
    once = shrunk(noisy())
    again = Shrinking(once.scenario, once.symptom, faulty, Timing())
    assert again.shrunk() == once.scenario


def test_a_scenario_that_shows_nothing_is_refused() -> None:
    scene = noisy()
    with pytest.raises(InputError, match="step 14 does not come to 'silent'"):
        Shrinking(scene, 14, pure.run, Timing()).shrunk()


def test_a_connection_keeps_what_is_sent_over_it() -> None:
    steps = [
        ask("n1.example.com", "198.51.100.1"),
        {"at_ms": 5, "connect": "198.51.100.1:443", "after": 1, "outcome": "established"},
        {"at_ms": 9, "send": 2, "outcome": "passes"},
    ]
    made = Shrinking(scenario(*steps), 3, pure.run, Timing())
    assert [step.kind for step in made.shrunk().steps][-2:] == ["connect", "send"]


SYN_FIN = bytes(
    IP(src="10.244.0.2", dst="198.51.100.7", id=7) / TCP(sport=4_000, dport=443, flags="SF")
).hex()
TO_WEB = bytes(IP(src="10.244.0.2", dst="10.244.0.3", id=8) / TCP(sport=4_001, dport=80, flags="")).hex()


def wired(*texts: str, **more: object) -> dict[str, object]:
    return {"pod": "client", "wire": texts, "outcome": "silent", **more}


def by_wire(made: Scenario) -> Sequence[Found]:
    """A run in which all that is sent as it was meets silence."""
    return [
        Found(one.number, step.outcome, "silent") if step.wire else one
        for step, one in zip(made.steps, pure.run(made), strict=True)
    ]


def test_pods_that_no_packet_is_of_or_for_go() -> None:
    names = ("client", "idle", "web", "other")
    pods = [{"name": name, "address": f"10.244.0.{number}"} for number, name in enumerate(names, 2)]
    pods[2]["address"], pods[1]["address"] = "10.244.0.3", "10.244.0.4"
    scene = scenario(wired(SYN_FIN), wired(TO_WEB, at_ms=5), pods=pods, policies=[])
    made = Shrinking(scene, 2, by_wire, Timing())
    assert [pod.name for pod in made.shrunk().pods] == ["client", "web"]
    alone = Shrinking(scene, 1, by_wire, Timing())
    assert [pod.name for pod in alone.shrunk().pods] == ["client"]


def test_packets_that_nothing_needs_go() -> None:
    pods = [{"name": "client", "address": "10.244.0.2", "labels": {"app": "client"}}]
    asked = ask("api.example.com", "198.51.100.7", outcome="NOERROR 198.51.100.7", wire=[TO_WEB])
    scene = scenario(asked, wired(TO_WEB, SYN_FIN, at_ms=5), pods=pods)
    of_query = Shrinking(scene, 1, None, Timing())
    assert [step.wire for step in of_query.shrunk().steps] == [()]
    alone = Shrinking(scene, 2, by_wire, Timing())
    assert [len(step.wire) for step in alone.shrunk().steps] == [1]


def test_nodes_go_where_one_shows_the_same_and_stay_where_it_does_not() -> None:
    near = Shrinking(learned_on_each(), 2, None, Timing()).shrunk()
    assert (near.nodes, len(near.steps)) == (("west",), 2)
    apart = Shrinking(learned_on_each(), 3, shown_apart, Timing()).shrunk()
    assert (apart.nodes, len(apart.steps)) == (("west", "east"), 2)


def shown_apart(made: Scenario) -> Sequence[Found]:
    """A run in which it matters that the other node's pod has looked the name up."""
    asked = any(step.kind == "ask" and step.pod == "client" for step in made.steps)
    return [
        Found(one.number, one.recorded, one.outcome if asked and len(made.nodes) > 1 else "established")
        for one in pure.run(made)
    ]
