"""Redirection: which packets of which pods reach the resolver, read at the tap of the DNS server.

A query that went through the resolver arrives from the node, under another ID and from another port; one that
did not arrives as the pod sent it, one hop older. So each verdict is a comparison of the packet that left the
pod with what came to the server, for the server behind its ClusterIP and for the same server asked directly.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet, Raw

from lab.capture.tap import Tap
from lab.runtime.lab import Lab

from . import wire
from .wire import Stage, Wire

pytestmark = pytest.mark.root

SERVERS = ["cluster_ip", "dns_address"]
ALLOWED = ["api.example.com", "www.example.com", "shared.example.com", "dual.example.com"]
DENIED = "evil.example.org"
OUTSIDE_DNS = "203.0.113.53"
OTHER_PORT = 8053

KUBE_DNS = '{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, "k8s:k8s-app": kube-dns}}'
MORE_POLICIES = f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: another-port, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: frontend}}}}
  egress:
    - toEndpoints: [{KUBE_DNS}]
      toPorts: [{{ports: [{{port: "{OTHER_PORT}", protocol: ANY}}]}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: a-server-outside, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: batch}}}}
  egress:
    - toCIDR: ["{OUTSIDE_DNS}/32"]
      toPorts:
        - ports: [{{port: "53", protocol: ANY}}]
          rules: {{dns: [{{matchPattern: "*.storage.example.net"}}]}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: without-dns-rules, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: legacy}}}}
  egress:
    - toEndpoints: [{KUBE_DNS}]
      toPorts: [{{ports: [{{port: "53", protocol: ANY}}]}}]
"""


@pytest.fixture
def stage(quickstart: Lab) -> Iterator[Stage]:
    with wire.stage(quickstart) as made:
        yield made


@pytest.fixture(scope="module")
def lab_with_more_policies(own_quickstart: Lab) -> Lab:
    """`frontend` may also send to another port of the DNS pod, `batch` may ask a server outside the cluster,
    `legacy` is restricted too, to the DNS server, but without DNS rules."""
    own_quickstart.write_manifest("more-policies.yaml", MORE_POLICIES)
    node = own_quickstart.node("node1")
    wire.until(lambda: OUTSIDE_DNS in node.ruleset(), "the new policies in the kernel")
    with wire.stage(own_quickstart) as made:
        message = wire.query("nowhere.storage.example.net", ident=made.id16())
        wire.until(lambda: wire.rcode(made.batch.ask(OUTSIDE_DNS, message)) == wire.NXDOMAIN, "... obeyed")
    return own_quickstart


@pytest.fixture
def other_stage(lab_with_more_policies: Lab) -> Iterator[Stage]:
    with wire.stage(lab_with_more_policies) as made:
        yield made


# --- through the resolver ---------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_udp_query_under_dns_rules_reaches_its_server_only_from_the_node(stage: Stage, server: str) -> None:
    frontend, asked_id, sport = stage.frontend, stage.id16(), stage.frontend.udp_port()
    queries = [wire.query(wire.mixed_case(name, stage.rng), ident=asked_id) for name in ALLOWED]
    for message in queries:
        frontend.ask(getattr(stage, server), message, sport=sport)

    assert wire.seen(stage.dns_pod, wire.from_(frontend.address)) == []
    forwarded = udp_queries(stage.dns_pod, stage.dns_address)
    assert {packet[IP].src for packet in forwarded} <= stage.node_addresses
    # Random numbers may coincide once, not each time.
    assert {packet[UDP].sport for packet in forwarded} != {sport}
    assert_same_but_for_id([wire.payload(packet) for packet in forwarded], queries)


@pytest.mark.parametrize("server", SERVERS)
def test_a_tcp_query_under_dns_rules_reaches_its_server_only_from_the_node(stage: Stage, server: str) -> None:
    frontend, asked_id = stage.frontend, stage.id16()
    queries = [wire.query(wire.mixed_case(name, stage.rng), ident=asked_id) for name in ALLOWED]
    frontend.ask_tcp(getattr(stage, server), *queries)

    assert wire.seen(stage.dns_pod, wire.from_(frontend.address)) == []
    segments = tcp_segments(stage.dns_pod, stage.dns_address)
    assert {packet[IP].src for packet in segments} <= stage.node_addresses
    assert_same_but_for_id(messages_in(segments), queries)


@pytest.mark.parametrize("server", SERVERS)
def test_a_redirected_connection_is_with_the_server_that_was_asked(stage: Stage, server: str) -> None:
    sequence = stage.frontend.syn(getattr(stage, server), 53)
    accepted = wire.wait_for(stage.frontend.tap, wire.is_answer_to_syn(sequence))
    assert accepted[TCP].flags == "SA"
    assert (accepted[IP].src, accepted[TCP].sport) == (getattr(stage, server), 53)
    stage.frontend.fence()
    assert wire.seen(stage.dns_pod, wire.is_syn(sequence)) == []


