"""The lab's world without agents: real dnsmasq, real translation, real clients, in a lab of their own.

What is proven here is what every other end-to-end test takes for granted: that a question passes the
cluster's DNS unchanged, that Services lead to their backends and nowhere else, that pods resolve as in
Kubernetes.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rcode
import pytest

from lab.backends.order import NO_AGENTS
from lab.runtime.lab import Lab
from lab.spec import expect
from lab.spec.load import load_topology
from lab.world import kubeproxy, probe

pytestmark = pytest.mark.root

CLUSTER_DNS = "10.96.0.10"
TOPOLOGY = """\
name: world
nodes: [{name: node1}, {name: node2}]
pods:
  - {name: client, node: node1}
  - {name: far, node: node2}
  - name: web-1
    node: node1
    address: 10.244.0.20
    labels: {app: web}
    program: &web {kind: web, http_port: 8080, https_port: 8443}
  - {name: web-2, node: node2, address: 10.244.1.20, labels: {app: web}, program: *web}
  - name: kube-dns
    namespace: kube-system
    node: node1
    labels: {k8s-app: kube-dns}
    program: {kind: dnsmasq}
services:
  - name: kube-dns
    namespace: kube-system
    cluster_ip: 10.96.0.10
    selector: {k8s-app: kube-dns}
    ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]
  - name: web
    cluster_ip: 10.96.20.20
    selector: {app: web}
    ports: [{name: http, port: 80, target_port: 8080}]
  - {name: empty, cluster_ip: 10.96.20.21, selector: {app: none}, ports: [{name: http, port: 80}]}
internet:
  names:
    api.example.com: {a: [198.51.100.10]}
    www.example.com: {cname: cdn.example.net, ttl_s: 30}
    cdn.example.net: {a: [198.51.100.20], ttl_s: 5}
    dual.example.com: {a: [198.51.100.50], aaaa: ["2001:db8::50"]}
    big.example.com: {a: [BIG]}
""".replace("BIG", ", ".join(f"203.0.113.{n}" for n in range(100, 200)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    path = tmp_path_factory.mktemp("world") / "world.yaml"
    path.write_text(TOPOLOGY)
    made = Lab.up(load_topology(path), f"world-{os.getpid()}", agents=NO_AGENTS)
    try:
        yield made
    finally:
        made.down()


def run(lab: Lab, pod: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return lab.pod(pod).run(argv, timeout_s=30)


def ask(lab: Lab, query: dns.message.Message, pod: str = "client") -> bytes:
    """The reply to `query`, byte for byte, as `pod` gets it from the cluster's DNS."""
    with lab.pod(pod).open_socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.connect((CLUSTER_DNS, 53))
        opened.send(query.to_wire())
        return opened.recv(65_535)


def read(lab: Lab, name: str, kind: str = "A", **options: int) -> dns.message.Message:
    return dns.message.from_wire(ask(lab, dns.message.make_query(name, kind, **options)))


def upstream(lab: Lab) -> list[dict[str, object]]:
    log = lab.folder.query_log
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def upstream_since(lab: Lab, before: int) -> list[tuple[object, object]]:
    return [(entry["name"], entry["type"]) for entry in upstream(lab)[before:]]


def through_service(
    lab: Lab, pod: str, times: int = 1, target: str = "10.96.20.20:80"
) -> list[dict[str, str]]:
    """What the web server behind a Service says, asked `times` times over new connections."""
    urls = [f"http://{target}/"] * times
    done = run(lab, pod, "curl", "-sS", "--max-time", "3", "-H", "Connection: close", *urls)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split("host: ")[1:]
    return [dict(line.split(": ", 1) for line in ("host: " + one).splitlines()) for one in answers]


# The cluster's DNS


def test_the_question_passes_dnsmasq_both_ways_with_its_case(lab: Lab) -> None:
    before = len(upstream(lab))
    query = dns.message.make_query("aPi.ExAmPlE.cOm", "A")
    assert ask(lab, query)[12 : len(query.to_wire())] == query.to_wire()[12:]
    assert upstream_since(lab, before) == [("aPi.ExAmPlE.cOm.", "A")]


def test_edns_passes_dnsmasq_and_is_not_added(lab: Lab) -> None:
    assert read(lab, "api.example.com", use_edns=0, payload=4096).edns == 0
    assert read(lab, "api.example.com").edns == -1


def test_aaaa_and_cname_chains_pass_dnsmasq_unchanged(lab: Lab) -> None:
    addresses = [str(item) for rrset in read(lab, "dual.example.com", "AAAA").answer for item in rrset]
    assert addresses == ["2001:db8::50"]
    chain = [(rrset.name.to_text(), rrset.ttl) for rrset in read(lab, "www.example.com").answer]
    assert chain == [("www.example.com.", 30), ("cdn.example.net.", 5)]


def test_nothing_is_cached(lab: Lab) -> None:
    before = len(upstream(lab))
    for _ in range(3):
        read(lab, "api.example.com")
    assert upstream_since(lab, before) == [("api.example.com.", "A")] * 3


