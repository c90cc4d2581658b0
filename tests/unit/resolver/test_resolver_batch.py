"""Datagrams in batches, on real sockets of the loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from acns.resolver import batch
from acns.resolver.batch import ANSWER_AT, DATAGRAMS, PEER_AT, PLACE_AT, QUERY_AT, Batch
from acns.resolver.intercept import IP_RECVORIGDSTADDR

LOOPBACK = "127.0.0.1"
ID_BYTES = 2


def opened(address: str = LOOPBACK) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.bind((address, 0))
    return made


@pytest.fixture
def pod() -> Iterator[socket.socket]:
    with opened() as made:
        made.settimeout(5)
        yield made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with opened() as made:
        made.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
        yield made


@pytest.fixture
def upstream() -> Iterator[socket.socket]:
    with opened() as made:
        yield made


def received(of: Batch, there: socket.socket) -> list[bytes]:
    return [of.packet(number, length) for number, length in enumerate(of.receive(there.fileno()))]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 512, 65_507])
def test_a_datagram_is_what_was_sent_and_nothing_of_one_before(
    size: int, pod: socket.socket, listener: socket.socket
) -> None:
    queries = Batch(control=True)
    for packet in (b"before" * 10_000, b"x" * size):
        pod.sendto(packet, listener.getsockname())
        assert received(queries, listener) == [packet]
        assert queries.peer(0) == pod.getsockname()


def test_more_than_a_batch_holds_stays_for_the_next(pod: socket.socket, listener: socket.socket) -> None:
    queries, sent = Batch(control=True), [number.to_bytes(2) for number in range(DATAGRAMS + 3)]
    for packet in sent:
        pod.sendto(packet, listener.getsockname())
    assert received(queries, listener) + received(queries, listener) == sent
    assert received(queries, listener) == []


def test_the_place_says_who_was_asked(pod: socket.socket, listener: socket.socket) -> None:
    queries = Batch(control=True)
    pod.sendto(b"query", listener.getsockname())
    assert queries.receive(listener.fileno())
    asked = batch.sockaddr_of(socket.inet_aton(LOOPBACK), listener.getsockname()[1])
    assert queries.memory[PLACE_AT:QUERY_AT] == asked


def test_without_control_data_those_of_an_earlier_datagram_are_gone(
    pod: socket.socket, listener: socket.socket
) -> None:
    queries = Batch(control=True)
    pod.sendto(b"query", listener.getsockname())
    queries.receive(listener.fileno())
    listener.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 0)
    pod.sendto(b"query", listener.getsockname())
    assert received(queries, listener) == [b"query"]
    assert not any(queries.memory[PLACE_AT:QUERY_AT])


def test_queries_are_sent_on_to_whom_was_asked_under_their_new_ids(
    pod: socket.socket, listener: socket.socket, upstream: socket.socket
) -> None:
    queries, there = Batch(control=True), listener.getsockname()
    for packet in (b"..first", b"..the second"):
        pod.sendto(packet, there)
    for number, length in enumerate(queries.receive(listener.fileno())):
        start = queries.starts[number]
        queries.memory[start : start + ID_BYTES] = bytes((number, 7))
        queries.lengths[number] = length - ID_BYTES
    assert queries.send(upstream.fileno(), 0, 2) == 2
    found = [listener.recvfrom(100) for _ in range(2)]
    assert found == [
        (bytes((n, 7)) + rest, upstream.getsockname()) for n, rest in ((0, b"first"), (1, b"the second"))
    ]


def test_queries_are_answered_to_who_sent_them_under_their_own_ids(
    pod: socket.socket, listener: socket.socket, upstream: socket.socket
) -> None:
    queries, there = Batch(control=True), listener.getsockname()
    with opened() as other:
        for sender, packet in ((pod, b"P1first"), (other, b"O1a long one"), (pod, b"P2")):
            sender.sendto(packet, there)
        assert len(queries.receive(listener.fileno())) == 3
        for number, rest in enumerate((b"-longer than asked", b"", b"!")):
            queries.put(number, rest)
        assert queries.send_back(upstream.fileno(), 0, 3) == 3
        found = [pod.recvfrom(100), pod.recvfrom(100), other.recvfrom(100)]
    assert found == [(said, upstream.getsockname()) for said in (b"P1-longer than asked", b"P2!", b"O1")]


def test_answers_are_sent_on_to_the_peer_that_is_written_over(
    pod: socket.socket, upstream: socket.socket
) -> None:
    answers = Batch(control=False)
    with opened() as server:
        server.sendto(b"??answer", upstream.getsockname())
        (length,) = answers.receive(upstream.fileno())
        to = batch.sockaddr_of(socket.inet_aton(LOOPBACK), pod.getsockname()[1])
        answers.memory[:ANSWER_AT] = b"ID" + to
        answers.lengths[0] = length - ID_BYTES
        assert answers.send(server.fileno(), 0, 1) == 1
        assert pod.recvfrom(100) == (b"IDanswer", server.getsockname())


def test_what_cannot_be_sent_is_an_error_and_what_follows_is_sent(
    pod: socket.socket, upstream: socket.socket
) -> None:
    answers = Batch(control=False)
    with opened() as server:
        for packet in (b"??1", b"??2"):
            server.sendto(packet, upstream.getsockname())
        assert len(answers.receive(upstream.fileno())) == 2
        nobody = batch.sockaddr_of(bytes((127, 255, 255, 255)), 9)  # broadcast is not allowed
        for number, to in enumerate(
            (nobody, batch.sockaddr_of(socket.inet_aton(LOOPBACK), pod.getsockname()[1]))
        ):
            start = answers.starts[number]
            answers.memory[start : start + ANSWER_AT] = b"ID" + to
            answers.lengths[number] = 1
        with pytest.raises(PermissionError):
            answers.send(server.fileno(), 0, 2)
        assert answers.send(server.fileno(), 1, 2) == 1
        assert pod.recv(100) == b"ID2"


def test_addresses_are_read_as_the_kernel_writes_them(pod: socket.socket, upstream: socket.socket) -> None:
    answers = Batch(control=False)
    pod.sendto(b"answer", upstream.getsockname())
    answers.receive(upstream.fileno())
    written = answers.memory[PEER_AT:ANSWER_AT]
    assert written == batch.sockaddr_of(socket.inet_aton(LOOPBACK), pod.getsockname()[1])
    assert batch.address_of(written) == pod.getsockname()
