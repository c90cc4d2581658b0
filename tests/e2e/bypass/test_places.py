"""Names bound to places that none may open, and addresses that others know: neither helps the guest on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from ..pair import wire
from ..pair.wire import DNS_PORT, REFUSED
from .bypass_world import HTTPS, OPEN, OTHERS_ZONE, WEB_SERVICE, ZONE, World

pytestmark = pytest.mark.root

PLACES: dict[str, Callable[[World], str]] = {
    "the node": lambda world: str(world.lab.addressing.nodes[0].address),
    "the pods' gateway": lambda world: str(world.lab.addressing.nodes[0].pod_gateway),
    "another pod": lambda world: str(world.lab.pod("web").address),
    "a pod of the system": lambda world: world.dns_address,
    "the guest itself": lambda world: world.guest.address,
    "a Service": lambda world: WEB_SERVICE,
    "the DNS Service": lambda world: world.cluster_ip,
    "loopback": lambda world: "127.0.0.1",
    "all of loopback": lambda world: "127.255.255.254",
    "the metadata service": lambda world: "169.254.169.254",
    "node-local DNS": lambda world: "169.254.20.10",
    "this host": lambda world: "0.0.0.0",
    "this network": lambda world: "0.1.2.3",
    "a group": lambda world: "224.0.0.251",
    "everybody": lambda world: "255.255.255.255",
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_name_cannot_be_bound_to_a_place_that_no_name_may_open(world: World, place: str) -> None:
    name, target = f"{world.marker()}.{ZONE}", PLACES[place](world)
    world.server.answers_with(name, f"60 A {OPEN}", f"60 A {target}")
    assert wire.addresses(world.ask(name)) == [OPEN, target]  # the answer is not changed
    assert not world.is_learned(target)
    sequence = world.guest.syn(target, HTTPS)
    assert world.came_out(wire.is_syn(sequence)) == []
    assert wire.seen(world.guest.tap, wire.is_answer_to_syn(sequence)) == []
    world.assert_open(OPEN)


@pytest.mark.parametrize("place", ["the node", "the pods' gateway", "another pod", "a Service"])
def test_those_places_answer_a_pod_without_policy(world: World, place: str) -> None:
    """The control: somebody is there, or the node says itself that nobody is."""
    sequence = world.free.syn(PLACES[place](world), HTTPS)
    wire.wait_for(world.free.tap, wire.is_answer_to_syn(sequence))


def test_a_name_that_moves_to_a_forbidden_place_takes_nothing_along(world: World) -> None:
    """Rebinding: true at first, then the metadata service and another pod, with no time to live."""
    name, target = f"{world.marker()}.{ZONE}", world.address()
    world.learn(name, target)
    world.assert_open(target)
    for place in ("the metadata service", "another pod", "the node", "loopback"):
        forbidden = PLACES[place](world)
        world.server.answers_with(name, f"0 A {forbidden}")
        assert wire.addresses(world.ask(name)) == [forbidden]
        assert not world.is_learned(forbidden)
        assert world.came_out(wire.is_syn(world.guest.syn(forbidden, HTTPS))) == []


# --- what others know -------------------------------------------------------------------------------------


def test_what_another_pod_may_know_is_closed_to_the_guest(world: World) -> None:
    name, target = f"{world.marker()}.{OTHERS_ZONE}", world.address()
    world.server.answers_with(name, f"60 A {target}")
    assert wire.addresses(world.ask(name, client=world.other)) == [target]
    world.assert_open(target, client=world.other)
    sequence = world.guest.syn(target, HTTPS)
    assert world.came_out(wire.is_syn(sequence)) == []


def test_another_pod_cannot_teach_a_name_that_only_the_guest_may(world: World) -> None:
    """Asked by one that may not: it is refused, and the server would have said the target."""
    name, target = f"{world.marker()}.{ZONE}", world.address()
    world.server.answers_with(name, f"60 A {target}")
    assert wire.rcode(world.ask(name, client=world.other)) == REFUSED
    world.assert_closed(target)


def test_what_a_pod_without_policy_looks_up_is_closed_to_the_guest(world: World) -> None:
    name, target = f"{world.marker()}.{ZONE}", world.address()
    world.server.answers_with(name, f"60 A {target}")
    assert wire.addresses(world.ask(name, client=world.free)) == [target]
    world.assert_closed(target)


def test_a_denied_name_behind_a_known_address_stays_refused(world: World) -> None:
    """The address is shared, and open; its other name is not, nor are its other ports."""
    name, denied, target = f"{world.marker()}.{ZONE}", f"{world.marker()}.evil.test", world.address()
    world.learn(name, target)
    world.server.answers_with(denied, f"60 A {target}")
    assert wire.rcode(world.ask(denied)) == REFUSED
    world.assert_open(target)
    for port in (80, 22, DNS_PORT, HTTPS - 1, HTTPS + 1):
        assert world.came_out(wire.is_syn(world.guest.syn(target, port))) == []


@pytest.mark.parametrize("spelling", ["as it is", "as an alias of a name that may"])
def test_a_denied_name_that_is_an_aliass_end_is_not_asked_for_by_itself(world: World, spelling: str) -> None:
    """An allowed name may lead to it; that makes it no allowed name."""
    name, denied, target = f"{world.marker()}.{ZONE}", f"{world.marker()}.evil.test", world.address()
    if spelling == "as an alias of a name that may":
        world.server.answers_with(name, f"60 CNAME {denied}.")
        assert wire.addresses(world.ask(name)) == []
    world.server.answers_with(denied, f"60 A {target}")
    assert wire.rcode(world.ask(denied)) == REFUSED
    world.assert_closed(target)


def test_a_guest_that_says_it_is_another_learns_nothing(world: World) -> None:
    """A question under the other pod's address, for a name that the other may: nobody hears the answer."""
    name, target = f"{world.marker()}.{OTHERS_ZONE}", world.address()
    world.server.answers_with(name, f"60 A {target}")
    message = wire.query(name, ident=world.id16())
    spoofed = IP(src=world.other.address, dst=world.cluster_ip) / UDP(sport=5000, dport=DNS_PORT)
    world.guest.send(spoofed / Raw(message))
    world.assert_never_asked(name.split(".")[0].encode())
    world.assert_closed(target)
    world.assert_closed(target, client=world.other)
