"""The agents with what their DaemonSets give them, and no more: they work, and an update loses no query."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import pytest

from ...unit.deploy import kustomize
from ..resolver.resolver_world import until
from .as_a_pod import Pod
from .kind_node import ADDRESS, CLIENT, DATA, KUBE_DNS, START_S, KindNode

pytestmark = pytest.mark.root

NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 1 << 10, 1 << 12, 1 << 13


class Cluster:
    """A node with a host path, and the pods on it."""

    def __init__(self, folder: Path) -> None:
        self.node = KindNode("nftables", folder)
        self.host_path = folder / "run-acns"
        self.host_path.mkdir()
        (self.host_path / "manifests").mkdir()
        (self.host_path / "manifests" / "cluster.yaml").write_text((DATA / "cluster.yaml").read_text())
        self.pods: list[Pod] = []

    def start(self, name: str) -> Pod:
        settings = kustomize.DEPLOY / "agents" / f"{name.removeprefix('acns-')}.toml"
        if name == "acns-shim":  # there is no API server here: its objects are in a folder
            text = settings.read_text().replace('source = "kubernetes"', 'manifests = "/run/acns/manifests"')
            settings = self.host_path / "shim.toml"
            settings.write_text(text)
        self.pods.append(Pod(name, self.node.node, self.host_path, settings))
        return self.pods[-1]

    def end(self) -> None:
        for pod in self.pods:
            pod.kill()
        self.node.end()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.end()


def ready(pod: Pod) -> Pod:
    until(lambda: pod.status("readiness"), "ready", START_S)
    return pod


def test_with_their_capabilities_and_a_read_only_root_the_agents_enforce(cluster: Cluster) -> None:
    shim, resolver = ready(cluster.start("acns-shim")), ready(cluster.start("acns-resolver"))
    assert shim.capabilities() == NET_ADMIN
    assert resolver.capabilities() & ~(NET_RAW | NET_BIND_SERVICE) == 0
    node = cluster.node
    assert ADDRESS in node.ask(CLIENT, KUBE_DNS).to_text()
    with node.listening(node.rest, "0.0.0.0", 443), node.listening(node.rest, "0.0.0.0", 80):
        assert node.connects(CLIENT, ADDRESS, 443)
        assert not node.connects(CLIENT, ADDRESS, 80, within_s=0.5)
    assert shim.status("liveness")
    assert shim.delete() == 0
    assert ADDRESS in node.ask(CLIENT, KUBE_DNS).to_text(), "the resolver commits in its stead"


class Asking:
    """A pod that asks all the time, by UDP and by TCP; what was not answered."""

    def __init__(self, node: KindNode) -> None:
        self.node = node
        self.answered = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(tcp,)) for tcp in (False, True)]
        for one in self._threads:
            one.start()

    def _ask(self, tcp: bool) -> None:
        while not self._stop.is_set():
            try:
                assert ADDRESS in self.node.ask(CLIENT, KUBE_DNS, tcp=tcp).to_text()
                self.answered += 1
            except (dns.exception.DNSException, OSError, AssertionError) as error:
                self.failed.append(f"{'tcp' if tcp else 'udp'}: {error!r}")

    def end(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()


def test_a_rolling_update_with_surge_loses_no_query(cluster: Cluster) -> None:
    """New pod first, ready once it has everything; the old one lives on, not ready, until deleted."""
    ready(cluster.start("acns-shim"))
    old = ready(cluster.start("acns-resolver"))
    asking = Asking(cluster.node)
    try:
        for _ in range(2):
            new = ready(cluster.start("acns-resolver"))
            until(lambda one=old: not one.status("readiness") and one.status("liveness"), "retired", START_S)
            before = asking.answered
            until(lambda count=before: asking.answered > count + 20, "served by the new one", START_S)
            assert old.is_running(), "a container that ends is started again, and takes everything back"
            assert old.delete() == 0
            assert new.status("readiness")
            old = new
    finally:
        asking.end()
    assert asking.failed == []
    assert asking.answered > 50


def test_a_retired_one_ends_to_be_started_again_when_nobody_serves_any_more(cluster: Cluster) -> None:
    ready(cluster.start("acns-shim"))
    old = ready(cluster.start("acns-resolver"))
    new = ready(cluster.start("acns-resolver"))
    until(lambda: not old.status("readiness"), "retired", START_S)
    new.kill()
    assert old.process.wait(START_S) == 0
    assert ADDRESS in _again(cluster)


def _again(cluster: Cluster) -> str:
    ready(cluster.start("acns-resolver"))
    return cluster.node.ask(CLIENT, KUBE_DNS).to_text()
