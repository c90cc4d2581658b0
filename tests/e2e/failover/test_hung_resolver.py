"""A resolver that hangs (SIGSTOP) is as one that is dead: closed. Awake again it does no harm."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from ..pair import wire
from ..pair.probes import Answer
from ..pair.wire import NOERROR, REFUSED
from .outage import LEGACY_NAME, Place

pytestmark = pytest.mark.root


@contextlib.contextmanager
def hung(place: Place) -> Iterator[None]:
    """The resolver neither runs nor dies."""
    place.node.resolver.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        place.node.resolver.kill(signal.SIGCONT)
        place.wait_well()


def test_while_the_resolver_hangs_queries_reach_nobody_and_what_was_learned_stays_open(place: Place) -> None:
    known = place.learn()
    with hung(place):
        assert place.leaks(known) == []
        assert place.open(known=known) == {known}


def test_while_the_resolver_hangs_a_pod_without_a_policy_notices_nothing(place: Place) -> None:
    with hung(place):
        asked = place.lab.pod("legacy").run(["dig", "+tries=1", "+time=10", LEGACY_NAME], 20)
    assert asked.returncode == 0, asked.stdout


def test_a_resolver_that_wakes_serves_and_lets_nothing_out_that_was_asked_meanwhile_and_is_denied(
    place: Place,
) -> None:
    known, (name, address) = place.learn(), place.take()
    cable = place.sides.wire
    label = wire.fresh_label(cable.rng)
    denied = wire.query(f"{label}.example.org", ident=cable.rng.getrandbits(16))
    with hung(place):
        port = cable.udp(cable.cluster_dns, denied)
    assert place.sides.ask(name) == Answer(NOERROR, (address,))  # it came behind the denied one
    assert place.open(address, known=known) == {known, address}
    assert wire.seen(place.dns_pod, wire.holding(label)) == []
    assert [wire.rcode(wire.payload(packet)) for packet in cable.answers(port)] == [REFUSED]
