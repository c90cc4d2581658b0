"""The life of a connection: it outlives names and edits, and is cut both ways when nothing allows it."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from acns.datapath import conntrack
from acns.datapath.selectors import selector_id
from acns.dns import pattern
from acns.policy import model

pytestmark = pytest.mark.root

SERVER, OTHER, POD_A = "203.0.113.7", "203.0.113.8", "10.244.1.3"
API_ID = selector_id(pattern.match_name("api.example.com"))


def connected(world: Any) -> tuple[socket.socket, socket.socket]:
    """A connection that the learned address of the name opened: the pod's end, the server's end."""
    listener = world.listen(world.internet, SERVER, 443)
    world.apply(world.allow(world.fqdn(), 443), learned={SERVER: 60})
    client = world.connect(world.a, SERVER, 443)
    peer, _ = listener.accept()
    world.talk(client, peer)
    return client, peer


def test_a_connection_outlives_the_address_that_opened_it(world: Any) -> None:
    client, peer = connected(world)
    world.elements().delete({API_ID: [socket.inet_aton(SERVER)]})
    world.talk(client, peer)
    assert not world.is_connected(world.a, SERVER, 443)
    world.talk(client, peer)


def test_an_expired_element_closes_for_new_connections_only(world: Any, until: Any) -> None:
    client, peer = connected(world)
    elements = world.elements()
    elements.put({API_ID: {socket.inet_aton(SERVER): 0.05}})
    until(lambda: not elements.read(), "the element expires")
    assert not world.is_connected(world.a, SERVER, 443)
    world.talk(client, peer)


def test_an_edit_that_keeps_the_rule_keeps_connection_counter_and_addresses(world: Any) -> None:
    client, peer = connected(world)
    (rule,) = [name for name in world.nft.counters() if name.startswith("re_")]
    assert world.counter(rule) > 0
    world.elements().delete({API_ID: [socket.inet_aton(SERVER)]})
    world.elements().put({API_ID: {socket.inet_aton(OTHER): 500}})
    changed = world.apply(world.allow(world.fqdn(), 443), world.allow(model.Host(), 22))
    assert "eg_" in changed
    world.talk(client, peer)
    assert world.counter(rule) > 0
    assert world.elements().read()[API_ID].keys() == {socket.inet_aton(OTHER)}


def test_taking_the_rule_away_cuts_a_running_transfer_both_ways(world: Any, until: Any) -> None:
    client, peer = connected(world)
    with world.download(peer, client):
        start = world.a.tcp_segments_received()
        until(lambda: world.a.tcp_segments_received() > start + 20, "the transfer runs")
        world.apply(world.allow(model.Host(), 22))
        until(lambda: world.dropped("er"), "the server's segments are dropped")
        arrived, answered = world.a.tcp_segments_received(), world.internet.tcp_segments_received()
        client.send(b"can you hear me?")
        dropped = world.dropped("er")
        until(lambda: world.dropped("eg") and world.dropped("er") > dropped, "both ways dropped")
        assert world.a.tcp_segments_received() == arrived
        assert world.internet.tcp_segments_received() == answered


def test_a_cut_connection_does_not_come_back_when_conntrack_forgets_it(world: Any, until: Any) -> None:
    client, peer = connected(world)
    with world.download(peer, client):
        world.apply(world.allow(model.Host(), 22))
        until(lambda: world.dropped("er"), "the server's segments are dropped")
        world.node.run("conntrack", "-F")
        arrived = world.a.tcp_segments_received()
        until(lambda: world.counter("midstream") > 1, "picked up from mid-stream, and dropped")
        assert world.a.tcp_segments_received() == arrived


def test_giving_the_rule_back_lets_the_connection_go_on(world: Any, until: Any) -> None:
    client, peer = connected(world)
    world.apply(world.allow(model.Host(), 22))
    client.send(b"ping")
    until(lambda: world.dropped(), "cut")
    world.apply(world.allow(world.fqdn(), 443), learned={SERVER: 60})
    assert peer.recv(100) == b"ping"


@pytest.mark.parametrize("replacement", ["a wider rule", "another name"])
def test_a_rule_that_covers_the_old_one_keeps_even_a_connection_that_only_receives(
    world: Any, until: Any, replacement: str
) -> None:
    client, peer = connected(world)
    with world.download(peer, client):
        if replacement == "a wider rule":
            world.apply(world.allow(world.cidr("203.0.113.0/24")))
        else:
            world.apply(world.allow(world.fqdn()), learned={})
        assert world.dropped("er") == 0
        start = world.a.tcp_segments_received()
        until(lambda: world.a.tcp_segments_received() > start + 100, "the transfer goes on")
        assert world.dropped("er") == 0


@pytest.mark.parametrize("peer", ["a name", "a CIDR", "the world"])
def test_a_pod_that_takes_over_an_address_does_not_inherit_its_connections(
    world: Any, until: Any, peer: str
) -> None:
    client, _ = connected(world)
    peers = {"a name": world.fqdn(), "a CIDR": world.cidr("203.0.113.0/24"), "the world": model.World()}
    policy = world.policy(a=world.only(world.allow(peers[peer], 443)))
    world.enforce(policy)
    assert world.drops() == 0
    world.enforce(replace(policy, cluster_addresses=policy.cluster_addresses | {IPv4Address(SERVER)}))
    client.send(b"?")
    until(world.dropped, "cut")


def test_a_connection_from_before_the_policy_is_judged_by_it(world: Any, until: Any) -> None:
    listener = world.listen(world.internet, SERVER, 443)
    client = world.connect(world.a, SERVER, 443)
    peer, _ = listener.accept()
    world.apply(world.allow(world.fqdn(), 443), learned={SERVER: 60})
    world.talk(client, peer)
    world.apply(world.allow(model.Host(), 22))
    client.send(b"ping")
    until(lambda: world.dropped(), "cut")


def test_a_change_of_policy_opens_no_gap(world: Any) -> None:
    """A flood to a forbidden address, while the rest of the policy changes all the time."""
    server = world.udp(world.internet, SERVER, 5000)
    world.apply(world.allow(model.Host(), 22))
    flooder = world.udp(world.a, POD_A)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            flooder.sendto(b"x", (SERVER, 5000))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for port in range(1000, 1100):
            world.apply(world.allow(model.Host(), port), world.allow(world.fqdn(), port))
    finally:
        stop.set()
        thread.join()
    world.udp(world.b, "10.244.1.4").sendto(b"end", (SERVER, 5000))
    assert server.recv(100) == b"end"
    assert world.counter("unjudged") == 0


def test_a_change_of_policy_loses_no_allowed_packet(world: Any) -> None:
    """Question and answer, one after another, of which none may go unanswered; no connection to lean on."""
    server = world.udp(world.internet, SERVER, 5000)
    keep = world.allow(world.cidr("203.0.113.0/24"), 5000, "UDP")
    world.apply(keep)
    stop, lost = threading.Event(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            with contextlib.closing(world.udp(world.a, POD_A)) as client:
                client.settimeout(1.0)
                try:
                    client.sendto(b"?", (SERVER, 5000))
                    server.sendto(*server.recvfrom(100))
                    client.recv(100)
                except TimeoutError:
                    lost.set()
                    return

    server.settimeout(1.0)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for port in range(1000, 1100):
            world.apply(keep, world.allow(model.Host(), port))
    finally:
        stop.set()
        thread.join()
    assert not lost.is_set()
    assert world.counter("unjudged") == 0


def test_live_destinations_are_those_of_granted_connections(world: Any, until: Any) -> None:
    client, _ = connected(world)
    inbound = world.listen(world.a, POD_A, 8080)
    world.connect(world.internet, POD_A, 8080)
    inbound.accept()
    assert world.node.do(conntrack.live_destinations) == {socket.inet_aton(SERVER)}
    assert world.node.do(lambda: conntrack.live_destinations({socket.inet_aton(POD_A)}))
    assert not world.node.do(lambda: conntrack.live_destinations({socket.inet_aton(SERVER)}))
    client.close()  # by reset
    until(lambda: not world.node.do(conntrack.live_destinations), "ended, though remembered", timeout_s=5)