def test_redirected_queries_leave_no_connection_tracking_entry(stage: Stage) -> None:
    message = wire.query(ALLOWED[0], ident=stage.id16())
    with (
        stage.frontend.connect(stage.cluster_ip) as redirected,
        stage.legacy.connect(stage.cluster_ip) as plain,
    ):
        for client, connection in ((stage.frontend, redirected), (stage.legacy, plain)):
            connection.sendall(wire.framed(message))
            wire.read_framed(connection)
            client.ask(stage.cluster_ip, message)
        entries = stage.lab.node("node1").run(["conntrack", "-L"]).stdout.splitlines()

    def of(client: Wire, protocol: str) -> list[str]:
        either_end = (f"src={client.address} ", f"dst={client.address} ")
        dns = [entry for entry in entries if entry.startswith(protocol) and "port=53 " in entry]
        return [entry for entry in dns if any(end in entry for end in either_end)]

    assert of(stage.frontend, "udp") == of(stage.frontend, "tcp") == []
    assert of(stage.legacy, "udp")  # so they would have shown
    assert of(stage.legacy, "tcp")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_queries_to_a_server_outside_that_a_cidr_names_go_through_the_resolver(
    other_stage: Stage, transport: str
) -> None:
    batch, label, asked_id = other_stage.batch, wire.fresh_label(other_stage.rng), other_stage.id16()
    names = [f"{label}-{number}.storage.example.net" for number in range(4)]
    queries = [wire.query(name, ident=asked_id) for name in names]
    if transport == "tcp":
        answers = batch.ask_tcp(OUTSIDE_DNS, *queries)
        arrived = messages_in(tcp_segments(other_stage.internet, OUTSIDE_DNS))
    else:
        answers = [batch.ask(OUTSIDE_DNS, message) for message in queries]
        arrived = [wire.payload(packet) for packet in udp_queries(other_stage.internet, OUTSIDE_DNS)]
    assert {wire.rcode(answer) for answer in answers} == {wire.NXDOMAIN}
    # A query of the pod's own would come from the same address, by masquerade: the IDs tell them apart.
    assert_same_but_for_id([message for message in arrived if label.encode() in message], queries)


# --- past the resolver ------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_udp_query_of_a_pod_without_policy_passes_untouched(stage: Stage, server: str) -> None:
    assert_udp_untouched(stage, getattr(stage, server))


@pytest.mark.parametrize("server", SERVERS)
def test_a_tcp_query_of_a_pod_without_policy_passes_untouched(stage: Stage, server: str) -> None:
    assert_tcp_untouched(stage, getattr(stage, server))


@pytest.mark.parametrize("server", SERVERS)
def test_a_udp_query_of_a_restricted_pod_without_dns_rules_passes_untouched(
    other_stage: Stage, server: str
) -> None:
    assert_udp_untouched(other_stage, getattr(other_stage, server))


@pytest.mark.parametrize("server", SERVERS)
def test_a_tcp_query_of_a_restricted_pod_without_dns_rules_passes_untouched(
    other_stage: Stage, server: str
) -> None:
    assert_tcp_untouched(other_stage, getattr(other_stage, server))


def test_packets_to_another_port_of_the_dns_server_pass_untouched_where_policy_allows_it(
    other_stage: Stage,
) -> None:
    frontend, message = other_stage.frontend, wire.query(DENIED, ident=other_stage.id16())
    sport = frontend.udp(other_stage.dns_address, message, dport=OTHER_PORT, ttl=41)
    arrived = wire.wait_for(other_stage.dns_pod, wire.is_udp_to(OTHER_PORT))
    assert (arrived[IP].src, arrived[UDP].sport, arrived[IP].ttl) == (frontend.address, sport, 40)
    assert wire.payload(arrived) == message


# --- not to the resolver, and nowhere else ----------------------------------------------------------------


@pytest.mark.parametrize("server", ["the Internet's DNS", "another pod", "the node", "the gateway"])
def test_queries_to_a_server_that_no_rule_names_reach_nobody(stage: Stage, server: str) -> None:
    plan, web = stage.lab.addressing.nodes[0], stage.lab.pod("web")
    places = (OUTSIDE_DNS, str(web.address), str(plan.address), str(plan.pod_gateway))
    address = dict(
        zip(("the Internet's DNS", "another pod", "the node", "the gateway"), places, strict=True)
    )[server]
    with wire.tapped(web) as web_tap:
        _, sequence = send_queries(stage, stage.legacy, address)
        # Somebody is there, or the node itself turns the query down.
        wire.wait_for(stage.legacy.tap, is_word_from(address))
        wire.wait_for(stage.legacy.tap, wire.is_answer_to_syn(sequence))

        label, sequence = send_queries(stage, stage.frontend, address)
        stage.frontend.fence()
        for tap in (web_tap, stage.internet, stage.dns_pod):
            assert wire.seen(tap, wire.holding(label)) == []
            assert wire.seen(tap, wire.is_syn(sequence)) == []
    # The resolver would have refused the one and answered the other, in the server's name.
    assert wire.seen(stage.frontend.tap, wire.from_(address)) == []


