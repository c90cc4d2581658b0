"""DNS servers of all kinds, in a pod and on the Internet, programs and DNS settings of pods, worse links:
each as its topology says, seen with real clients."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from lab.errors import EnvironmentFault
from lab.kernel import features
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName, Topology

pytestmark = pytest.mark.root

OWN = {
    "only.example.com": {
        "a": ["198.51.100.71", "198.51.100.72"],
        "aaaa": ["2001:db8::71"],
        "ttl_s": 77,
        "records": {"MX": ["10 mail.example.com."], "TXT": ['"a b"'], "HTTPS": ["1 . alpn=h2"]},
    },
    "alias.example.com": {"cname": "only.example.com", "ttl_s": 33},
}
SERVERS = {"second": "203.0.113.54", "third": "203.0.113.55", "fourth": "203.0.113.56"}
KINDS = dict(zip(SERVERS, ("unbound", "dnsmasq", "scripted"), strict=True))
VALUE = {
    "nodes": [{"name": "n1"}],
    "pods": [
        {"name": "a", "node": "n1"},
        {
            "name": "kube-dns",
            "namespace": "kube-system",
            "node": "n1",
            "labels": {"k8s-app": "kube-dns"},
            "program": {"kind": "unbound"},
        },
        {"name": "scripted", "node": "n1", "address": "10.244.0.54", "program": {"kind": "scripted"}},
        {
            "name": "own",
            "node": "n1",
            "program": {"kind": "shell", "script": "echo $$ > /proc/self/comm; exec sleep 1000"},
            "dns": {
                "policy": "None",
                "nameservers": ["203.0.113.54"],
                "searches": ["example.com"],
                "options": {"ndots": 1, "use-vc": None},
            },
        },
        {"name": "more", "node": "n1", "dns": {"nameservers": ["203.0.113.55"], "options": {"ndots": 2}}},
        {"name": "lossy", "node": "n1"},
        {"name": "slow", "node": "n1"},
    ],
    "services": [
        {
            "name": "kube-dns",
            "namespace": "kube-system",
            "cluster_ip": "10.96.0.10",
            "selector": {"k8s-app": "kube-dns"},
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53}],
        }
    ],
    "internet": {
        "servers": [
            {"name": name, "address": address, "kind": KINDS[name], "names": OWN}
            for name, address in SERVERS.items()
        ],
        "names": {
            "api.example.com": {"a": ["198.51.100.10"], "ttl_s": 300},
            "late.example.com": {"a": ["198.51.100.11"], "delay_ms": 400},
            "cut.example.com": {"a": ["198.51.100.12"], "truncate": True},
            "bad.example.com": {"rcode": "SERVFAIL"},
        },
    },
    "links": [{"of": "lossy", "loss": 0.4}, {"of": "slow", "rate_kbit": 800}],
    "faults": ["upstream servfail --at scripted"],
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    name = f"kinds-{os.getpid()}"
    made = Lab.up(Topology.model_validate({"name": name, **VALUE}), name)
    try:
        yield made
    finally:
        made.down()


def dig(lab: Lab, *arguments: str, pod: str = "a") -> str:
    return lab.pod(pod).run(["dig", "+time=2", "+tries=1", *arguments]).stdout


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_of_the_internet_has_its_names_whatever_its_kind(lab: Lab, server: str) -> None:
    at = f"@{SERVERS[server]}"
    answer = dig(lab, at, "alias.example.com")
    assert re.search(r"alias\.example\.com\.\s+33\s+IN\s+CNAME\s+only\.example\.com\.", answer)
    assert re.search(r"only\.example\.com\.\s+77\s+IN\s+A\s+198\.51\.100\.71", answer)
    short = ("+short", at, "only.example.com")
    assert sorted(dig(lab, *short).split()) == ["198.51.100.71", "198.51.100.72"]
    assert dig(lab, *short, "AAAA").split() == ["2001:db8::71"]
    assert dig(lab, *short, "MX").split() == ["10", "mail.example.com."]
    assert dig(lab, *short, "TXT").strip() == '"a b"'
    assert dig(lab, *short, "HTTPS").strip() == '1 . alpn="h2"'
    assert "status: NXDOMAIN" in dig(lab, at, "none.example.com")
    assert "status: NXDOMAIN" in dig(lab, at, "api.example.com")  # that is another server's


def test_unbound_in_the_cluster_gives_out_what_is_left_of_a_ttl(lab: Lab) -> None:
    def ttl() -> int:
        found = re.search(
            r"api\.example\.com\.\s+(\d+)\s+IN\s+A\s+198\.51\.100\.10", dig(lab, "api.example.com")
        )
        assert found
        return int(found[1])

    first, deadline = ttl(), time.monotonic() + 10
    assert first <= 300
    while ttl() >= first:
        assert time.monotonic() < deadline, "the TTL does not run"
        time.sleep(0.1)
    assert dig(lab, "+short", "kube-dns.kube-system.svc.cluster.local").split() == ["10.96.0.10"]
    assert "status: NXDOMAIN" in dig(lab, "api.example.com.default.svc.cluster.local")


def test_a_scripted_server_answers_late_truncated_or_wrong_where_it_is_told_to(lab: Lab) -> None:
    at = f"@{lab.topology.internet.dns}"
    began = time.monotonic()
    assert dig(lab, "+short", at, "late.example.com").split() == ["198.51.100.11"]
    assert time.monotonic() - began >= 0.4
    cut = dig(lab, "+ignore", at, "cut.example.com")
    assert " tc " in cut.replace(";", " ; ")
    assert "198.51.100.12" not in cut
    assert dig(lab, "+short", "+tcp", at, "cut.example.com").split() == ["198.51.100.12"]
    assert "status: SERVFAIL" in dig(lab, at, "bad.example.com")


def test_a_scripted_server_in_a_pod_has_the_services_and_the_internets_names(lab: Lab) -> None:
    over = lab.pod("scripted").run(["dig", "+short", "@10.244.0.54", "api.example.com"]).stdout
    assert over.split() == ["198.51.100.10"]


def test_new_names_of_the_internet_are_known_to_scripted_servers_in_pods_too(lab: Lab) -> None:
    names = lab.topology.internet.names
    lab.set_names({**names, "new.example.com": InternetName(a=(IPv4Address("198.51.100.88"),))})
    try:
        asked = ["dig", "+short", "@10.244.0.54", "new.example.com"]
        assert lab.pod("scripted").run(asked).stdout.split() == ["198.51.100.88"]
        assert "kube-dns" in (lab.folder.pod("default/scripted") / "names.json").read_text()
    finally:
        lab.set_names(names)


def test_a_fault_of_the_topology_is_there_from_the_start(lab: Lab) -> None:
    assert "status: SERVFAIL" in dig(lab, "@10.244.0.54", "api.example.com")


def test_a_pods_dns_settings_are_its_resolv_conf(lab: Lab) -> None:
    own = lab.pod("own").run(["cat", "/etc/resolv.conf"]).stdout
    assert own == "search example.com\nnameserver 203.0.113.54\noptions ndots:1 use-vc\n"
    more = lab.pod("more").run(["cat", "/etc/resolv.conf"]).stdout
    assert more == (
        "search default.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\nnameserver 203.0.113.55\noptions ndots:2\n"
    )
    assert "198.51.100.71" in lab.pod("own").run(["getent", "ahostsv4", "only"]).stdout


def test_packets_are_lost_on_a_lossy_link_and_on_no_other(lab: Lab) -> None:
    ask = ["dig", "+time=1", "+tries=1", "+short", f"@{lab.topology.internet.dns}", "api.example.com"]

    def lost(pod: str, tries: int) -> int:
        running = [lab.pod(pod).popen(ask, stdout=-1, text=True) for _ in range(tries)]
        return sum("198.51.100.10" not in (one.communicate()[0] or "") for one in running)

    assert 0 < lost("lossy", 20) < 20  # there and back: 64 %
    assert lost("a", 20) == 0


def test_a_slow_link_takes_as_long_as_its_rate_says(lab: Lab) -> None:
    """100 kB at 800 kbit/s last a second; the first burst is free."""
    url = "http://198.51.100.10/download?bytes=100000"

    def takes_s(pod: str) -> float:
        began = time.monotonic()
        done = lab.pod(pod).run(
            ["curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", url], timeout_s=30
        )
        assert done.stdout == "100000", done.stderr
        return time.monotonic() - began

    assert takes_s("slow") > 0.8


def test_a_delay_takes_netem_and_is_never_left_out_in_silence() -> None:
    can = next(one.ok for one in features.probe() if one.name == "netem")
    value = {**VALUE, "links": [{"of": "a", "delay_ms": 150}], "faults": []}
    name = f"late-{os.getpid()}"
    topology = Topology.model_validate({"name": name, **value})
    if not can:
        with pytest.raises(EnvironmentFault, match=r"cannot delay packets.*netem"):
            Lab.up(topology, name)
        return
    made = Lab.up(topology, name)
    try:
        began = time.monotonic()
        assert dig(made, "+short", f"@{topology.internet.dns}", "api.example.com").split() == [
            "198.51.100.10"
        ]
        assert time.monotonic() - began >= 0.3
    finally:
        made.down()
