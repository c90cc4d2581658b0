"""What the Kubernetes source makes of an API server's objects: lists, changes, pages."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
import trustme

from acns.shim.sources import memory
from acns.shim.sources.kubernetes import api
from acns.shim.sources.kubernetes.resources import CILIUM_POLICIES
from tests.e2e.kubernetes.standin_answers import RECORDED
from tests.e2e.kubernetes.standin_apiserver import StandInAPIServer
from tests.unit.shim_sources.observing import lists, observing, pod, policy, refused_policy, watches


async def test_nothing_is_observed_before_every_resource_is_listed(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(pod("web"))
    server.change(forbidden={("list", "networkpolicies")})
    async with observing(server, tmp_path) as seen:
        await seen.until(lambda: seen.feed("pods").listed)
        await seen.until(lambda: seen.metrics.failures.count("networkpolicies", "forbidden") > 4)
        assert seen.seen == []
        assert any("networkpolicies" in text for text in seen.source.obstacles)
        server.change(forbidden=set())
        await seen.begun()
        assert seen.names("Pod") == {"web"}
        assert seen.source.obstacles == ()


async def test_what_a_real_server_listed_is_read(server: StandInAPIServer, tmp_path: Path) -> None:
    for name in ("namespaces", "nodes", "services", "endpointslices", "networkpolicies", "pods-label-client"):
        server.load(json.loads((RECORDED / "api" / f"{name}.json").read_text()))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        assert [problem for problem in seen.now.problems if not problem.warning] == []
        assert seen.names("Node") == {"demo-control-plane", "demo-worker"}
        assert "kube-dns" in seen.names("Service")
        client = next(one for one in seen.now.objects if one.ref[0] == "Pod")
        assert (str(client.pod_ip), client.node_name) == ("10.244.1.3", "demo-worker")


async def test_a_pod_that_the_profile_refuses_is_there_and_what_selects_it_holds(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    both = pod("web")
    both["status"]["podIPs"].append({"ip": "fd00::9"})
    server.put(both)
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        assert str(seen.one("Pod", "web").pod_ip) == "10.244.1.9"
        assert [str(problem) for problem in seen.now.problems if "IPv6" in str(problem)]


async def test_a_pod_that_nobody_can_read_costs_nothing_but_itself(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(pod("bad", "not-an-ip"))
    server.put(pod("web"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        assert seen.names("Pod") == {"web"}
        assert [problem for problem in seen.now.problems if "shop/bad" in str(problem)]


async def test_changes_follow_one_another(server: StandInAPIServer, tmp_path: Path) -> None:
    server.put(pod("web"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.put(pod("other", "10.244.1.10"))
        await seen.until(lambda: seen.names("Pod") == {"web", "other"})
        server.put(pod("web", tier="front"))
        await seen.until(lambda: seen.one("Pod", "web").labels.get("tier") == "front")
        server.remove("Pod", "shop", "web")
        await seen.until(lambda: seen.names("Pod") == {"other"})
        assert len(lists(server, "/pods")) == 1


async def test_a_list_of_many_pages_is_one(
    server: StandInAPIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAGE_ITEMS", 3)
    for number in range(10):
        server.put(pod(f"pod-{number}", f"10.244.1.{number + 2}"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        assert len(seen.names("Pod")) == 10
        assert len(lists(server, "/pods")) == 4
        # Never from a cache that may lag: policy must not go back in time.
        assert all("resourceVersion" not in one.query for one in lists(server, "/pods"))


async def test_pages_that_expire_begin_anew_and_nothing_is_forgotten_meanwhile(
    server: StandInAPIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAGE_ITEMS", 3)
    for number in range(10):
        server.put(pod(f"pod-{number}", f"10.244.1.{number + 2}"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.change(expired_continues=2)
        server.expire_history()
        server.put(pod("late", "10.244.1.99"))
        server.go_away()
        server.come_back()
        await seen.until(lambda: "late" in seen.names("Pod"))
        assert all(len([one for one in each.objects if one.ref[0] == "Pod"]) >= 10 for each in seen.seen)
        assert seen.names("Pod") == {*(f"pod-{number}" for number in range(10)), "late"}


async def test_an_object_that_comes_again_unchanged_is_no_news_and_the_same_value(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(pod("web"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        before, count = seen.one("Pod", "web"), len(seen.seen)
        changed = pod("web")
        changed["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        server.put(changed)
        server.put(pod("other", "10.244.1.10"))
        await seen.until(lambda: "other" in seen.names("Pod"))
        assert seen.one("Pod", "web") is before
        assert len(seen.seen) == count + 1


# --- policies that cannot be read ---------------------------------------------------------------------------


async def test_a_refused_policy_counts_as_it_last_was_and_its_place_is_the_field(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(policy())
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        good = seen.one("CiliumNetworkPolicy", "web")
        server.put(refused_policy())
        await seen.until(lambda: bool(seen.now.problems))
        assert seen.one("CiliumNetworkPolicy", "web") is good
        said = [str(problem) for problem in seen.now.problems if not problem.warning]
        assert said[0].startswith("CiliumNetworkPolicy shop/web spec.egress[0].toPorts[0].rules.http")
        server.put(policy(host="new.example.com"))
        await seen.until(lambda: not seen.now.problems)
        assert seen.one("CiliumNetworkPolicy", "web") != good


async def test_a_restart_beside_a_refused_policy_still_enforces_its_last_good_text(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(policy())
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        good = seen.one("CiliumNetworkPolicy", "web")
    server.put(refused_policy())
    async with observing(server, tmp_path, adopting=True) as seen:
        await seen.begun()
        assert seen.one("CiliumNetworkPolicy", "web") == good
        assert seen.now.complete
        assert [problem for problem in seen.now.problems if not problem.warning]


async def test_without_its_memory_a_run_that_takes_over_does_not_go_by_a_refused_policy(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(refused_policy())
    async with observing(server, tmp_path, adopting=True) as seen:
        await seen.begun()
        assert not seen.now.complete
        server.put(policy())
        await seen.until(lambda: seen.now.complete)


async def test_a_policy_that_was_deleted_is_not_remembered(server: StandInAPIServer, tmp_path: Path) -> None:
    server.put(policy())
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.remove("CiliumNetworkPolicy", "shop", "web")
        await seen.until(lambda: not seen.names("CiliumNetworkPolicy"))
    server.put(refused_policy())
    async with observing(server, tmp_path, adopting=True) as seen:
        await seen.begun()
        assert seen.names("CiliumNetworkPolicy") == set()


async def test_a_policy_of_a_list_that_is_still_being_read_is_remembered(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    """Other resources change meanwhile, and what is known is saved."""
    title = "CiliumNetworkPolicy shop/late"
    server.put(policy())
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        shelf = next(each.shelf for each in seen.source.watched if each.shelf.resource is CILIUM_POLICIES)
        listed = shelf.read(json.dumps(one).encode() for one in (policy(), policy("late")))
        server.put(pod("web"))
        await seen.until(lambda: seen.names("Pod") == {"web"})
        shelf.replace(listed)
        server.put(pod("other"))
        await seen.until(lambda: seen.names("Pod") == {"web", "other"})
        assert memory.Memory(tmp_path / "kubernetes.log").get(title)
        shelf.replace(shelf.read([json.dumps(policy()).encode()]))
        server.put(pod("third"))
        await seen.until(lambda: "third" in seen.names("Pod"))
        assert memory.Memory(tmp_path / "kubernetes.log").get(title) is None


# --- the connection -----------------------------------------------------------------------------------------


async def test_the_server_is_verified_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    other = trustme.CA()
    (tmp_path / "other.pem").write_bytes(other.cert_pem.bytes())
    with StandInAPIServer(tls=context, token="secret") as server:
        server.put(pod("web"))
        async with observing(server, tmp_path, authority=tmp_path / "ca.pem") as seen:
            await seen.begun()
            assert seen.names("Pod") == {"web"}
        async with observing(server, tmp_path, authority=tmp_path / "other.pem") as seen:
            await seen.until(lambda: "certificate" in seen.feed("pods").why.lower())
            assert seen.seen == []


async def test_watches_ask_for_bookmarks_and_for_an_end_of_their_own(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        query = watches(server, "/pods")[0].query
        assert query["allowWatchBookmarks"] == "true"
        assert 240 <= int(query["timeoutSeconds"]) <= 360