def send_queries(stage: Stage, client: Wire, address: str) -> tuple[str, int]:
    """Ask for a denied name (its label is returned) and an allowed one; a SYN (its sequence number) too."""
    label = wire.fresh_label(stage.rng)
    for name in (f"{label}.example.org", ALLOWED[0]):
        client.udp(address, wire.query(name, ident=stage.id16()))
    return label, client.syn(address, 53)


def test_other_packets_to_the_dns_server_are_not_taken_for_queries(stage: Stage) -> None:
    for sequence in send_what_is_no_query(stage.legacy, stage):
        wire.wait_for(stage.dns_pod, wire.is_syn(sequence))
    send_what_is_no_query(stage.frontend, stage)
    stage.frontend.fence()
    assert wire.seen(stage.dns_pod, wire.from_(stage.frontend.address)) == []
    # The resolver would answer, in the server's name, whatever reached it.
    answers = wire.seen(stage.frontend.tap, wire.from_(stage.dns_address))
    assert [packet for packet in answers if ICMP in packet or packet.sport != 53] == []


def send_what_is_no_query(client: Wire, stage: Stage) -> list[int]:
    """Everything but a packet to port 53; the SYNs' sequence numbers."""
    message = wire.query(DENIED, ident=stage.id16())
    for port in (52, 54, 853, 5353, 10053):
        client.udp(stage.dns_address, message, dport=port)
    client.udp(stage.dns_address, message, sport=client.udp_port(53), dport=5353)
    client.send(IP(src=client.address, dst=stage.dns_address) / ICMP() / Raw(message))
    return [client.syn(stage.dns_address, port) for port in (52, 54, 853, 5353, 10053)]


# --- words ------------------------------------------------------------------------------------------------


def assert_udp_untouched(stage: Stage, server: str) -> None:
    """A query of `legacy` arrives at the DNS pod as it was sent, one hop older, and the answer comes back."""
    legacy, ttl = stage.legacy, stage.rng.randrange(20, 250)
    message = wire.query(wire.mixed_case(ALLOWED[0], stage.rng), ident=stage.id16())
    sport = legacy.udp(server, message, ttl=ttl)
    answer = legacy.answer(sport)
    (arrived,) = udp_queries(stage.dns_pod, stage.dns_address)
    assert (arrived[IP].src, arrived[UDP].sport, arrived[IP].ttl) == (legacy.address, sport, ttl - 1)
    assert wire.payload(arrived) == message
    assert (answer[IP].src, answer[UDP].sport) == (server, 53)
    assert wire.ident(wire.payload(answer)) == wire.ident(message)


def assert_tcp_untouched(stage: Stage, server: str) -> None:
    """A connection of `legacy` arrives segment by segment as it was sent, one hop older."""
    legacy, ttl = stage.legacy, stage.rng.randrange(20, 250)
    message = wire.query(ALLOWED[0], ident=stage.id16())
    with legacy.connect(server, ttl=ttl) as connection:
        sport = connection.getsockname()[1]
        connection.sendall(wire.framed(message))
        assert wire.ident(wire.read_framed(connection)) == wire.ident(message)
        # The server's side first: an acknowledgement may be on its way from the one to the other.
        arrived, sent = (
            [
                (segment[IP].ttl + hops, str(segment[TCP].flags), segment[TCP].seq, wire.payload(segment))
                for segment in wire.seen(tap, wire.from_(legacy.address))
                if TCP in segment and segment[TCP].sport == sport
            ]
            for tap, hops in ((stage.dns_pod, 1), (legacy.tap, 0))
        )
    assert len(arrived) >= 3  # SYN, ACK, the query
    assert arrived == sent[: len(arrived)]
    assert {hop_count for hop_count, *_ in arrived} == {ttl}


def assert_same_but_for_id(forwarded: list[bytes], asked: list[bytes]) -> None:
    assert [message[2:] for message in forwarded] == [message[2:] for message in asked]
    # A random ID may be the asker's by chance, but not each time.
    assert {wire.ident(message) for message in forwarded} != {wire.ident(message) for message in asked}


def udp_queries(tap: Tap, server: str) -> list[Packet]:
    """The datagrams to a DNS server, as they came to it."""
    return wire.seen(tap, wire.both(wire.to_(server), wire.is_udp_to(53)))


def tcp_segments(tap: Tap, server: str) -> list[Packet]:
    """The segments to a DNS server, as they came to it."""
    return wire.seen(tap, wire.both(wire.to_(server), wire.is_tcp_to(53)))


def messages_in(segments: list[Packet]) -> list[bytes]:
    """The DNS messages in the segments of some connections."""
    streams: dict[int, bytes] = {}
    for packet in segments:
        streams[packet[TCP].sport] = streams.get(packet[TCP].sport, b"") + wire.payload(packet)
    messages = []
    for stream in streams.values():
        while stream:
            size = int.from_bytes(stream[:2])
            messages.append(stream[2 : 2 + size])
            stream = stream[2 + size :]
    return messages


def is_word_from(address: str) -> wire.Wanted:
    """A datagram, or the ICMP error that stands for one."""
    return lambda packet: (UDP in packet or ICMP in packet) and packet[IP].src == address
