"""What the metrics of both agents say of things that happen: scraped before and after."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runtime.handles import ProcessHandle
from lab.runtime.lab import Lab
from lab.spec.load import find_topology, load_topology
from lab.spec.topology import InternetName

from .wire import until

pytestmark = pytest.mark.root

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
API, SHORT_TTL_S = "api.example.com", 2
API_ADDRESS, HTTPS = "198.51.100.77", 443


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """`quickstart`, whose shim collects often; one name has a short TTL and an address of its own."""
    topology = load_topology(find_topology("quickstart"))
    (node,) = topology.nodes
    eager = node.model_copy(update={"shim": {"fqdn_gc_interval_s": 0.2}})
    names = {**topology.internet.names, API: InternetName(a=[API_ADDRESS], ttl_s=SHORT_TTL_S)}
    internet = topology.internet.model_copy(update={"names": names})
    changed = topology.model_copy(update={"nodes": (eager,), "internet": internet})
    running = Lab.up(changed, name=f"t{os.getpid()}-metrics")
    running.wait_settled()
    try:
        yield running
    finally:
        running.down()


def scraped(agent: ProcessHandle) -> dict[str, float]:
    """Every sample by its name and labels, as in the text."""
    lines = agent.http_get("/metrics").text.splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


class Watch:
    """What has been added to the samples of both agents since."""

    def __init__(self, lab: Lab) -> None:
        node = lab.node("node1")
        self._agents = node.resolver, node.shim
        self._before = self._now()

    def added(self, sample: str) -> float:
        return self._now().get(sample, 0.0) - self._before.get(sample, 0.0)

    def _now(self) -> dict[str, float]:
        resolver, shim = map(scraped, self._agents)
        return {**resolver, **shim}


def dig(lab: Lab, name: str, *options: str, pod: str = "frontend") -> str:
    return lab.pod(pod).run(["dig", name, "+tries=1", *options]).stdout


def upstream(outcome: str, scope: str = "upstreamTime") -> str:
    return f'cilium_proxy_upstream_reply_seconds_count{{error="{outcome}",protocol_l7="dns",scope="{scope}"}}'


def test_the_agents_show_the_metrics_of_the_page_and_no_others(lab: Lab) -> None:
    text = PAGE.read_text()
    listed = set(re.findall(r"^\| `([a-z_0-9]+)` \|", text, re.M)) | set(re.findall(r"`(process_\w+)`", text))
    of_an_api_server = {
        name for name in listed if name.startswith("acns_kubernetes_")
    }  # of that source alone
    shown = set()
    for agent in (lab.node("node1").resolver, lab.node("node1").shim):
        for line in agent.http_get("/metrics").text.splitlines():
            if line.startswith("# TYPE ") and not line.split()[2].endswith("_created"):
                shown.add(line.split()[2])
    assert shown == listed - of_an_api_server


def test_an_allowed_name_counts_at_every_step(lab: Lab) -> None:
    watch = Watch(lab)
    assert "198.51.100.30" in dig(lab, "shared.example.com")
    assert watch.added('acns_dns_queries_total{transport="udp",verdict="forward"}') == 1
    assert watch.added(upstream("allow")) == 1
    assert watch.added(upstream("allow", "dataplaneTime")) == 1
    assert watch.added('acns_mappings_total{outcome="committed"}') == 1
    assert watch.added('acns_mapping_reports_total{response="NO_ERROR"}') == 1
    assert watch.added('acns_dns_answers_total{outcome="learned",transport="udp"}') == 1
    assert watch.added("cilium_fqdn_active_names") == 1
    assert watch.added("cilium_fqdn_active_ips") == 1


def test_a_denied_name_is_a_query_and_nothing_more(lab: Lab) -> None:
    watch = Watch(lab)
    assert "status: REFUSED" in dig(lab, "evil.example.org", "+tcp")
    assert watch.added('acns_dns_queries_total{transport="tcp",verdict="denied"}') == 1
    assert watch.added(upstream("allow")) == watch.added("cilium_fqdn_active_names") == 0


def test_an_address_lives_is_kept_for_a_connection_and_goes(lab: Lab) -> None:
    watch = Watch(lab)
    assert API_ADDRESS in dig(lab, API)
    assert watch.added("cilium_fqdn_active_ips") == 1
    with lab.pod("frontend").open_socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        stream.connect((API_ADDRESS, HTTPS))
        until(lambda: watch.added("cilium_fqdn_alive_zombie_connections") == 1, "kept past its TTL")
        assert watch.added("cilium_fqdn_active_ips") == watch.added("cilium_fqdn_active_names") == 0
        assert watch.added("cilium_fqdn_gc_deletions_total") == 0
    until(lambda: watch.added("cilium_fqdn_gc_deletions_total") == 1, "gone")
    assert watch.added("cilium_fqdn_alive_zombie_connections") == 0


def test_a_policy_change_shows_in_snapshots_selectors_enforcement_and_redirects(lab: Lab) -> None:
    shim = lab.node("node1").shim
    before = scraped(shim)
    enforced = 'cilium_policy_endpoint_enforcement_status{enforcement="%s"}'
    assert before["cilium_endpoint"] == 5
    assert (before[enforced % "egress"], before[enforced % "none"]) == (2, 3)
    assert before['cilium_proxy_redirects{protocol="dns"}'] == 2
    watch = Watch(lab)
    batch = lab.node("node1").manifests / "batch.yaml"
    text = batch.read_text()
    lab.remove_manifest("batch.yaml")
    try:
        until(lambda: watch.added('cilium_proxy_redirects{protocol="dns"}') == -1, "one pod less")
        until(lambda: watch.added('acns_policy_acknowledgements_total{outcome="applied"}') == 1, "taken")
        assert watch.added(enforced % "egress") == -1
        assert watch.added("cilium_fqdn_selectors") < 0
        assert watch.added('acns_policy_snapshots_total{outcome="applied"}') == 1
        until(lambda: watch.added("acns_policy_streams_behind") == 0, "nobody is behind")
    finally:
        lab.write_manifest("batch.yaml", text)
    until(lambda: watch.added('cilium_proxy_redirects{protocol="dns"}') == 0, "as before")


def test_a_dead_shim_and_its_return_are_counted(lab: Lab) -> None:
    node = lab.node("node1")
    before = scraped(node.resolver)
    mapping_lost = 'standalone_dns_proxy_fqdn_mapping_sync_errors{error="mapping_sync_connection"}'
    node.shim.hold()
    try:
        until(lambda: scraped(node.resolver)["acns_agent_connected"] == 0, "loss noticed")
        stream_lost = 'standalone_dns_proxy_retrieve_dns_rules_errors{error="policy_stream_recv"}'
        until(lambda: scraped(node.resolver)[stream_lost] == before[stream_lost] + 1, "counted")
        not_opened = 'standalone_dns_proxy_cilium_agent_connection_errors{error="open_policy_stream"}'
        until(lambda: scraped(node.resolver)[not_opened] > before[not_opened], "tries are counted")
        dig(lab, "www.example.com")
        assert scraped(node.resolver)[mapping_lost] == before[mapping_lost] + 1
        assert scraped(node.resolver)["acns_mappings_waiting"] == 1
    finally:
        node.shim.start()
        node.shim.wait_ready()
    until(lambda: scraped(node.resolver)["acns_agent_connected"] == 1, "back")
    replayed = 'acns_mappings_total{outcome="replayed"}'
    until(lambda: scraped(node.resolver).get(replayed, 0) == before.get(replayed, 0) + 1, "told again")
    assert scraped(node.resolver)["acns_mappings_waiting"] == 0
