"""What a restricted pod may send, by real packets: ports, learned addresses, spoofing, IPv6, the node."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest

from acns.datapath.ruleset import Grants
from acns.datapath.selectors import selector_id
from acns.dns import pattern
from acns.errors import Bug
from acns.policy import model

pytestmark = pytest.mark.root

SERVER, OTHER, REMOTE_POD, NODE, POD_A, POD_B = (
    "203.0.113.7",
    "203.0.113.8",
    "10.244.0.3",
    "172.18.0.2",
    "10.244.1.3",
    "10.244.1.4",
)
NODE_BROADCAST = "172.18.0.255"
API_ID = selector_id(pattern.match_name("api.example.com"))


def raw(address: str) -> bytes:
    return socket.inet_aton(address)


def test_a_port_is_open_or_shut_as_the_policy_says(world: Any) -> None:
    world.listen(world.internet, SERVER, 443)
    world.listen(world.internet, SERVER, 80)
    world.apply(world.allow(world.cidr("203.0.113.0/24"), 443))
    assert world.is_connected(world.a, SERVER, 443)
    assert not world.is_connected(world.a, SERVER, 80)
    assert world.is_connected(world.b, SERVER, 80)


def test_a_pod_with_an_empty_policy_reaches_nothing(world: Any) -> None:
    world.listen(world.internet, SERVER, 443)
    world.apply()
    assert not world.is_connected(world.a, SERVER, 443)


def test_a_learned_address_opens_and_shuts_for_new_connections(world: Any) -> None:
    world.listen(world.internet, SERVER, 443)
    world.apply(world.allow(world.fqdn(), 443))
    elements = world.elements()
    assert not world.is_connected(world.a, SERVER, 443)
    elements.put({API_ID: {raw(SERVER): 60.0}})
    assert world.is_connected(world.a, SERVER, 443)
    elements.delete({API_ID: [raw(SERVER)]})
    assert not world.is_connected(world.a, SERVER, 443)


def test_a_name_never_opens_a_pod_or_a_node(world: Any) -> None:
    world.listen(world.internet, REMOTE_POD, 443)
    world.listen(world.node, "0.0.0.0", 443)
    world.listen(world.b, POD_B, 443)
    world.apply(
        world.allow(world.fqdn(), 443),
        world.allow(world.cidr("0.0.0.0/0"), 443),
        world.allow(model.World(), 443),
        learned={REMOTE_POD: 60, NODE: 60, "10.244.1.1": 60, POD_B: 60},
    )
    for address in (REMOTE_POD, NODE, "10.244.1.1", POD_B):
        assert not world.is_connected(world.a, address, 443), address


def test_a_name_never_opens_the_nodes_broadcast_address(world: Any, until: Any) -> None:
    on_node = world.udp(world.node, "0.0.0.0", 7777)
    world.apply(
        world.allow(world.fqdn()),
        world.allow(world.cidr("172.18.0.0/16")),
        world.allow(model.World()),
        learned={NODE_BROADCAST: 60},
    )
    sender = world.udp(world.a, POD_A)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sender.sendto(b"x", (NODE_BROADCAST, 7777))
    assert until(world.dropped, "the datagram is counted as dropped") == 1
    on_node.setblocking(False)
    with pytest.raises(BlockingIOError):
        on_node.recv(100)


def test_the_node_is_reached_only_as_host(world: Any) -> None:
    world.listen(world.node, "0.0.0.0", 8080)
    world.apply(world.allow(model.World()))
    assert not world.is_connected(world.a, NODE, 8080)
    world.apply(world.allow(model.Host(), 8080))
    for address in (NODE, "10.244.1.1"):
        connection = world.connect(world.a, address, 8080)
        assert connection.getpeername()[0] == address


def test_selected_pods_are_reached_and_left_at_once_when_no_longer_selected(world: Any, until: Any) -> None:
    server = world.listen(world.b, POD_B, 8080)
    world.apply(world.allow(world.pods("app=b", POD_B), 8080))
    client = world.connect(world.a, POD_B, 8080)
    peer, _ = server.accept()
    world.talk(client, peer)
    world.apply(world.allow(world.pods("app=b", REMOTE_POD), 8080))
    received = world.b.tcp_segments_received()
    client.send(b"still there?")
    until(world.dropped, "cut")
    assert world.b.tcp_segments_received() == received


def test_a_spoofed_source_is_dropped_and_counted(world: Any) -> None:
    server = world.udp(world.internet, SERVER, 5000)
    world.a.shell("ip addr add 10.244.1.99/32 dev eth0")
    world.b.shell(f"ip addr add {POD_A}/32 dev lo")
    try:
        world.apply(world.allow(model.World()))
        world.udp(world.a, "10.244.1.99").sendto(b"nobody", (SERVER, 5000))
        world.udp(world.b, POD_A).sendto(b"the neighbour", (SERVER, 5000))
        world.udp(world.a, POD_A).sendto(b"itself", (SERVER, 5000))
        assert server.recvfrom(100) == (b"itself", (POD_A, world.a._sockets[-1].getsockname()[1]))
        assert world.counter("spoofed") == 2
    finally:
        world.a.shell("ip addr del 10.244.1.99/32 dev eth0")
        world.b.shell(f"ip addr del {POD_A}/32 dev lo")


def test_a_restricted_pod_without_known_interface_is_shut(world: Any) -> None:
    world.listen(world.internet, SERVER, 443)
    world.apply(world.allow(model.World()), interfaces={})
    server = world.udp(world.internet, SERVER, 5000)
    world.udp(world.a, POD_A).sendto(b"early", (SERVER, 5000))
    world.udp(world.b, POD_B).sendto(b"free", (SERVER, 5000))
    assert server.recv(100) == b"free"
    assert world.counter("unplaced") == 1
    world.apply(world.allow(model.World()))
    assert world.is_connected(world.a, SERVER, 443)


@pytest.mark.parametrize("where", ["world", "node"])
def test_a_restricted_pod_without_known_interface_is_answered_by_nobody(
    world: Any, until: Any, where: str
) -> None:
    target, address = (world.internet, SERVER) if where == "world" else (world.node, NODE)
    server, client = world.udp(target, address, 5000), world.udp(world.a, POD_A)
    allow = world.allow(model.Everything())
    world.apply(allow)
    client.sendto(b"?", (address, 5000))
    _, source = server.recvfrom(10)
    world.apply(allow, interfaces={})
    with contextlib.suppress(PermissionError):  # what the node itself is told of a drop
        server.sendto(b"!", source)
    until(lambda: world.counter("unplaced") == 1, "dropped")
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(10)


@pytest.mark.parametrize("direction", list(model.Direction))
def test_while_a_restricted_pod_has_no_known_interface_ipv6_passes_at_known_ones_only(
    world: Any, until: Any, direction: model.Direction
) -> None:
    """Its own addresses are not known, so any interface that nobody knows may be its."""
    egress = direction is model.Direction.EGRESS
    links = world.routes.links()
    only_b = {address: link for address, link in links.interfaces.items() if str(address) == POD_B}
    restricted = world.policy(**{"a" if egress else "to_a": world.only(world.allow(model.Everything()))})
    world.enforce(restricted, interfaces=only_b)
    servers = {where: world.udp6(where, 5000) for where in (world.internet, world.a, world.b)}
    sender, receiver = (world.a, world.internet) if egress else (world.internet, world.a)
    servers[sender].sendto(b"closed", (world.address6(receiver), 5000))
    until(lambda: world.counter("ipv6"), "dropped")
    sender, receiver = (world.b, world.internet) if egress else (world.internet, world.b)
    servers[sender].sendto(b"open", (world.address6(receiver), 5000))
    assert servers[receiver].recv(10) == b"open"
    if not egress:  # what it opens itself is answered
        servers[world.a].sendto(b"?", (world.address6(world.internet), 5001))
        world.udp6(world.internet, 5001).sendto(b"!", (world.address6(world.a), 5000))
        assert servers[world.a].recv(10) == b"!"
    world.enforce(restricted)
    assert "@known_ifaces" not in world.nft.list()


def test_ipv6_of_a_restricted_pod_is_refused_at_once(world: Any) -> None:
    world.listen(world.internet, "2001:db8::7", 443, socket.AF_INET6)
    free = world.a.socket(socket.AF_INET6, socket.SOCK_STREAM)
    free.connect(("2001:db8::7", 443))
    world.apply(world.allow(model.Everything()))
    world.node.run("ip", "-6", "neigh", "flush", "dev", "veth-a")
    started = time.monotonic()
    client = world.a.socket(socket.AF_INET6, socket.SOCK_STREAM)
    with pytest.raises(ConnectionRefusedError):
        client.connect(("2001:db8::7", 443))
    assert time.monotonic() - started < 0.5
    other = world.a.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    other.connect(("2001:db8::7", 53))
    other.send(b"?")
    with pytest.raises(PermissionError):  # EACCES: admin-prohibited
        other.recv(100)
    neighbour = world.b.socket(socket.AF_INET6, socket.SOCK_STREAM)
    neighbour.connect(("2001:db8::7", 443))


def test_nobody_answers_a_restricted_pod_over_ipv6_any_more(world: Any, until: Any) -> None:
    server, client = world.udp6(world.internet, 5000), world.udp6(world.a)
    world.enforce(world.policy())
    client.sendto(b"?", (world.address6(world.internet), 5000))
    _, source = server.recvfrom(10)
    world.apply(world.allow(model.Everything()))
    server.sendto(b"!", source)
    until(lambda: world.counter("ipv6"), "dropped")
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(10)


def test_neighbour_discovery_of_a_restricted_pod_goes_on(world: Any) -> None:
    world.apply()
    world.a.run("ip", "-6", "neigh", "flush", "dev", "eth0")
    world.node.run("ip", "-6", "neigh", "flush", "dev", "veth-a")
    client = world.a.socket(socket.AF_INET6, socket.SOCK_STREAM)
    with pytest.raises(ConnectionRefusedError):  # by the node, which had to find the pod for that
        client.connect(("2001:db8::7", 443))


def test_answers_of_connections_opened_to_the_pod_pass(world: Any) -> None:
    server = world.listen(world.a, POD_A, 8080)
    world.apply()
    for opener in (world.node, world.b, world.internet):
        client = world.connect(opener, POD_A, 8080)
        peer, _ = server.accept()
        world.talk(client, peer)


def test_segments_that_belong_to_no_connection_reach_a_restricted_pod_only_from_its_node(
    world: Any, until: Any
) -> None:
    reset = bytes.fromhex("1f90 1f91 00000001 00000000 5004 0000 0000 0000")
    world.apply(world.allow(model.World()))
    before = world.a.tcp_segments_received()
    for where in (world.internet, world.node):
        raw = where.socket(socket.AF_INET, socket.SOCK_RAW, protocol=socket.IPPROTO_TCP)
        raw.sendto(reset, (POD_A, 0))
    until(lambda: world.counter("invalid") and world.a.tcp_segments_received() > before, "both were seen")
    assert world.a.tcp_segments_received() == before + 1
    assert world.counter("invalid") == 1


def test_icmp_errors_of_an_allowed_connection_come_back(world: Any) -> None:
    world.apply(world.allow(world.cidr("203.0.113.0/24"), 9, "UDP"))
    client = world.udp(world.a, POD_A)
    client.connect((SERVER, 9))
    client.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


def test_a_pod_reaches_itself_through_a_service(world: Any) -> None:
    server = world.listen(world.a, POD_A, 8080)
    world.apply()
    client = world.connect(world.a, "10.96.0.77", 80)
    peer, _ = server.accept()
    world.talk(client, peer)


@pytest.mark.parametrize("address", [NODE, "10.244.1.1"])
def test_the_resolvers_own_port_is_shut_for_every_pod(world: Any, address: str) -> None:
    resolver = world.udp(world.node, "0.0.0.0", 10053)
    world.apply(world.allow(model.Everything()))
    world.udp(world.a, POD_A).sendto(b"a", (address, 10053))
    world.udp(world.b, POD_B).sendto(b"b", (address, 10053))
    elsewhere = world.udp(world.internet, SERVER, 10053)
    world.udp(world.a, POD_A).sendto(b"elsewhere", (SERVER, 10053))
    assert elsewhere.recv(100) == b"elsewhere"
    assert world.counter("resolver_port") == 2
    resolver.setblocking(False)
    with pytest.raises(BlockingIOError):
        resolver.recv(100)


def test_the_second_application_of_a_policy_changes_nothing(world: Any) -> None:
    policy = [
        world.allow(world.fqdn(), 443),
        world.allow(world.cidr("10.0.0.0/8", "192.0.2.1/32")),
        world.allow(world.pods("app=b", POD_B), 0, "ANY"),
        world.allow(model.Host(), 22),
        world.allow(model.World(), 80),
        world.allow(model.Everything(), 5, "SCTP"),
    ]
    dns = (world.dns(world.kube_dns()),)
    assert world.apply(*policy, dns=dns, learned={SERVER: 60})
    assert world.apply(*policy, dns=dns) == ""
    assert world.apply(*reversed(policy), dns=dns) == ""


def test_grants_are_read_back_from_the_kernel(world: Any) -> None:
    policy = world.policy(
        a=world.only(world.allow(world.fqdn(), 443)), to_a=world.only(world.allow(model.World(), 80))
    )
    world.enforce(policy)
    assert world.nft.inventory().grants == {**world.grants.egress.known(), **world.grants.ingress.known()}
    found = Grants.fresh()
    found.adopt(world.nft.inventory().grants)
    assert (found.egress.known(), found.ingress.known()) == (
        world.grants.egress.known(),
        world.grants.ingress.known(),
    )


def test_drift_is_repaired(world: Any) -> None:
    world.listen(world.internet, SERVER, 443)
    world.apply(world.allow(world.fqdn(), 443))
    world.nft.apply(
        "flush chain inet acns pre_pods\n"
        "flush map inet acns from_address\n"
        'delete element inet acns v6_from { "veth-a" }\n'
        "add set inet acns stranger { type ipv4_addr; }\n"
        "add chain inet acns intruder\n"
        "add rule inet acns intruder ip daddr @stranger accept\n"
        "insert rule inet acns pre_raw accept\n"
    )
    assert "intruder" in world.apply(world.allow(world.fqdn(), 443))
    assert world.apply(world.allow(world.fqdn(), 443)) == ""
    assert not world.is_connected(world.a, SERVER, 443)
    assert "stranger" not in world.nft.list()


@pytest.mark.parametrize("comment", ["", ' comment "familiar"'], ids=["nft's", "ours"])
def test_a_refused_transaction_says_where_and_changes_nothing(world: Any, comment: str) -> None:
    world.apply(world.allow(world.fqdn(), 443))
    before = world.nft.inventory()
    with pytest.raises(Bug, match=r"\^"):
        world.nft.apply(
            f"add chain inet acns new\nadd rule inet acns new ip daddr @nowhere accept{comment}\n"
        )
    assert world.nft.inventory() == before
