"""What becomes of the Kubernetes source when the API server fails: the last state stays, and it says so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from acns.shim.sources.kubernetes import pace
from acns.shim.sources.kubernetes.feeds import State
from tests.e2e.kubernetes.standin_apiserver import StandInAPIServer
from tests.unit.shim_sources.observing import lists, observing, pod, policy, watches


async def test_a_broken_connection_goes_on_where_it_broke(server: StandInAPIServer, tmp_path: Path) -> None:
    server.put(pod("web"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        version = seen.feed("pods").version
        server.go_away()
        await seen.until(lambda: seen.feed("pods").state is State.BROKEN)
        assert seen.names("Pod") == {"web"}
        assert "no answer" in seen.feed("pods").why
        server.come_back()
        server.put(pod("late", "10.244.1.10"))
        await seen.until(lambda: seen.names("Pod") == {"web", "late"})
        assert len(lists(server, "/pods")) == 1
        assert watches(server, "/pods")[-1].query["resourceVersion"] == version
        assert seen.feed("pods").state is State.FOLLOWED


async def test_history_that_is_gone_is_listed_anew_without_a_gap(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(pod("web"))
    server.put(pod("old", "10.244.1.10"))
    server.put(policy())
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.go_away()
        server.remove("Pod", "shop", "old")
        server.put(pod("new", "10.244.1.11"))
        server.expire_history()
        server.come_back()
        await seen.until(lambda: seen.names("Pod") == {"web", "new"})
        assert len(lists(server, "/pods")) == 2
        for each in seen.seen:
            assert {"web"} <= {one.name for one in each.objects if one.ref[0] == "Pod"}
            assert any(one.ref[0] == "CiliumNetworkPolicy" for one in each.objects)


async def test_an_expired_watch_is_followed_by_one_list_not_by_many(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.expire_history()
        server.go_away()
        server.come_back()
        await seen.until(lambda: len(lists(server, "/pods")) == 2)
        server.put(pod("web"))
        await seen.until(lambda: seen.names("Pod") == {"web"})
        assert len(lists(server, "/pods")) == 2


async def test_bookmarks_move_the_version_on_so_that_history_may_go(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.change(bookmark_s=0.05)
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        before = seen.feed("pods").version
        server.put(policy())  # the version moves; no pod does
        await seen.until(
            lambda: seen.feed("pods").version != before and bool(seen.names("CiliumNetworkPolicy"))
        )
        count, marks = len(seen.seen), seen.metrics.events.count("pods", "BOOKMARK")
        await seen.until(lambda: seen.metrics.events.count("pods", "BOOKMARK") > marks + 5)
        assert len(seen.seen) == count  # they are no news
        server.go_away()
        await seen.until(lambda: seen.feed("pods").state is State.BROKEN)
        resumed = seen.feed("pods").version
        server.come_back()
        await seen.until(lambda: seen.feed("pods").state is State.FOLLOWED)
        assert watches(server, "/pods")[-1].query["resourceVersion"] == resumed != before


async def test_a_missing_right_is_named(server: StandInAPIServer, tmp_path: Path) -> None:
    server.change(forbidden={("list", "ciliumnetworkpolicies"), ("watch", "pods")})
    async with observing(server, tmp_path) as seen:
        await seen.until(lambda: bool(seen.feed("ciliumnetworkpolicies").why and seen.feed("pods").why))
        said = "\n".join(seen.source.obstacles)
        assert 'verb "list" on resource "ciliumnetworkpolicies" in API group "cilium.io"' in said
        assert 'verb "watch" on resource "pods" in API group ""' in seen.feed("pods").why


async def test_a_right_that_is_taken_away_leaves_the_last_state(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(policy())
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.change(forbidden={("list", "ciliumnetworkpolicies"), ("watch", "ciliumnetworkpolicies")})
        server.go_away()
        server.come_back()
        await seen.until(lambda: "missing right" in seen.feed("ciliumnetworkpolicies").why)
        assert seen.names("CiliumNetworkPolicy") == {"web"}


async def test_a_resource_that_is_not_served_is_waited_for(server: StandInAPIServer, tmp_path: Path) -> None:
    server.unserve("CiliumNetworkPolicy")
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        assert seen.feed("ciliumnetworkpolicies").state is State.ABSENT
        server.serve("CiliumNetworkPolicy")
        server.put(policy())
        await seen.until(lambda: seen.names("CiliumNetworkPolicy") == {"web"})


async def test_a_404_that_the_server_itself_does_not_confirm_takes_no_policy_away(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    """Such as from a proxy that lost its routes: discovery still names the resource."""
    server.put(policy())
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.change(plain_404={"ciliumnetworkpolicies"})
        server.go_away()
        server.come_back()
        await seen.until(lambda: "404" in seen.feed("ciliumnetworkpolicies").why)
        assert seen.names("CiliumNetworkPolicy") == {"web"}
        server.change(plain_404=set())
        server.put(policy("second"))
        await seen.until(lambda: seen.names("CiliumNetworkPolicy") == {"web", "second"})


async def test_a_busy_server_is_asked_again_when_it_wants_to_be(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.change(busy=9)
    began = time.monotonic()
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        assert time.monotonic() - began >= 1.0  # Retry-After
        assert seen.metrics.failures.count("pods", "busy") == 1


async def test_a_watch_that_falls_silent_is_opened_again(server: StandInAPIServer, tmp_path: Path) -> None:
    async with observing(server, tmp_path, silence_s=0.3) as seen:
        server.change(bookmark_s=0.05)
        await seen.begun()
        server.change(silent=True)
        await seen.until(lambda: "says nothing" in seen.feed("pods").why)
        server.change(silent=False)
        server.put(pod("web"))
        await seen.until(lambda: seen.names("Pod") == {"web"})


async def test_a_server_set_back_to_an_older_state_is_listed_anew(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    """It answers a watch from its future with 200 and nothing, not even bookmarks."""
    for number in range(20):
        server.put(pod("web", number=str(number)))
    async with observing(server, tmp_path, silence_s=0.3) as seen:
        server.change(bookmark_s=0.05)
        await seen.begun()
        server.set_back(500)
        server.put(pod("restored", "10.244.1.12"))
        await seen.until(lambda: "restored" in seen.names("Pod"))


async def test_a_token_that_was_replaced_is_read_again(server: StandInAPIServer, tmp_path: Path) -> None:
    server.change(token="first")
    (tmp_path / "token").write_text("first")
    async with observing(server, tmp_path, token_file=tmp_path / "token") as seen:
        await seen.begun()
        (tmp_path / "token").write_text("second")
        server.change(token="second")
        server.go_away()
        server.come_back()
        server.put(pod("web"))
        await seen.until(lambda: seen.names("Pod") == {"web"})


async def test_garbage_is_no_state(server: StandInAPIServer, tmp_path: Path) -> None:
    server.put(pod("web"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.change(garbage={"pods"})
        server.go_away()
        server.come_back()
        await seen.until(lambda: "not an answer" in seen.feed("pods").why)
        assert seen.names("Pod") == {"web"}
        server.change(garbage=set())
        server.put(pod("late", "10.244.1.10"))
        await seen.until(lambda: seen.names("Pod") == {"web", "late"})


# --- pace ---------------------------------------------------------------------------------------------------


def test_waits_double_are_bounded_and_differ_between_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_S", 0.5)
    low, high = pace.Pace(lambda: 0.0), pace.Pace(lambda: 1.0)
    lows, highs = [low.next_s() for _ in range(10)], [high.next_s() for _ in range(10)]
    assert (lows[:3], highs[:3]) == ([0.25, 0.5, 1.0], [0.5, 1.0, 2.0])
    assert (lows[-1], highs[-1]) == (pace.LONGEST_S / 2, pace.LONGEST_S)
    high.reset()
    assert high.next_s() == 0.5


def test_what_a_server_asks_for_is_the_least_of_it() -> None:
    assert pace.Pace(lambda: 1.0).next_s(at_least_s=7.0) > 7.0
