"""How much may be committed in the shim's stead: per name and pod, per pod, in all."""

from __future__ import annotations

from acns.dns.name import Name
from acns.errors import PeerError
from acns.resolver.room import MOST, MOST_OF_NAME, Room
from acns.writer.wire import Lease

MARGIN_S = 3_600.0
NAME, OTHER_NAME = (b"www", b"example", b"com"), (b"www", b"example", b"net")
POD, OTHER_POD = b"\x0a\0\0\1", b"\x0a\0\0\2"
SET, OTHER_SET = b"\1" * 5, b"\2" * 5


def leases(first: int, count: int, ends_at: float, set_id: bytes = SET) -> list[Lease]:
    """Of addresses whose TTL is over at `ends_at`."""
    return [
        Lease(set_id, number.to_bytes(4, "big"), ends_at + MARGIN_S) for number in range(first, first + count)
    ]


def fits(room: Room, wanted: list[Lease], *, pod: bytes = POD, name: Name = NAME, now: float = 0.0) -> bool:
    try:
        room.take(pod, name, wanted, MARGIN_S, now)
    except PeerError:
        return False
    return True


def test_a_name_has_so_many_addresses_for_a_pod_and_no_more() -> None:
    room = Room()
    for first in range(0, MOST_OF_NAME, 100):
        assert fits(room, leases(first, 100, 300.0))
    assert not fits(room, leases(MOST_OF_NAME, 1, 300.0))
    assert len(room) == MOST_OF_NAME


def test_another_name_and_another_pod_have_their_own() -> None:
    room = Room()
    assert fits(room, leases(0, MOST_OF_NAME, 300.0))
    assert fits(room, leases(MOST_OF_NAME, 1, 300.0), name=OTHER_NAME)
    assert fits(room, leases(MOST_OF_NAME + 1, 1, 300.0), pod=OTHER_POD)


def test_what_is_there_costs_nothing_again() -> None:
    room = Room()
    assert fits(room, leases(0, MOST_OF_NAME, 300.0))
    for ends_at in (300.0, 600.0):
        assert fits(room, leases(0, MOST_OF_NAME, ends_at))
        assert fits(room, leases(0, MOST_OF_NAME, ends_at), pod=OTHER_POD)
    assert len(room) == MOST_OF_NAME


def test_an_address_in_several_sets_is_one_of_its_name() -> None:
    room = Room()
    assert fits(room, leases(0, MOST_OF_NAME, 300.0) + leases(0, MOST_OF_NAME, 300.0, OTHER_SET))
    assert len(room) == 2 * MOST_OF_NAME


def test_a_name_whose_addresses_change_all_day_goes_on_while_few_are_within_their_ttl() -> None:
    room = Room()
    for number in range(10_000):
        assert fits(room, leases(8 * number, 8, 5.0 * number + 5.0), now=5.0 * number)
    assert len(room) <= MOST // 2  # those whose timeouts are over have gone


def test_an_address_that_is_told_again_counts_until_its_later_end() -> None:
    room = Room()
    assert fits(room, leases(0, MOST_OF_NAME, 100.0))
    assert fits(room, leases(0, MOST_OF_NAME, 300.0))
    assert not fits(room, leases(MOST_OF_NAME, 1, 300.0), now=200.0)
    assert fits(room, leases(MOST_OF_NAME, 1, 600.0), now=300.0)


def test_what_is_refused_takes_nothing() -> None:
    room = Room()
    assert not fits(room, leases(0, MOST_OF_NAME + 1, 300.0))
    assert len(room) == 0
    assert fits(room, leases(0, MOST_OF_NAME, 300.0))


def test_in_all_there_are_no_more_than_that_and_one_pod_leaves_room_for_others() -> None:
    room = Room(most=1_000)
    flood = [fits(room, leases(100 * number, 100, 300.0), name=(b"%d" % number,)) for number in range(20)]
    assert flood == [True] * 5 + [False] * 15
    assert fits(room, leases(5_000, 200, 300.0), pod=OTHER_POD)


def test_many_pods_that_take_what_they_can_get_leave_something_to_the_next() -> None:
    room = Room(most=10_000)
    for number in range(20):
        for first in range(100_000 * number, 100_000 * number + 10_000, 10):
            fits(room, leases(first, 10, 300.0), pod=bytes([1, number]), name=(b"%d" % first,))
    assert 5_000 < len(room) < 10_000
    assert fits(room, leases(0xA000000, 8, 300.0), pod=OTHER_POD)


def test_there_is_room_again_when_timeouts_are_over() -> None:
    room = Room(most=1_000)
    assert fits(room, leases(0, 500, 300.0))
    over = 300.0 + MARGIN_S
    assert not fits(room, leases(500, 500, 9_000.0), now=over - 1.0)
    assert fits(room, leases(500, 500, 9_000.0), now=over + 10.0)
    assert len(room) == 500


def test_an_address_that_has_ended_and_comes_again_is_his_who_brings_it_again() -> None:
    room = Room(most=1_000)
    assert fits(room, leases(0, 500, 300.0))
    assert fits(room, leases(0, 500, 9_000.0), pod=OTHER_POD, now=300.0 + MARGIN_S)
    assert not fits(room, leases(500, 100, 9_000.0), pod=OTHER_POD, now=300.0 + MARGIN_S)
    assert len(room) == 500
