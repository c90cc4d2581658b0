"""A topology with an external program in an agent's place: stand-ins for Cilium's own, beside one of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.errors import AcnsError, InputError
from lab.policy_tools.node_state import NodeState
from lab.report import tables
from lab.runtime.lab import Lab
from lab.spec.load import load_topology

from .. import cluster_dns
from .peers import until
from .policies import DNS_POD, DNS_SERVICE, client_policy

HERE = Path(__file__).parent
ALLOWED, DENIED = "api.example.com", "evil.example.org"
ALLOWED_ADDRESS, DENIED_ADDRESS = "198.51.100.10", "198.51.100.99"
CONNECT_AFTER_S = 10.0  # as the real one

PODS = [
    {"name": "a", "node": "n1", "labels": {"app": "client"}, "address": "10.244.0.2"},
    {"name": "free", "node": "n1", "labels": {"app": "free"}, "address": "10.244.0.7"},
    cluster_dns.pod("n1", address=DNS_POD, program=cluster_dns.DNSMASQ),
]


def topology(external: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "external",
        "nodes": [{"name": "n1", "external": external}],
        "pods": PODS,
        "services": [cluster_dns.SERVICE],
        "internet": {
            "names": {
                ALLOWED: {"a": [ALLOWED_ADDRESS]},
                "www.example.net": {"cname": "edge.cdn.example.net"},
                "edge.cdn.example.net": {"a": ["198.51.100.20"]},
                DENIED: {"a": [DENIED_ADDRESS]},
            }
        },
        "policies": [{"inline": yaml.safe_dump(client_policy(ALLOWED))}],
        "expect": [
            f"a resolves {ALLOWED}",
            f"a connects {ALLOWED}:443",
            f"a connects {ALLOWED}:80",
            f"a refused {DENIED}",
            f"a blocked {DENIED_ADDRESS}:443",
            f"free resolves {DENIED}",
            f"free connects {DENIED}:443",
        ],
    }


def up(tmp_path: Path, external: dict[str, Any]) -> Lab:
    """From a file, as a user would."""
    file = tmp_path / "external.yaml"
    file.write_text(yaml.safe_dump(topology(external)))
    return Lab.up(load_topology(file), name=f"t{os.getpid()}-ext")


def query(lab: Lab, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return lab.pod("a").run(["dig", f"@{DNS_SERVICE}", name, "+tries=1", "+timeout=2", *options])


def assert_all_true(lab: Lab) -> None:
    assert [row for row in lab.check() if not row.ok] == []


# --- in place of the resolver -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Our shim, and the stand-in for Cilium's proxy."""
    command = [sys.executable, str(HERE / "stand_in_proxy.py"), "--agent", "{fqdndata}"]
    command += ["--dns-port", "{dns_port}", "--connect-after", str(CONNECT_AFTER_S)]
    proxy = {"command": command, "ready_within_s": 60}
    running = up(tmp_path_factory.mktemp("proxied"), {"resolver": proxy})
    try:
        yield running
    finally:
        running.down()


def test_pods_resolve_and_connect_through_a_proxy_that_is_not_ours(proxied: Lab) -> None:
    proxied.wait_settled()
    assert_all_true(proxied)


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_it_sees_what_the_pod_asked_over_both_transports(proxied: Lab, transport: str) -> None:
    assert ALLOWED_ADDRESS in query(proxied, ALLOWED, transport).stdout
    assert "198.51.100.20" in query(proxied, "www.example.net", transport).stdout
    assert "status: REFUSED" in query(proxied, DENIED, transport).stdout


def test_its_reports_of_queries_are_answered(proxied: Lab) -> None:
    shim = proxied.node("n1").shim

    def reports(response: str) -> float:
        start = f'acns_mapping_reports_total{{response="{response}"}} '
        lines = shim.http_get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))

    before = reports("NO_ERROR")
    query(proxied, DENIED)
    query(proxied, ALLOWED)
    assert reports("NO_ERROR") == before + 3  # two queries, one answer
    assert reports("ERROR_INVALID_ARGUMENT") == reports("ERROR_ENDPOINT_NOT_FOUND") == 0


def test_the_status_says_whose_program_it_is(proxied: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    status = proxied.status()
    found = {agent.name: (agent.external, agent.health) for agent in status.nodes[0].agents}
    assert found == {"shim": ("", "ready"), "resolver": (Path(sys.executable).name, "ready")}
    tables.print_status(status)
    assert f"resolver ({Path(sys.executable).name})" in capsys.readouterr().out


def test_killed_it_fails_closed_and_is_started_again(proxied: Lab) -> None:
    resolver = proxied.node("n1").resolver
    before = resolver.restarts
    resolver.kill(signal.SIGKILL)
    until(lambda: resolver.restarts > before, "started again")
    assert query(proxied, ALLOWED).returncode != 0  # it has not bound its port yet
    assert resolver.status().state == "starting"
    resolver.wait_ready(60)
    assert_all_true(proxied)


def test_a_policy_change_reaches_it(proxied: Lab) -> None:
    proxied.write_manifest("inline-1.yaml", yaml.safe_dump(client_policy(DENIED)))
    try:
        until(lambda: DENIED_ADDRESS in query(proxied, DENIED).stdout, "the new name is allowed")
        assert "status: REFUSED" in query(proxied, ALLOWED).stdout
    finally:
        proxied.write_manifest("inline-1.yaml", yaml.safe_dump(client_policy(ALLOWED)))
        until(lambda: ALLOWED_ADDRESS in query(proxied, ALLOWED).stdout, "the old name is allowed again")


# --- in place of the shim ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Our resolver, and the stand-in for Cilium's agent."""
    command = [sys.executable, str(HERE / "stand_in_agent.py"), "--listen", "{fqdndata}"]
    command += ["--dns-port", "{dns_port}", "--pod", "10.244.0.2", "--server", DNS_SERVICE]
    command += ["--name", ALLOWED, "--name", "*.example.net"]
    running = up(tmp_path_factory.mktemp("led"), {"shim": {"command": command}})
    try:
        yield running
    finally:
        running.down()


def test_pods_resolve_and_connect_by_an_agent_that_is_not_ours(led: Lab) -> None:
    led.wait_settled()
    assert led.node("n1").resolver.http_get("/readyz").json()["agent_connected"]
    assert_all_true(led)


def test_our_resolver_tells_it_what_names_resolve_to(led: Lab) -> None:
    assert "198.51.100.20" in query(led, "www.example.net").stdout
    log = led.process("n1/shim").log_file.read_text()
    assert "fqdn='www.example.net.', record_ip=(b'198.51.100.20',)" in log
    assert "acknowledged: (1, '')" in log


def test_the_status_knows_what_it_cannot_ask(led: Lab) -> None:
    status = led.status()
    assert {agent.name: bool(agent.external) for agent in status.nodes[0].agents} == {
        "shim": True,
        "resolver": False,
    }
    assert all(pod.identity is None for pod in status.pods)


def test_an_explanation_needs_a_shim_of_ours_and_says_so(led: Lab) -> None:
    with pytest.raises(InputError, match="no shim of ours runs on n1"):
        NodeState(led, led.node("n1"))


# --- failing ----------------------------------------------------------------------------------------------


def test_a_program_that_never_serves_fails_the_lab_with_its_last_words(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo cannot find my configuration in {home} >&2; sleep 60"]
    said = r"(?s)n1/resolver is not ready after 1 s.*cannot find my configuration in /"
    with pytest.raises(AcnsError, match=said):
        up(tmp_path, {"resolver": {"command": command, "ready_within_s": 1}})
