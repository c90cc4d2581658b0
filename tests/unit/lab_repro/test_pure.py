"""Scenarios under a virtual clock: the agents' own code decides, and the lab has found the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from acns.errors import InputError
from lab.repro import saved
from lab.repro.running import order, pure
from lab.repro.running.order import Pace, Timing
from lab.repro.scenario.model import Scenario

from .scenes import POLICY, ask, learned_on_each, scenario

REGRESSIONS = Path(__file__).parents[2] / "regressions"
KNOWN = sorted(path.parent for path in REGRESSIONS.glob("*/expected.yaml"))
API = "198.51.100.1"


def outcomes(scene: Scenario, timing: Timing = Timing()) -> list[str]:  # noqa: B008 - frozen
    return [one.outcome for one in pure.run(scene, timing)]


def connect(at_ms: float, port: int = 443, address: str = API, **more: Any) -> dict[str, Any]:
    return {"at_ms": at_ms, "connect": f"{address}:{port}", **more}


@pytest.mark.parametrize("folder", KNOWN, ids=lambda folder: folder.name)
def test_the_model_says_what_the_right_agents_did_in_a_lab(folder: Path) -> None:
    scene, expected = saved.read(folder)
    assert expected is not None
    assert outcomes(scene) == list(expected.outcomes)


@pytest.mark.parametrize("folder", KNOWN, ids=lambda folder: folder.name)
def test_a_known_fault_differs_from_the_model(folder: Path) -> None:
    scene, _ = saved.read(folder)
    assert order.first_difference(pure.run(scene)) is not None


def test_an_address_opens_with_its_answer_and_for_its_port_only() -> None:
    scene = scenario(
        connect(0), ask("api.example.com", API, at_ms=10), connect(10), connect(20), connect(20, 80)
    )
    assert outcomes(scene) == ["silent", f"NOERROR {API}", "silent", "established", "silent"]


def test_a_name_that_no_rule_allows_is_refused_and_the_server_not_asked() -> None:
    assert outcomes(scenario(ask("evil.example.org", API), connect(10))) == ["REFUSED", "silent"]


def test_an_answer_whose_aliases_lead_on_and_on_is_a_failure() -> None:
    records = [f"com. 9 DNAME {letter}.com." for letter in "abcdefgh"]
    endless = ask("api.example.com", answers=[{"after_ms": 1, "records": records}])
    assert outcomes(scenario(endless)) == ["SERVFAIL"]


def test_an_address_closes_when_its_ttl_is_over_and_a_collection_has_been() -> None:
    shim = {"fqdn_gc_interval_s": 10}
    scene = scenario(ask("api.example.com", API, ttl=5), connect(9_000), connect(21_000), shim=shim)
    assert outcomes(scene)[1:] == ["established", "silent"]


def test_an_address_in_use_stays_past_its_ttl() -> None:
    scene = scenario(
        ask("api.example.com", API, ttl=1),
        connect(100, open_ms=50_000),
        connect(40_000),
        connect(120_000),
        shim={"fqdn_gc_interval_s": 10},
    )
    assert outcomes(scene)[1:] == ["established", "established", "silent"]


def test_what_comes_under_another_id_or_from_somebody_else_teaches_nothing() -> None:
    lie = {"records": ["api.example.com 60 A 198.51.100.66"]}
    answers = [
        {**lie, "wrong_id": True},
        {**lie, "sender": "203.0.113.9:53"},
        {"after_ms": 5, "records": [f"api.example.com 60 A {API}"]},
    ]
    scene = scenario(
        {"ask": "api.example.com A", "answers": answers}, connect(10, address="198.51.100.66"), connect(10)
    )
    assert outcomes(scene) == [f"NOERROR {API}", "silent", "established"]


def test_a_silent_server_is_silence_and_by_setting_not_yet_servfail() -> None:
    assert outcomes(scenario({"ask": "api.example.com A"})) == ["silent"]


def test_a_policy_that_comes_closes_and_one_that_goes_cuts() -> None:
    base = POLICY.partition("  - toFQDNs")[0]
    more = POLICY.replace("name: client,", "name: more,").replace(
        POLICY[POLICY.index("  - toEndpoints") : POLICY.index("  - toFQDNs")], ""
    )
    scene = scenario(
        ask("api.example.com", API),
        connect(10),
        {"at_ms": 20, "send": 2},
        {"at_ms": 30, "remove": "more.yaml"},
        {"at_ms": 40, "send": 2},
        connect(50),
        {"at_ms": 60, "apply": "again.yaml", "text": more},
        connect(70),
        policies=[{"name": "base.yaml", "text": base}, {"name": "more.yaml", "text": more}],
    )
    assert outcomes(scene)[1:] == ["established", "passes", "", "cut", "silent", "", "established"]


def test_a_pod_without_a_policy_is_not_looked_at() -> None:
    scene = scenario(ask("evil.example.org", API), connect(10), policies=[])
    assert outcomes(scene) == [f"NOERROR {API}", "established"]


def test_aaaa_addresses_do_not_reach_the_pod() -> None:
    answers = [{"records": ["api.example.com 60 AAAA 2001:db8::1"]}]
    assert outcomes(scenario({"ask": "api.example.com AAAA", "answers": answers})) == ["NOERROR"]


def test_causal_steps_wait_for_each_other_and_for_nothing_else() -> None:
    scene = scenario(ask("api.example.com", API), connect(86_000_000))
    assert outcomes(scene) == [f"NOERROR {API}", "silent"]
    assert outcomes(scene, Timing(Pace.CAUSAL)) == [f"NOERROR {API}", "established"]


def test_scaled_times_are_a_factor_of_the_recorded_ones() -> None:
    scene = scenario(ask("api.example.com", API, ttl=5), connect(30_000), shim={"fqdn_gc_interval_s": 10})
    assert outcomes(scene)[1] == "silent"
    assert outcomes(scene, order.timing("0.1"))[1] == "established"


@pytest.mark.parametrize("text", ["fast", "0", "-1", "1e9", "nan"])
def test_what_is_no_timing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no timing"):
        order.timing(text)


def test_reasons_name_policy_rule_and_mapping() -> None:
    scene = scenario(ask("api.example.com", API), connect(50), ask("evil.example.org", API), connect(60, 80))
    why: Sequence[str] = [one.why for one in pure.run(scene)]
    assert why[0].startswith("allowed by default/client egress[0] (client.yaml:7:5)")
    assert why[1].startswith("allowed by default/client egress[1] (client.yaml:9:5): toFQDNs")
    assert "api.example.com learned 49 ms before, TTL has 60 s left" in why[1]
    assert why[2].startswith("refused: no name of default/client egress[0]")
    assert why[3].startswith("egress of default/client: no egress rule of default/client allows 80/TCP")


def test_a_policy_with_a_mistake_is_refused_at_its_line() -> None:
    broken = POLICY.replace("toFQDNs", "toFQDN")
    with pytest.raises(InputError, match=r"client.yaml:9:5: unknown field 'toFQDN'"):
        pure.run(scenario(connect(0), policies=[{"name": "client.yaml", "text": broken}]))


def test_no_file_makes_it_run_for_ever() -> None:
    shim = {"fqdn_gc_interval_s": 0.0001}
    with pytest.raises(InputError, match="more than 100000 collections"):
        pure.run(scenario(connect(86_000_000), shim=shim))


def test_two_runs_are_the_same() -> None:
    scene = scenario(
        *(ask(f"n{n}.example.com", f"198.51.100.{n}", at_ms=n) for n in range(1, 60)), connect(90)
    )
    assert pure.run(scene) == pure.run(scene)


def test_what_is_learned_is_learned_on_a_node() -> None:
    scene = learned_on_each()
    assert outcomes(scene) == [step.outcome for step in scene.steps]
    together = scene.model_copy(
        update={
            "nodes": ("west",),
            "pods": tuple(pod.model_copy(update={"node": None, "address": None}) for pod in scene.pods),
        }
    )
    assert outcomes(together)[2] == "established"
