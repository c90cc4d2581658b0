"""A shim that hangs (SIGSTOP) is treated like a dead one, within the bound; awake again it does no harm."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR, REFUSED
from .outage import PATIENCE_S, TTL_S, Place

pytestmark = pytest.mark.root


@contextlib.contextmanager
def hung(place: Place) -> Iterator[None]:
    """The shim neither runs nor dies."""
    place.node.shim.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        place.node.shim.kill(signal.SIGCONT)
        place.wait_well()


def test_while_the_shim_hangs_new_addresses_of_allowed_names_open_and_others_do_not(place: Place) -> None:
    known, (name, address) = place.learn(), place.take()
    with hung(place):
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
        assert place.open(address, known=known) == {known, address}
        assert place.sides.ask("denied.example.org") == Answer(REFUSED)


def test_a_shim_that_wakes_neither_closes_nor_shortens_what_was_opened_in_its_stead(place: Place) -> None:
    known, (name, address) = place.learn(), place.take()
    with hung(place):
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
        before = place.expiry(address)
    assert happens(lambda: place.is_known(name, address), PATIENCE_S)
    assert place.open(address, known=known) == {known, address}
    assert place.expiry(address) >= before - 1
    assert place.upstream_queries(name) == 1


def test_a_mapping_in_a_hung_shims_queue_opens_no_longer_than_its_answer_allows(
    place: Place,
) -> None:
    """The call is in the shim's socket when it wakes; its TTL began when the answer came."""
    name, address = place.take()
    with hung(place):
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
        answered_at = time.time()
        assert happens(lambda: time.time() > answered_at + 3, PATIENCE_S)
    assert happens(lambda: place.is_known(name, address), PATIENCE_S)
    entry = place.entry(name, address)
    assert entry is not None
    assert entry["expires_at"] == pytest.approx(answered_at + TTL_S, abs=1.5)


def test_an_address_of_the_resolvers_is_told_from_a_strangers_without_a_word_from_it(place: Place) -> None:
    known, (name, address) = place.learn(), place.take()
    with hung(place):
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
        place.put_by_hand(place.stranger)
        assert place.stranger in place.open(known=known)
        place.node.resolver.hold()
        place.node.shim.kill(signal.SIGCONT)
        assert happens(lambda: place.stranger not in place.open(known=known), PATIENCE_S)
        assert place.open(address, known=known) == {known, address}
        place.node.resolver.start()
    assert happens(lambda: place.is_known(name, address), PATIENCE_S)
