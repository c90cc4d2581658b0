"""Either daemon alone reaches service; a state file that cannot be trusted is set aside, never half-used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acns.shim import views

from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR, SERVFAIL
from .outage import PATIENCE_S, Place

pytestmark = pytest.mark.root

Damage = Callable[[bytes], bytes]


def _older(content: bytes) -> bytes:
    record = json.loads(content)
    return json.dumps(record | {"version": record["version"] - 1}).encode()


DAMAGES: dict[str, Damage] = {
    "truncated": lambda content: content[: len(content) // 2],
    "one bit flipped": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "of an older version": _older,
    "empty": lambda content: b"",
    "of zeros": lambda content: bytes(len(content)),
}


@pytest.fixture
def known(place: Place) -> str:
    """An address that was learned before anything happens."""
    return place.learn()


@pytest.fixture
def alone(place: Place, known: str) -> Iterator[Place]:
    """Both agents are down; in the end both are well."""
    place.node.shim.hold()
    place.node.resolver.hold()
    yield place
    place.node.shim.start()
    place.node.resolver.start()
    place.wait_well()


def policy_file(place: Place) -> Path:
    return place.resolver_state / "policy.json"


def test_a_resolver_without_the_shim_serves_by_its_snapshot(alone: Place) -> None:
    alone.node.resolver.start()
    alone.node.resolver.wait_ready()
    name, address = alone.take()
    assert alone.sides.ask(name) == Answer(NOERROR, (address,))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_set_aside_and_nothing_is_answered_by_it(
    alone: Place, known: str, damage: str
) -> None:
    file = policy_file(alone)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    alone.node.resolver.start()
    assert happens(lambda: file.with_name("policy.json.damaged").exists(), PATIENCE_S)
    assert not file.exists()
    assert alone.leaks(known) == []
    assert "policy snapshot on disk not used" in "\n".join(alone.node.resolver.log_tail(20))
    file.with_name("policy.json.damaged").unlink()


def test_what_a_dead_resolver_could_not_tell_is_told_by_the_next_one(place: Place) -> None:
    place.node.shim.hold()
    name, address = place.take()
    assert place.sides.ask(name) == Answer(NOERROR, (address,))
    place.node.resolver.hold()
    place.node.resolver.start()
    place.node.resolver.wait_ready()
    place.node.shim.start()
    place.wait_well()
    assert happens(lambda: place.is_known(name, address), PATIENCE_S)
    assert place.upstream_queries(name) == 1


def test_a_torn_end_of_the_mappings_on_disk_costs_only_what_was_torn(place: Place) -> None:
    place.node.shim.hold()
    (first, one), (second, two) = place.take(), place.take()
    for name, address in ((first, one), (second, two)):
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
    place.node.resolver.hold()
    (log,) = place.resolver_state.glob("mappings-*.log")
    log.write_bytes(log.read_bytes()[:-10])
    place.node.resolver.start()
    place.node.resolver.wait_ready()
    place.node.shim.start()
    place.wait_well()
    assert happens(lambda: place.is_known(first, one), PATIENCE_S)
    assert not place.is_known(second, two)
    assert "mappings on disk damaged" in place.node.resolver.log_file.read_text()


def test_without_the_shim_a_damaged_ledger_opens_nothing_new(place: Place, known: str) -> None:
    """It names the sets, and only the shim can say them anew."""
    place.node.shim.hold()
    try:
        ledger = place.node.shim.log_file.parent / "shim-state" / "ledger.log"
        content = ledger.read_bytes()
        ledger.write_bytes(DAMAGES["one bit flipped"](content))
        place.node.resolver.hold()
        place.node.resolver.start()
        place.node.resolver.wait_ready()
        name, address = place.take()
        assert place.sides.ask(name) == Answer(SERVFAIL)
        assert place.open(address, known=known) == {known}
    finally:
        place.node.shim.start()
        place.wait_well()
    assert place.sides.ask(name) == Answer(NOERROR, (address,))


def test_a_shim_alone_adopts_addresses_and_their_time_without_a_flush(alone: Place, known: str) -> None:
    before = alone.expiry(known)
    alone.node.shim.start()
    alone.node.shim.wait_ready()
    assert alone.expiry(known) == pytest.approx(before, abs=2)
    assert alone.open(known=known) == {known}
    entries = alone.node.shim.http_get(views.CACHE).json()["addresses"]
    assert known in [one["address"] for one in entries], "it would never be collected"
