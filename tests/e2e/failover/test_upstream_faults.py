"""A DNS server has a bad day: silent, slow, failing, losing, lying. No lie is learned, others are as fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from acns.resolver.settings import ResolverSettings
from lab.runtime.faults import inflict
from lab.runtime.faults.commands import lasting
from lab.runtime.faults.model import UpstreamFault
from lab.world import dns_fault
from lab.world.dns_fault import Mode

from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR
from ..resolver.resolver_world import GONE_SERVER, SERVER, Bench, answer, query, rcode, until
from .outage import Place

pytestmark = pytest.mark.root

SERVFAIL = 2
LIES = {"unknown_id", "other-question"}
"""Those that get to the resolver: from another port or address they end at the node's address translation."""
HANGING = 500
BURST = 100
"""So many at once find room in the resolver's queue."""
OF_ONE_SERVER = ResolverSettings().max_in_flight_per_endpoint_and_server
KUBE_DNS = "kube-system/kube-dns"


@contextmanager
def bad_day(place: Place, mode: Mode, *, delay_s: float = 0.3, share: float = 0.3) -> Iterator[None]:
    fault = inflict.resolved(place.lab, UpstreamFault(mode, "", delay_s, share))
    assert fault == UpstreamFault(mode, KUBE_DNS, delay_s, share)
    with lasting(place.lab, fault):
        yield


def dig(place: Place, name: str, *options: str) -> list[str]:
    """What a real client gets: addresses."""
    found = place.sides.wire.pod.run(["dig", "+short", *options, name, "A"], timeout_s=30)
    return found.stdout.split()


def test_a_silent_server_is_answered_by_nothing_and_works_again_when_it_speaks(place: Place) -> None:
    name, address = place.take()
    with bad_day(place, "silent"):
        found = place.sides.wire.pod.run(["dig", "+tries=1", "+time=1", name])
        assert "no servers could be reached" in found.stdout
    assert place.sides.ask(name) == Answer(NOERROR, (address,))


def test_a_failing_server_is_passed_on_and_teaches_nothing(place: Place) -> None:
    name, _ = place.take()
    with bad_day(place, "servfail"):
        assert place.sides.ask(name) == Answer(SERVFAIL)
    assert place.names_known(name) == []


def test_a_slow_servers_answer_comes_and_opens_its_address(place: Place) -> None:
    known, (name, address) = place.learn(), place.take()
    with bad_day(place, "slow", delay_s=2.0):
        assert dig(place, name, "+time=5", "+tries=1") == [address]
        assert place.open(address, known=known) == {known, address}


def test_what_is_lost_is_asked_for_again_by_the_client_and_answered(place: Place) -> None:
    name, address = place.take()
    with bad_day(place, "lossy", share=0.4):
        assert happens(lambda: dig(place, name, "+time=1", "+tries=5") == [address], 30)


def test_a_flapping_server_is_answered_by_in_its_good_moments(place: Place) -> None:
    name, address = place.take()
    with bad_day(place, "flapping", delay_s=1.0):
        assert happens(lambda: dig(place, name, "+time=1", "+tries=3") == [address], 30)


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_lies_are_counted_and_neither_delivered_nor_learned(place: Place, transport: str) -> None:
    known, (name, address) = place.learn(), place.take()
    before = place.ignored()
    with bad_day(place, "lying"):
        assert dig(place, name, "+time=5", "+tries=1", transport) == [address]
        assert place.open(address, dns_fault.LIE, known=known) == {known, address}
    told = {kind for kind, count in place.ignored().items() if count > before.get(kind, 0)}
    assert told >= LIES


@pytest.mark.parametrize("in_flight", [HANGING, OF_ONE_SERVER])
def test_queries_that_hang_at_a_dead_server_do_not_hold_up_those_to_another(
    bench: Bench, in_flight: int
) -> None:
    """However many: a dead server has not all the room that a pod has."""
    bench.serving("*.example.com")
    bench.server_socket(GONE_SERVER)  # it takes queries and never says a word
    pod, server = bench.pod_socket(), bench.server_socket()
    for ident in range(in_flight):
        pod.sendto(query("www.example.com.", "TXT", ident), (GONE_SERVER, 53))
        if ident % BURST == 0:
            until(lambda sent=ident: bench.resolver.metric("acns_dns_in_flight") > sent, "they are taken on")
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == in_flight, "all hang")
    if in_flight > HANGING:
        pod.sendto(query("www.example.com.", "TXT", in_flight), (GONE_SERVER, 53))
        assert rcode(pod.recv(4096)) == SERVFAIL
    for ident in range(100):
        pod.sendto(query("www.example.com.", "TXT", ident), (SERVER, 53))
        packet, resolver = server.recvfrom(4096)
        server.sendto(answer(packet), resolver)
        assert int.from_bytes(pod.recv(4096)[:2]) == ident
    assert bench.resolver.metric("acns_dns_in_flight") == in_flight
