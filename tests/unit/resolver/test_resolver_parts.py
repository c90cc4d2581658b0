"""The resolver's pure parts: budget, backlog, metrics, framing, reply sockets."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from scapy.layers.inet import IP, UDP

from acns.api.codec import Mapping
from acns.resolver import intercept, node_replies
from acns.resolver.backlog import Backlog
from acns.resolver.budget import LARGE_AT_ONCE_BYTES, LARGE_OCTETS, LARGE_OF_ENDPOINT_BYTES, Budget, InFlight
from acns.resolver.flight import Ended
from acns.resolver.framing import Frames, framed
from acns.resolver.intercept import ReplySockets
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.overload import Budgeted

# --- budget --------------------------------------------------------------------------------------------


def test_one_endpoint_cannot_take_more_than_its_share() -> None:
    budget = Budget(total=10, per_key=2)
    one, other = budget.share("a"), budget.share("b")
    assert [budget.take(one) for _ in range(3)] == [True, True, False]
    assert budget.take(other)


def test_an_endpoint_has_one_share_whoever_asks_for_it_while_anybody_holds_it() -> None:
    budget = Budget(total=10, per_key=1)
    held = budget.share("a")
    assert budget.take(held)
    assert not budget.take(budget.share("a"))
    budget.give(held)
    assert budget.take(budget.share("a"))


def test_all_together_cannot_take_more_than_the_total() -> None:
    budget = Budget(total=3, per_key=2)
    shares = [budget.share(key) for key in "aabb"]
    assert [budget.take(share) for share in shares] == [True, True, True, False]


@given(st.lists(st.sampled_from("abc")))
def test_what_is_given_back_can_be_taken_again(keys: list[str]) -> None:
    budget = Budget(total=5, per_key=2)
    shares = [budget.share(key) for key in keys]
    taken = [share for share in shares if budget.take(share)]
    assert budget.taken == len(taken) <= 5
    for share in taken:
        budget.give(share)
    assert budget.taken == 0
    assert budget.take(budget.share("a"))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(1, 65_535)), max_size=400)
)
def test_large_queries_in_flight_have_a_bound_in_octets_that_comes_back(
    asked: list[tuple[str, str, int]],
) -> None:
    budget = InFlight(total=10_000, per_endpoint=300, per_server=10_000, per_lane=200)
    taken = []
    for endpoint, server, octets in asked:
        lane = budget.lane(endpoint, server)
        if budget.take(lane, octets):
            taken.append((lane, octets))
    large = {
        lane.endpoint: sum(
            octets for one, octets in taken if one.endpoint is lane.endpoint and octets > 2_048
        )
        for lane, _ in taken
    }
    assert all(total == endpoint.large_bytes <= LARGE_OF_ENDPOINT_BYTES for endpoint, total in large.items())
    assert sum(large.values()) == budget.large_bytes <= LARGE_AT_ONCE_BYTES
    for lane, octets in taken:
        budget.give(lane, octets)
    assert budget.taken == budget.large_bytes == 0
    assert all(endpoint.large_bytes == 0 for endpoint in large)


def test_large_queries_of_many_endpoints_have_a_bound_together() -> None:
    budget = InFlight(total=10_000, per_endpoint=300, per_server=10_000, per_lane=200)
    lanes = [budget.lane(endpoint, "dns") for endpoint in range(20)]
    taken = sum(budget.take(lane, 64_000) for lane in lanes for _ in range(20))
    assert LARGE_AT_ONCE_BYTES - 64_000 < taken * 64_000 <= LARGE_AT_ONCE_BYTES
    assert budget.take(lanes[0], LARGE_OCTETS)


def test_one_server_leaves_room_for_queries_to_the_others() -> None:
    budget = InFlight(total=10, per_endpoint=4, per_server=6, per_lane=3)
    lanes = {
        key: budget.lane(*key.split()) for key in ("a dead", "b dead", "c dead", "a well", "b well", "c well")
    }
    taken = {key: sum(budget.take(lane) for _ in range(10)) for key, lane in lanes.items()}
    assert taken == {"a dead": 3, "b dead": 3, "c dead": 0, "a well": 1, "b well": 1, "c well": 2}
    for key, lane in lanes.items():
        for _ in range(taken[key]):
            budget.give(lane)
    assert budget.taken == 0
    assert budget.take(lanes["c dead"])


# --- backlog -------------------------------------------------------------------------------------------


def mapping(number: int, ttl_s: int = 100) -> Mapping:
    return Mapping((b"n%d" % number,), (bytes((192, 0, 2, number)),), ttl_s, 1, b"\x0a\0\0\1")


def drained(backlog: Backlog, now: float) -> list[tuple[bytes, int]]:
    told = []
    while found := backlog.first(now):
        waiting, at_now = found
        told.append((at_now.name[0], at_now.ttl_s))
        backlog.done(waiting)
    return told


def test_mappings_are_told_in_order_with_the_ttl_that_is_left() -> None:
    backlog = Backlog(10)
    backlog.add(mapping(1, ttl_s=100), learned_at=1000.0)
    backlog.add(mapping(2, ttl_s=50), learned_at=1010.0)
    assert drained(backlog, now=1020.5) == [(b"n1", 79), (b"n2", 39)]


def test_a_mapping_whose_ttl_ran_out_is_not_told() -> None:
    backlog = Backlog(10)
    backlog.add(mapping(1, ttl_s=0), learned_at=1000.0)
    backlog.add(mapping(2, ttl_s=10), learned_at=1000.0)
    backlog.add(mapping(3, ttl_s=30), learned_at=1000.0)
    assert drained(backlog, now=1010.0) == [(b"n3", 20)]
    assert backlog.expired == 2


def test_a_mapping_whose_ttl_the_agent_raises_is_told_until_that_has_run_out() -> None:
    backlog = Backlog(10)
    backlog.add(mapping(1, ttl_s=5), learned_at=1000.0)
    found = backlog.first(1010.0, least_ttl_s=300)
    assert found is not None
    assert found[1].ttl_s == 0
    assert backlog.first(1300.0, least_ttl_s=300) is None
    assert backlog.expired == 1


def test_a_full_backlog_drops_the_oldest_and_counts_it() -> None:
    backlog = Backlog(2)
    for number in range(4):
        backlog.add(mapping(number), learned_at=1000.0)
    assert [name for name, _ in drained(backlog, now=1000.0)] == [b"n2", b"n3"]
    assert backlog.overflowed == 2


def test_one_that_overflowed_while_it_was_being_told_takes_no_other_with_it() -> None:
    backlog = Backlog(1)
    backlog.add(mapping(1), learned_at=1000.0)
    found = backlog.first(1000.0)
    backlog.add(mapping(2), learned_at=1000.0)
    assert found is not None
    backlog.done(found[0])
    assert len(backlog) == 1


# --- metrics -------------------------------------------------------------------------------------------


def test_every_kind_of_excess_is_a_count_before_it_happens() -> None:
    shown = generate_latest(ResolverMetrics().registry).decode()
    for kind in Budgeted:
        assert re.search(rf'acns_dns_over_budget_total\{{kind="{kind.value}",transport="\w+"}} 0', shown)


# --- framing -------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300)), st.data())
def test_messages_survive_any_cutting_of_the_stream(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, messages))
    frames, taken = Frames(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        frames.feed(stream[:size])
        stream = stream[size:]
        for _ in range(data.draw(st.integers(0, 5))):  # not always all that is there
            if (message := frames.take()) is not None:
                taken.append(message)
    while (message := frames.take()) is not None:
        taken.append(message)
    assert taken == messages
    assert len(frames) == 0


def test_an_incomplete_message_is_held() -> None:
    frames = Frames()
    frames.feed(struct.pack("!H", 4) + b"abc")
    assert frames.take() is None
    frames.feed(b"d")
    assert frames.take() == b"abcd"


# --- reply sockets -------------------------------------------------------------------------------------


class FakeSocket:
    def __init__(self) -> None:
        self.closed = False

    def sendto(self, packet: bytes, to: tuple[str, int]) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True


def test_reply_sockets_are_kept_and_the_least_recently_used_is_closed() -> None:
    made: dict[tuple[bytes, int], Any] = {}

    def opened(server: tuple[bytes, int]) -> socket.socket:
        assert server not in made or made[server].closed
        made[server] = FakeSocket()
        return made[server]  # type: ignore[no-any-return]

    replies = ReplySockets(2, opened)
    one, two, three = ((bytes((10, 0, 0, number)), 53) for number in (1, 2, 3))
    for server in (one, two, one, three):
        replies.send(server, b"", ("10.0.0.9", 1))
    assert [made[server].closed for server in (one, two, three)] == [False, True, False]
    replies.close()
    assert all(fake.closed for fake in made.values())


def test_a_socket_that_cannot_be_made_leaves_nothing_behind() -> None:
    def refused(server: tuple[bytes, int]) -> socket.socket:
        raise PermissionError

    replies = ReplySockets(2, refused)
    with pytest.raises(PermissionError):
        replies.send((b"\x0a\0\0\1", 53), b"", ("10.0.0.9", 1))
    replies.close()


# --- the queue of queries ------------------------------------------------------------------------------


def test_pressure_is_highest_when_a_receive_buffer_is_full_and_gone_once_it_is_read() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pod,
    ):
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        pod.connect(listener.getsockname())
        pod.send(b"?")
        assert intercept.pressure(listener) == 1
        for _ in range(10_000):
            pod.send(b"?" * 500)
        assert intercept.pressure(listener) == 16
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.recv(1)
        assert intercept.pressure(listener) == 1


# --- answers in the name of a server on this node ----------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\xff" * 512, bytes(range(251)) * 16])
def test_the_checksum_of_a_datagram_is_the_one_that_others_compute(payload: bytes) -> None:
    made = node_replies.udp_datagram(b"\x0a\0\0\x01", 53, b"\x0a\xf4\0\x05", 40_001, payload)
    other = IP(src="10.0.0.1", dst="10.244.0.5") / UDP(sport=53, dport=40_001) / payload
    assert made == bytes(other)[20:]


def test_an_address_of_this_machine_is_told_from_others() -> None:
    assert node_replies.is_on_node(socket.inet_aton("127.0.0.1"))
    assert not node_replies.is_on_node(socket.inet_aton("192.0.2.1"))


# --- answers that nobody waits for -------------------------------------------------------------------------


def test_how_a_query_has_ended_is_known_for_as_long_as_not_too_many_have_since() -> None:
    ended = Ended()
    assert ended.kind(7) == "unknown_id"
    ended.answered(7)
    ended.given_up(8)
    assert (ended.kind(7), ended.kind(8)) == ("duplicate", "late")
    ended.given_up(7)  # drawn again, for another
    assert ended.kind(7) == "late"
    for ident in range(100, 400):
        ended.answered(ident)
    assert (ended.kind(7), ended.kind(399)) == ("unknown_id", "duplicate")
