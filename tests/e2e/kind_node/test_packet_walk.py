"""The packet walk of a node of a real cluster, with kube-proxy's own rules in both of its modes.

Each test is a statement that was measured on a kind cluster; the rules of kube-proxy and of the containers'
DNS are the recorded ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from acns.datapath import headers
from lab.backends.kind import asking
from lab.world import dnsquery

from ..resolver.resolver_world import Namespace, until
from . import kind_node
from .kind_node import (
    ADDRESS,
    CLIENT,
    CONTAINERS_DNS,
    CONTROL_PLANE,
    DNS_POD,
    FREE,
    GATEWAY,
    KUBE_DNS,
    NODE,
    START_S,
    WEB_POD,
    KindNode,
)

pytestmark = pytest.mark.root
TRANSPORTS = pytest.mark.parametrize("tcp", [False, True], ids=["UDP", "TCP"])


@pytest.fixture(scope="module", params=sorted(kind_node.RULES))
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindNode]:
    made = KindNode(request.param, tmp_path_factory.mktemp("node"))
    try:
        made.start()
        yield made
    finally:
        made.end()


@TRANSPORTS
def test_a_query_to_the_cluster_ip_is_answered_by_the_resolver_which_asks_from_the_nodes_address(
    node: KindNode, tcp: bool
) -> None:
    node.asked.clear()
    reply = node.ask(CLIENT, KUBE_DNS, tcp=tcp)
    assert ADDRESS in reply.to_text()
    assert node.asked == [(DNS_POD, NODE, "tcp" if tcp else "udp")]
    assert f"src={CLIENT} dst={KUBE_DNS}" not in node.node.run("conntrack", "-L")


@pytest.mark.parametrize(("pod", "seen"), [(CLIENT, "redirected"), (FREE, "tracked")])
def test_whose_queries_the_resolver_takes_is_seen_on_the_node(node: KindNode, pod: str, seen: str) -> None:
    """As `lab.check` looks for it, whatever the answer is."""
    name, journal = f"asked-by-{seen}.invalid.", node.folder / "resolver-journal.jsonl"
    with node.pods[pod].udp() as asked:
        asked.connect((KUBE_DNS, 53))
        asked.send(dnsquery.query(name, "A")[0])
        script = asking.seen_script(name, str(journal), pod, asked.getsockname()[1])
        found = until(lambda: node.node.run("sh", "-c", f"set +e\n{script}true"), "somebody saw it")
    assert found.split() == [seen]


@TRANSPORTS
def test_a_denied_name_is_refused_and_reaches_no_server(node: KindNode, tcp: bool) -> None:
    node.asked.clear()
    assert node.ask(CLIENT, KUBE_DNS, "other.test.", tcp=tcp).rcode() == dns.rcode.REFUSED
    assert node.asked == []


@TRANSPORTS
def test_queries_straight_to_the_dns_pod_and_to_the_nodes_own_dns_are_redirected_too(
    node: KindNode, tcp: bool
) -> None:
    for server, served_by in ((DNS_POD, DNS_POD), (GATEWAY, CONTAINERS_DNS[0])):
        node.asked.clear()
        assert ADDRESS in node.ask(CLIENT, server, tcp=tcp).to_text()
        assert [one[0] for one in node.asked] == [served_by]
        assert node.ask(CLIENT, server, "other.test.", tcp=tcp).rcode() == dns.rcode.REFUSED


@TRANSPORTS
def test_a_pod_without_a_policy_asks_as_ever_also_the_dns_of_the_container_that_the_node_is(
    node: KindNode, tcp: bool
) -> None:
    """The cluster's own DNS does: kind's nodes name 172.18.0.1, which is translated to 127.0.0.11."""
    for server, served_by in ((KUBE_DNS, DNS_POD), (GATEWAY, CONTAINERS_DNS[0])):
        node.asked.clear()
        assert ADDRESS in node.ask(FREE, server, "other.test.", tcp=tcp).to_text()
        assert node.asked == [(served_by, FREE, "tcp" if tcp else "udp")]


def test_only_the_address_of_the_allowed_name_opens_and_only_its_port(node: KindNode) -> None:
    node.ask(CLIENT, KUBE_DNS)
    with node.listening(node.rest, "0.0.0.0", 443), node.listening(node.rest, "0.0.0.0", 80):
        assert node.connects(CLIENT, ADDRESS, 443)
        assert not node.connects(CLIENT, ADDRESS, 80)
        assert not node.connects(CLIENT, WEB_POD, 443)
        assert node.connects(FREE, ADDRESS, 80)


def test_places_that_the_forward_hook_does_not_see_are_closed_too(node: KindNode) -> None:
    """The node itself, the gateway on the veth, the API server by its Service, a node port, another pod."""
    with (
        node.listening(node.node, "0.0.0.0", 10250),
        node.listening(node.rest, "0.0.0.0", 6443),
        node.listening(node.rest, "0.0.0.0", 8080),
        node.listening(node.pods[FREE], "0.0.0.0", 8080),
    ):
        for address, port in (
            (NODE, 10250),
            ("10.244.1.1", 10250),
            ("10.96.0.1", 443),
            (CONTROL_PLANE, 6443),
            (NODE, 30080),
            (FREE, 8080),
        ):
            assert not node.connects(CLIENT, address, port, within_s=0.7), (address, port)
        for address, port in ((NODE, 10250), ("10.244.1.1", 10250), ("10.96.0.1", 443)):
            assert node.connects(FREE, address, port), (address, port)


def test_what_is_opened_to_the_client_is_answered_and_so_are_the_nodes_probes(node: KindNode) -> None:
    with node.listening(node.pods[CLIENT], "0.0.0.0", 8080):
        assert node.connects(FREE, CLIENT, 8080)
        node.node.connect(CLIENT, 8080).close()


def test_neither_a_finished_pod_nor_one_on_the_host_makes_a_rule(node: KindNode) -> None:
    rules = node.node.run("nft", "list", "map", "inet", "acns", "from_address")
    assert NODE not in rules
    with node.listening(node.rest, "0.0.0.0", 8443):  # `free` has the address that a finished client had
        assert node.connects(FREE, ADDRESS, 8443)


def test_a_service_without_endpoints_is_an_error_that_the_client_hears(node: KindNode) -> None:
    """The kernel refuses the resolver's own packet: EPERM by UDP. The pod hears SERVFAIL, not a time-out."""
    node.node.run("nft", "add", "rule", "ip", "filter", "OUTPUT", "ip", "daddr", DNS_POD, "counter", "reject")
    try:
        assert node.ask(CLIENT, KUBE_DNS).rcode() == dns.rcode.SERVFAIL
        assert node.ask(CLIENT, KUBE_DNS, tcp=True).rcode() == dns.rcode.SERVFAIL
    finally:
        handles = node.node.run("nft", "-a", "list", "chain", "ip", "filter", "OUTPUT").splitlines()
        (line,) = [line for line in handles if "reject" in line]
        node.node.run("nft", "delete", "rule", "ip", "filter", "OUTPUT", "handle", line.split()[-1])
    assert ADDRESS in node.ask(CLIENT, KUBE_DNS).to_text()


