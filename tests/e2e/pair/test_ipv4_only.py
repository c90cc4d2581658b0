"""IPv4 only: a restricted pod gets no IPv6 address from DNS, and none of its IPv6 packets leaves its node.

The pod could use IPv6 well enough (a global address, a default route, servers that answer), so what keeps it
from that is the policy. Its clients must not wait for it: the refusal is immediate, which is read in packets
(no second SYN before the reset), not in seconds.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.dns import DNS
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Packet, Raw

from lab.runtime.lab import Lab

from . import wire
from .wire import Stage

pytestmark = pytest.mark.root

DUAL, DUAL_V4, DUAL_V6 = "dual.example.com", "198.51.100.50", "2001:db8::50"
V6_ONLY = "v6.example.com"
ADMIN_PROHIBITED = (1, 1)
ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
AAAA = 28


@pytest.fixture
def stage(quickstart: Lab) -> Iterator[Stage]:
    with wire.stage(quickstart) as made:
        yield made


def test_the_restricted_pod_has_a_global_ipv6_address_and_a_default_route(stage: Stage) -> None:
    addresses = as_json(stage, "ip", "-6", "-j", "addr", "show", "dev", "eth0")
    assert stage.frontend.address_v6 in [one["local"] for one in addresses[0]["addr_info"]]
    assert as_json(stage, "ip", "-6", "-j", "route", "show", "default")


def as_json(stage: Stage, *argv: str) -> Any:
    return json.loads(stage.frontend.pod.run(argv).stdout)


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_aaaa_of_an_allowed_dual_name_is_empty_without_error(stage: Stage, transport: str) -> None:
    message = wire.query(wire.mixed_case(DUAL, stage.rng), "AAAA", ident=stage.id16())
    answer = ask(stage, message, transport)
    assert (wire.ident(answer), wire.rcode(answer)) == (wire.ident(message), wire.NOERROR)
    assert answer[wire.QUESTION :].startswith(wire.question_of(message))
    assert DNS(answer).ancount == 0
    # The server had an address to give.
    address = socket.inet_pton(socket.AF_INET6, DUAL_V6)
    assert wire.seen(stage.dns_pod, lambda packet: address in packet.original)
    assert wire.seen(stage.frontend.tap, lambda packet: address in packet.original) == []


@pytest.mark.parametrize("qtype", ["A", "AAAA", "ANY"])
def test_a_name_with_ipv6_addresses_only_is_empty_without_error(stage: Stage, qtype: str) -> None:
    kind = {"ANY": 255}.get(qtype, qtype)
    answer = ask(stage, wire.query(V6_ONLY, kind, ident=stage.id16()))
    assert (wire.rcode(answer), wire.addresses(answer)) == (wire.NOERROR, [])


def test_an_answer_to_any_holds_the_ipv4_addresses_alone(stage: Stage) -> None:
    answer = ask(stage, wire.query(DUAL, 255, ident=stage.id16()))
    assert wire.addresses(answer) == [DUAL_V4]


def test_aaaa_of_a_name_that_does_not_exist_stays_nxdomain(stage: Stage) -> None:
    name = f"{wire.fresh_label(stage.rng)}.storage.example.net"
    answer = stage.batch.ask(stage.cluster_ip, wire.query(name, "AAAA", ident=stage.id16()))
    assert wire.rcode(answer) == wire.NXDOMAIN


def test_aaaa_of_a_denied_name_is_refused(stage: Stage) -> None:
    answer = ask(stage, wire.query("evil.example.org", "AAAA", ident=stage.id16()))
    assert wire.rcode(answer) == wire.REFUSED


def test_no_ipv6_address_gets_into_a_kernel_set(stage: Stage) -> None:
    for name in (DUAL, V6_ONLY):
        for qtype in ("AAAA", 255, "A"):
            ask(stage, wire.query(name, qtype, ident=stage.id16()))
    ruleset = json.loads(stage.lab.node("node1").run(["nft", "-j", "list", "ruleset"]).stdout)["nftables"]
    sets = [entry[kind] for entry in ruleset for kind in ("set", "map") if kind in entry]
    ours = [one for one in sets if one["table"] == "acns"]
    assert DUAL_V4 in json.dumps(ours)  # so an address would show
    assert "ipv6_addr" not in json.dumps([one["type"] for one in ours])
    assert [text for text in strings([one.get("elem", []) for one in ours]) if is_ipv6(text)] == []


def ask(stage: Stage, message: bytes, transport: str = "udp") -> bytes:
    return stage.frontend.ask_over(transport, stage.cluster_ip, message)


def strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


# --- packets ----------------------------------------------------------------------------------------------


def destinations(stage: Stage) -> dict[str, str]:
    node = stage.lab.addressing.nodes[0]
    return {
        "the Internet": DUAL_V6,
        "another pod": stage.legacy.address_v6,
        "the node": str(node.address_v6),
        "the gateway": str(node.pod_gateway_v6),
    }


@pytest.mark.parametrize("place", ["the Internet", "another pod", "the node", "the gateway"])
def test_an_ipv6_connection_is_reset_in_the_servers_name(stage: Stage, place: str) -> None:
    server = destinations(stage)[place]
    sequence = stage.frontend.syn(server, 443)
    reset = wire.wait_for(stage.frontend.tap, wire.is_answer_to_syn(sequence))
    assert reset[TCP].flags.R
    assert (reset[IPv6].src, reset[TCP].sport) == (server, 443)
    stage.frontend.fence()
    for tap in (stage.internet, stage.legacy.tap):
        assert wire.seen(tap, wire.is_syn(sequence)) == []


def test_a_client_is_refused_ipv6_with_its_first_packet(stage: Stage) -> None:
    with stage.frontend.pod.open_socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        client.settimeout(wire.DEADLINE_S)
        with pytest.raises(ConnectionRefusedError):
            client.connect((DUAL_V6, 443))
    sent = wire.seen(stage.frontend.tap, wire.both(wire.to_(DUAL_V6), wire.is_tcp_to(443)))
    assert [str(packet[TCP].flags) for packet in sent] == ["S"]


@pytest.mark.parametrize("place", ["the Internet", "another pod", "the node", "the gateway"])
@pytest.mark.parametrize("kind", ["a datagram", "a ping", "SCTP"])
def test_other_ipv6_packets_are_refused_as_administratively_prohibited(
    stage: Stage, kind: str, place: str
) -> None:
    marker, frontend = wire.fresh_label(stage.rng), stage.frontend
    content = {
        "a datagram": UDP(sport=frontend.udp_port(), dport=443) / Raw(marker),
        "a ping": ICMPv6EchoRequest(data=marker.encode()),
        "SCTP": Raw(marker),
    }[kind]
    packet = IPv6(src=frontend.address_v6, dst=destinations(stage)[place]) / content
    if kind == "SCTP":
        packet[IPv6].nh = socket.IPPROTO_SCTP
    frontend.send(packet)
    refusal = wire.wait_for(
        frontend.tap, lambda found: ICMPv6DestUnreach in found and wire.holding(marker)(found)
    )
    error = refusal[ICMPv6DestUnreach]
    assert (error.type, error.code) == ADMIN_PROHIBITED
    assert refusal[IPv6].dst == frontend.address_v6
    assert_stayed(stage, marker)


def test_no_dressed_up_ipv6_packet_leaves_the_node(stage: Stage) -> None:
    marker, frontend = wire.fresh_label(stage.rng), stage.frontend
    data = UDP(sport=5000, dport=443) / Raw(marker)
    near, far = frontend.address_v6, (DUAL_V6, stage.legacy.address_v6)
    for server in far:
        for dressed in (
            IPv6(src=near, dst=server, nh=253) / Raw(marker),  # RFC 3692: a protocol for experiments
            IPv6(src=near, dst=server) / IPv6ExtHdrHopByHop() / data,
            IPv6(src=near, dst=server) / IPv6ExtHdrDestOpt() / data,
            IPv6(src=near, dst=server) / IPv6ExtHdrFragment(id=1, m=1) / Raw(bytes(data) * 8),
            IPv6(src=near, dst=server) / IPv6ExtHdrFragment(id=2, offset=8) / Raw(marker.encode() * 8),
            IPv6(src=near, dst=server) / IPv6ExtHdrFragment(id=3) / data,
            # As somebody else: another pod, a stranger, the link's own address.
            IPv6(src=stage.legacy.address_v6, dst=server) / data,
            IPv6(src="2001:db8::bad", dst=server) / data,
            IPv6(src="fe80::bad", dst=server) / data,
        ):
            frontend.send(dressed)
    assert_stayed(stage, marker)
    for server in far:
        stage.legacy.send(IPv6(src=stage.legacy.address_v6, dst=server) / data)
    wire.wait_for(stage.internet, wire.holding(marker))


@pytest.mark.parametrize(
    "message",
    [
        ICMPv6ND_NS(tgt=DUAL_V6),
        ICMPv6ND_NA(tgt=DUAL_V6),
        ICMPv6ND_RS(),
        ICMPv6ND_RA(),
        ICMPv6ND_Redirect(),
        ICMPv6MLReport(),
    ],
    ids=lambda message: message.name,
)
def test_what_only_looks_like_neighbour_discovery_does_not_leave_the_node(
    stage: Stage, message: Packet
) -> None:
    marker = wire.fresh_label(stage.rng)
    for server in (DUAL_V6, stage.legacy.address_v6, ALL_NODES, ALL_ROUTERS, "ff0e::1"):
        packet = IPv6(src=stage.frontend.address_v6, dst=server, hlim=255) / message.copy() / Raw(marker)
        stage.frontend.send(packet)
    assert_stayed(stage, marker)


def test_neighbour_discovery_with_the_gateway_goes_on(stage: Stage) -> None:
    frontend, gateway = stage.frontend, destinations(stage)["the gateway"]
    for destination in (solicited_node(gateway), gateway):  # looking for it, and probing it
        stage.frontend.tap.clear()
        frontend.send(IPv6(src=frontend.address_v6, dst=destination, hlim=255) / ICMPv6ND_NS(tgt=gateway))
        found = wire.wait_for(frontend.tap, lambda packet: ICMPv6ND_NA in packet)
        assert found[ICMPv6ND_NA].tgt == gateway


def test_a_restricted_pod_answers_nobody_over_ipv6(stage: Stage) -> None:
    port = stage.rng.randrange(20_000, 60_000)
    sequence = stage.legacy.syn(stage.frontend.address_v6, port)
    wire.wait_for(stage.frontend.tap, wire.is_answer_to_syn(sequence))
    stage.frontend.fence()
    assert wire.seen(stage.legacy.tap, wire.is_answer_to_syn(sequence)) == []


def test_ipv6_of_a_pod_without_policy_passes(stage: Stage) -> None:
    legacy = stage.legacy
    sequence = legacy.syn(DUAL_V6, 443)
    arrived = wire.wait_for(stage.internet, wire.is_syn(sequence))
    assert (arrived[IPv6].src, arrived[IPv6].hlim) == (legacy.address_v6, 63)
    assert wire.wait_for(legacy.tap, wire.is_answer_to_syn(sequence))[TCP].flags == "SA"


def test_curl_reaches_the_dual_name_over_ipv4(stage: Stage) -> None:
    done = stage.frontend.pod.run(["curl", "-sS", "--max-time", "15", f"https://{DUAL}/"], timeout_s=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"host: {DUAL}\n" in done.stdout
    assert f"server: {DUAL_V4}:443\n" in done.stdout
    assert wire.seen(stage.internet, wire.both(wire.to_(DUAL_V4), wire.is_tcp_to(443)))
    tried = wire.seen(stage.frontend.tap, lambda packet: IPv6 in packet and TCP in packet)
    assert tried == []


def assert_stayed(stage: Stage, marker: str) -> None:
    """What `frontend` sent with that marker in it has left the pod and arrived nowhere."""
    stage.frontend.fence()
    assert wire.seen(stage.frontend.tap, wire.holding(marker))
    for tap in (stage.internet, stage.legacy.tap, stage.dns_pod):
        assert wire.seen(tap, wire.holding(marker)) == []


def solicited_node(address: str) -> str:
    """RFC 4291 section 2.7.1."""
    tail = socket.inet_pton(socket.AF_INET6, address)[-3:]
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("ff0200000000000000000001ff") + tail)
