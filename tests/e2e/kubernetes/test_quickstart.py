"""The quickstart lab, enforced from an API server instead of from files: the same promises."""

from __future__ import annotations

import signal

import pytest

from ..pair.probes import happens
from .on_api_server import PATIENCE_S, OnAPIServer

pytestmark = pytest.mark.root

CNP = "CiliumNetworkPolicy"


@pytest.fixture(autouse=True)
def mended(cluster: OnAPIServer) -> OnAPIServer:
    """Each test begins with the lab's objects, a well server, and a shim that goes by them."""
    cluster.server.change(forbidden=set())
    cluster.server.serve(CNP)
    for value in cluster.objects():
        cluster.server.put(value)
    if not cluster.said:
        cluster.start()
    cluster.wait_ready()
    assert happens(lambda: cluster.wrong() == [], PATIENCE_S)
    return cluster


def asks(cluster: OnAPIServer, name: str) -> str:
    """What frontend gets to hear of a name: NOERROR or REFUSED."""
    said = cluster.lab.pod("frontend").run(["dig", "+tries=1", "+time=5", name]).stdout
    return said.partition("status: ")[2].partition(",")[0]


def test_the_truth_table_is_that_of_the_files(cluster: OnAPIServer) -> None:
    assert cluster.wrong() == []
    assert cluster.said["source"]["server"] == cluster.server.url


def test_a_change_of_a_policy_is_enforced(cluster: OnAPIServer) -> None:
    assert asks(cluster, "api.example.com") == "NOERROR"
    cluster.server.remove(CNP, "default", "frontend")
    assert happens(lambda: asks(cluster, "evil.example.org") == "NOERROR", PATIENCE_S)
    for value in cluster.objects():
        cluster.server.put(value)
    assert happens(lambda: asks(cluster, "evil.example.org") == "REFUSED", PATIENCE_S)
    assert cluster.wrong() == []


def test_a_restart_that_finds_history_gone_opens_nothing_and_catches_up(cluster: OnAPIServer) -> None:
    cluster.stop(signal.SIGKILL)
    cluster.server.expire_history()
    cluster.server.remove(CNP, "default", "batch")
    # Nobody watches: the kernel enforces what it was told last.
    assert asks(cluster, "evil.example.org") == "REFUSED"
    cluster.start()
    cluster.wait_ready()
    assert asks(cluster, "evil.example.org") == "REFUSED"
    assert {row.pod for row in cluster.wrong()} == {"batch"}


def test_a_server_that_goes_away_leaves_its_last_word_in_force_and_is_told_of(cluster: OnAPIServer) -> None:
    cluster.server.go_away()
    try:
        assert happens(lambda: cluster.feed("ciliumnetworkpolicies").get("state") == "broken", PATIENCE_S)
        assert cluster.said["ready"]
        assert cluster.wrong() == []
        assert 'acns_kubernetes_followed{resource="pods"} 0.0' in cluster.node.shim.http_get("/metrics").text
    finally:
        cluster.server.come_back()
    cluster.server.remove(CNP, "default", "frontend")
    assert happens(lambda: asks(cluster, "evil.example.org") == "NOERROR", PATIENCE_S)


def test_a_restart_without_a_server_leaves_the_kernel_as_it_is(cluster: OnAPIServer) -> None:
    cluster.stop(signal.SIGKILL)
    cluster.server.go_away()
    cluster.start()
    try:
        assert happens(lambda: cluster.feed("pods").get("state") == "broken", PATIENCE_S)
        assert not cluster.said["ready"]
        assert any("pods: not listed yet" in reason for reason in cluster.said["reasons"])
        assert cluster.wrong() == []
    finally:
        cluster.server.come_back()
    cluster.wait_ready()
    assert cluster.wrong() == []


def test_policies_are_enforced_when_their_definition_appears(cluster: OnAPIServer) -> None:
    cluster.stop()
    cluster.server.unserve(CNP)
    cluster.start()
    cluster.wait_ready()
    assert cluster.feed("ciliumnetworkpolicies")["state"] == "absent"
    assert happens(lambda: asks(cluster, "evil.example.org") == "NOERROR", PATIENCE_S)
    cluster.server.serve(CNP)
    assert happens(lambda: asks(cluster, "evil.example.org") == "REFUSED", PATIENCE_S)
    assert cluster.wrong() == []


def test_a_missing_right_is_named_and_nothing_is_opened(cluster: OnAPIServer) -> None:
    cluster.stop()
    cluster.server.change(forbidden={("list", "ciliumnetworkpolicies")})
    cluster.start()
    right = 'verb "list" on resource "ciliumnetworkpolicies" in API group "cilium.io"'
    assert happens(lambda: any(right in reason for reason in cluster.said.get("reasons", [])), PATIENCE_S)
    assert cluster.wrong() == []
    cluster.server.change(forbidden=set())
    cluster.wait_ready()