def test_not_one_rule_of_somebody_elses_has_changed(node: KindNode) -> None:
    def others() -> str:
        return "".join(
            node.node.run("nft", "-s", "list", "table", *line.split()[1:])
            for line in node.node.run("nft", "list", "tables").splitlines()
            if "acns" not in line
        )

    before = others()
    node.ask(CLIENT, KUBE_DNS)
    assert others() == before


# --- without a resolver: last, as it stays away -------------------------------------------------------------


def test_with_a_dead_resolver_no_query_crosses_the_uplink_by_udp_or_tcp(node: KindNode) -> None:
    node.stop("resolver")
    before = node.counted("unproxied")
    with node.tap() as tap:
        with pytest.raises(dns.exception.Timeout):
            node.ask(CLIENT, KUBE_DNS)
        assert not node.connects(CLIENT, KUBE_DNS, 53)
        until(lambda: node.counted("unproxied") >= before + 2, "dropped")
        node.ask(FREE, KUBE_DNS)  # what crosses is seen
        seen = [headers.parse(frame.data[14:]) for frame in tap.frames()]
    sources = [str(one.source) for one in seen if one and one.destination_port == 53]
    assert FREE in sources
    assert not {CLIENT, NODE} & set(sources)


def test_the_kernel_goes_on_without_both_agents(node: KindNode) -> None:
    node.stop("shim")
    with node.listening(node.rest, "0.0.0.0", 443), node.listening(node.rest, "0.0.0.0", 80):
        assert node.connects(CLIENT, ADDRESS, 443)
        assert not node.connects(CLIENT, ADDRESS, 80)
        assert not node.connects(CLIENT, NODE, 10250, within_s=0.5)


# --- pods that are quicker than their watch event -----------------------------------------------------------


@pytest.mark.parametrize("unknown", ["open", "closed"])
def test_a_pod_that_nobody_has_told_of_is_open_or_closed_by_setting(unknown: str, tmp_path: Path) -> None:
    made = KindNode("nftables", tmp_path)
    new = "10.244.1.9"
    try:
        made.start(unknown_pods=unknown)
        made.pods[new] = Namespace()
        made.add_pod(made.pods[new], new, "vethffffffff")
        with made.listening(made.rest, "0.0.0.0", 80), made.listening(made.pods[new], "0.0.0.0", 80):
            assert made.connects(new, ADDRESS, 80) == (unknown == "open")
            assert made.connects(new, NODE, 10250, within_s=0.5) is False
            assert made.connects(FREE, new, 80) == (unknown == "open")
            assert made.connects(FREE, ADDRESS, 80)
            made.node.connect(new, 80).close()  # the kubelet's probes
            manifest = (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: new, namespace: shop}\n"
                f"spec: {{nodeName: demo-worker}}\nstatus: {{phase: Running, podIP: {new}}}\n"
            )
            (made.folder / "manifests" / "new.yaml").write_text(manifest)
            until(lambda: made.connects(new, ADDRESS, 80, within_s=0.3), "open once it is known", START_S)
    finally:
        made.end()