def test_a_big_answer_comes_truncated_over_udp_and_whole_over_tcp(lab: Lab) -> None:
    short = read(lab, "big.example.com")
    assert short.flags & dns.flags.TC
    query = dns.message.make_query("big.example.com", "A")
    with lab.pod("client").open_socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.settimeout(5)
        opened.connect((CLUSTER_DNS, 53))
        opened.sendall(struct.pack("!H", len(query.to_wire())) + query.to_wire())
        whole, _ = dns.query.receive_tcp(opened)
    assert sum(len(rrset) for rrset in whole.answer) == 100


def test_the_clusters_own_names_never_leave_it(lab: Lab) -> None:
    before = len(upstream(lab))
    service = read(lab, "web.default.svc.cluster.local")
    assert [str(item) for rrset in service.answer for item in rrset] == ["10.96.20.20"]
    assert read(lab, "web.default.svc.cluster.local", "AAAA").rcode() == dns.rcode.NOERROR
    assert read(lab, "api.example.com.default.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN
    assert upstream_since(lab, before) == []


# What pods are given


def test_a_pod_walks_the_search_list_before_the_name_itself(lab: Lab) -> None:
    """The machine's hosts file, nsswitch and resolv.conf play no part."""
    before = len(upstream(lab))
    code = "import socket; print(socket.getaddrinfo('api.example.com', 80, socket.AF_INET)[0][4][0])"
    assert run(lab, "client", sys.executable, "-c", code).stdout.strip() == "198.51.100.10"
    assert upstream_since(lab, before) == [("api.example.com.", "A")]
    log = (lab.folder.pod("kube-system/kube-dns") / "program.log").read_text()
    assert "query[A] api.example.com.default.svc.cluster.local from 10.244.0.2" in log


def test_short_service_names_resolve_by_the_search_list(lab: Lab) -> None:
    assert run(lab, "client", "getent", "ahostsv4", "web").stdout.split()[0] == "10.96.20.20"


def test_curl_trusts_the_labs_certificates_by_name_and_by_address(lab: Lab) -> None:
    done = run(lab, "client", "curl", "-sS", "https://api.example.com/", "https://198.51.100.10/")
    assert done.returncode == 0, done.stderr
    assert "sni: api.example.com" in done.stdout


# Services


def test_a_service_reaches_the_backends_of_both_nodes(lab: Lab) -> None:
    for pod in ("client", "far"):
        # All 40 on one backend: one in 2**39.
        servers = Counter(answer["server"] for answer in through_service(lab, pod, 40))
        assert set(servers) == {"10.244.0.20:8080", "10.244.1.20:8080"}


def test_backends_see_the_pod_that_asked(lab: Lab) -> None:
    seen = {answer["client"].rpartition(":")[0] for answer in through_service(lab, "far", 10)}
    assert seen == {str(lab.pod("far").address)}


def test_a_pod_reaches_itself_through_its_own_service(lab: Lab) -> None:
    answers = through_service(lab, "web-1", 20)
    own = [answer for answer in answers if answer["server"] == "10.244.0.20:8080"]
    assert own
    assert all(not answer["client"].startswith("10.244.0.20:") for answer in own)


def test_the_internet_sees_the_nodes_address(lab: Lab) -> None:
    (answer,) = through_service(lab, "far", target="198.51.100.10:80")
    assert answer["client"].rpartition(":")[0] == str(lab.addressing.node("node2").address)


@pytest.mark.parametrize("target", ["10.96.20.21:80", "10.96.20.20:81"])
def test_a_service_without_endpoints_or_port_is_refused_at_once(lab: Lab, target: str) -> None:
    done = run(lab, "client", "curl", "-sS", "--max-time", "3", f"http://{target}/")
    assert done.returncode == 7, done.stderr


def test_replacing_the_table_cuts_nothing_and_adds_nothing(lab: Lab) -> None:
    size = 400_000
    node = lab.node("node1")
    text = kubeproxy.ruleset_text(lab.topology, lab.addressing, "node1")
    url = f"http://10.96.20.20/download?bytes={size}&rate={size}"
    argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", url]
    before = node.ruleset()
    with lab.pod("client").popen(argv, stdout=subprocess.PIPE, text=True) as download:
        while download.poll() is None:
            assert node.run(["nft", "-f", "-"], input=text).returncode == 0
        assert download.stdout is not None
        assert download.stdout.read() == str(size)
    assert node.ruleset() == before


# The probe


def test_the_probe_tells_the_five_outcomes_apart_in_a_real_pod(lab: Lab) -> None:
    statements = {
        "client resolves api.example.com": "resolves",
        "client refused api.example.com": "NOERROR",
        "client refused none.example.com": "NXDOMAIN",
        "client empty api.example.com AAAA": "empty AAAA",
        "client empty dual.example.com AAAA": "has AAAA",
        "client connects api.example.com:443": "connects",
        "client connects none.example.com:443": "does not resolve",
        "client connects 198.51.100.10:8443": "closed",
        "client connects [2001:db8::50]:443": "connects",
        "client blocked api.example.com:80": "connects",
        "client blocked 10.96.255.1:80": "blocked",
    }
    asked = [expect.parse(statement) for statement in statements]
    request = probe.request_text(asked, lab.folder.certificates / "ca.pem", deadline_s=1.0)
    done = lab.pod("client").run([sys.executable, *probe.command()], timeout_s=20, input=request)
    found = zip(asked, probe.rows(done.stdout), strict=True)
    assert {str(wanted): row.actual for wanted, row in found} == statements
