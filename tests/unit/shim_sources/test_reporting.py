"""What the cluster is told of its policies: conditions, events, by one agent, and never in a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acns.shim.sources.kubernetes import reporter, reporting
from acns.shim.sources.kubernetes.reporting import ACCEPTED, Agent
from acns.shim.sources.kubernetes.resources import NETWORK_POLICIES
from acns.shim.sources.kubernetes.shelf import Record
from tests.e2e.kubernetes.standin_apiserver import Request, StandInAPIServer
from tests.unit.shim_sources.observing import Observing, observing, pod, policy, refused_policy

ME = "acns-system/acns-shim-a"
CNP = "CiliumNetworkPolicy"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "LOOK_S", 0.05)
    monkeypatch.setattr(reporter, "WRITE_S", 0.0)
    monkeypatch.setattr(reporter, "DENIED_S", 0.1)


def agent(name: str, *, ready: bool = True) -> dict[str, Any]:
    value = pod(name, "172.18.0.9")
    value["metadata"] |= {
        "namespace": "acns-system",
        "labels": {"app": "shim", "controller-revision-hash": name},
    }
    value["spec"]["hostNetwork"] = True
    value["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
    return value


def conditions(server: StandInAPIServer, name: str = "web") -> list[dict[str, Any]]:
    return (server.get(CNP, "shop", name).get("status") or {}).get("conditions") or []


def writes(server: StandInAPIServer) -> list[Request]:
    return server.asked(lambda one: one.method in ("PATCH", "POST"))


class Rounds:
    """How many there were."""

    count = 0


@pytest.fixture(autouse=True)
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """Those that the reporter has made to their end, whoever speaks."""
    made = Rounds()
    look = reporter.Reporter.look

    async def counted(self: reporter.Reporter) -> None:
        await look(self)
        made.count += 1

    monkeypatch.setattr(reporter.Reporter, "look", counted)
    return made


async def looks(seen: Observing, server: StandInAPIServer, rounds: Rounds) -> None:
    """The reporter has looked, from beginning to end, at all that is there now."""
    for plural, kind in (("pods", "Pod"), ("ciliumnetworkpolicies", CNP)):
        there = [int(one["metadata"]["resourceVersion"]) for one in server.all_of(kind)]
        newest, feed = max(there, default=0), seen.feed(plural)
        await seen.until(lambda feed=feed, newest=newest: int(feed.version or 0) >= newest)  # type: ignore[misc]
    before = rounds.count
    await seen.until(lambda: rounds.count >= before + 2)


async def test_an_accepted_and_a_refused_policy_get_cilium_s_condition(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(agent("acns-shim-a"))
    server.put(policy("good"))
    server.put(refused_policy("bad"))
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(conditions(server, "good") and conditions(server, "bad")))
        [good], [bad] = conditions(server, "good"), conditions(server, "bad")
        assert (good["type"], good["status"], good["message"]) == ("Valid", "True", ACCEPTED)
        assert (bad["type"], bad["status"], bad["reason"]) == ("Valid", "False", "PolicyRefused")
        assert bad["message"].startswith("CiliumNetworkPolicy shop/bad spec.egress[0].toPorts[0].rules.http")
        await seen.until(lambda: bool(server.all_of("Event")))
        [event] = server.all_of("Event")
        assert (event["type"], event["regarding"]["name"]) == ("Warning", "bad")
        assert event["note"] == bad["message"]


async def test_our_own_patch_is_no_reason_for_another(
    server: StandInAPIServer, tmp_path: Path, rounds: Rounds
) -> None:
    server.put(agent("acns-shim-a"))
    server.put(policy())
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(conditions(server)))
        await looks(seen, server, rounds)
        assert len(writes(server)) == 1
        server.put({**server.get(CNP, "shop", "web"), "status": {}})  # a server that drops what we wrote
        await looks(seen, server, rounds)
        assert len(writes(server)) == 1


async def test_conditions_of_others_stay(server: StandInAPIServer, tmp_path: Path) -> None:
    theirs = {"type": "Theirs", "status": "True", "message": "kept"}
    server.put(agent("acns-shim-a"))
    server.put({**policy(), "status": {"conditions": [theirs]}})
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: len(conditions(server)) == 2)
        assert theirs in conditions(server)


async def test_a_network_policy_has_no_status_and_gets_an_event(
    server: StandInAPIServer, tmp_path: Path, rounds: Rounds
) -> None:
    server.put(agent("acns-shim-a"))
    server.put(
        {
            "kind": "NetworkPolicy",
            "apiVersion": "networking.k8s.io/v1",
            "metadata": {"name": "np", "namespace": "shop"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        }
    )
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(server.all_of("Event")))
        await looks(seen, server, rounds)
        [event] = server.all_of("Event")
        assert (event["reason"], event["metadata"]["namespace"]) == ("PolicyAccepted", "shop")
        assert [one.method for one in writes(server)] == ["POST"]
    async with observing(server, tmp_path, report_as=ME) as seen:  # a restart tells nothing anew
        await seen.begun()
        await looks(seen, server, rounds)
        assert len(server.all_of("Event")) == 1


async def test_only_the_first_ready_agent_writes(
    server: StandInAPIServer, tmp_path: Path, rounds: Rounds
) -> None:
    server.put(agent("acns-shim-a", ready=False))
    server.put(agent("acns-shim-0"))
    server.put(policy())
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.begun()
        await looks(seen, server, rounds)
        assert writes(server) == []
        server.put(agent("acns-shim-a"))
        await looks(seen, server, rounds)
        assert writes(server) == []
        server.remove("Pod", "acns-system", "acns-shim-0")
        await seen.until(lambda: bool(conditions(server)))


async def test_a_missing_right_to_write_does_no_harm(server: StandInAPIServer, tmp_path: Path) -> None:
    server.change(forbidden={("patch", "ciliumnetworkpolicies")})
    server.put(agent("acns-shim-a"))
    server.put(policy())
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.begun()
        await seen.until(lambda: bool(writes(server)))
        assert seen.names(CNP) == {"web"}
        server.change(forbidden=set())
        await seen.until(lambda: bool(conditions(server)))


async def test_a_missing_right_is_forgotten_where_nothing_is_to_be_written_any_more(
    server: StandInAPIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "DENIED_S", 0.5)
    server.change(forbidden={("patch", "ciliumnetworkpolicies")})
    server.put(agent("acns-shim-a"))
    server.put(policy())
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(seen.source._reporter._denied))
        server.remove(CNP, "shop", "web")
        await seen.until(lambda: not seen.source._reporter._denied)


async def test_a_right_that_is_missing_for_one_kind_holds_nothing_else_up(
    server: StandInAPIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "DENIED_S", 1e6)
    server.change(forbidden={("patch", "ciliumnetworkpolicies")})
    server.put(agent("acns-shim-a"))
    server.put(policy("first"))
    server.put(refused_policy("second"))
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(server.all_of("Event")))
        assert [one["regarding"]["name"] for one in server.all_of("Event")] == ["second"]
        assert len([one for one in writes(server) if one.method == "PATCH"]) == 1


def refused_at_length() -> dict[str, Any]:
    """For more reasons than an Event has room for."""
    http = {"ports": [{"port": "80"}], "rules": {"http": [{"path": "/"}]}}
    return policy("web", toPorts=[http] * 20)


async def test_an_event_has_as_much_as_the_api_server_takes(server: StandInAPIServer, tmp_path: Path) -> None:
    server.put(agent("acns-shim-a"))
    server.put(refused_at_length())
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(server.all_of("Event")))
    (event,) = server.all_of("Event")
    assert 900 < len(event["note"].encode()) <= 1024


async def test_an_event_that_the_api_server_does_not_take_is_not_tried_for_ever(
    server: StandInAPIServer, tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_NOTE_OCTETS", 10_000)
    server.put(agent("acns-shim-a"))
    server.put(refused_at_length())
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(conditions(server)))
        for _ in range(3):
            await looks(seen, server, rounds)
    assert len([one for one in writes(server) if one.method == "POST"]) == 1
    assert server.all_of("Event") == []


def test_a_message_is_cut_by_octets_and_between_characters() -> None:
    record = Record(uid="u", generation=1, version="1", conditions=())
    said = reporting.Verdict(NETWORK_POLICIES, ("shop", "web"), record, ("€" * 2_000,)).message
    assert said == "€" * 341  # 3 octets each


async def test_a_condition_says_which_generation_it_is_about(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    def told() -> tuple[int, int]:
        (condition,) = conditions(server)
        return condition["observedGeneration"], server.get(CNP, "shop", "web")["metadata"]["generation"]

    server.put(agent("acns-shim-a"))
    server.put(policy(host="one.example.com"))
    async with observing(server, tmp_path, report_as=ME) as seen:
        await seen.until(lambda: bool(conditions(server)))
        assert told() == (1, 1)
        said = server.get(CNP, "shop", "web")["status"]
        server.put({**policy(host="two.example.com"), "status": said})
        await seen.until(lambda: told() == (2, 2))


def test_the_speaker_is_the_first_of_those_that_are_ready() -> None:
    agents = [Agent("c", True), Agent("b", True), Agent("a", False)]
    assert [name for name in "abc" if reporting.speaks(name, agents)] == ["b"]
    assert not reporting.speaks("a", [])
