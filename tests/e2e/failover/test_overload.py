"""One pod far past its share: the others lose no query, and what it makes the resolver hold is bounded.

How much slower the others are is measured elsewhere (`invoke bench.dns --only overload`); here it is that
they are answered at all, each query asked once.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.bench.dns_floods import NO_RESETS, syn

from ..resolver.resolver_world import POD, SERVER, Bench, World, query, receive_framed, send_framed, until
from ..resolver.two_pods import OTHER_POD, answered, answering, beside, pod_socket, serve_both

pytestmark = pytest.mark.root

QUERIES = 60
HALF_OPEN = 10_000
GROWTH_BYTES = 96 << 20

Flood = Callable[[], object]


@pytest.fixture
def both(two_pods: World, bench: Bench) -> Bench:
    return serve_both(bench, max_queries_per_second_per_pod=500, max_tcp_connections_per_pod=64)


@contextlib.contextmanager
def bounded_memory(bench: Bench) -> Iterator[None]:
    """The resolver has at no time held much more than before the block."""
    before = bench.resolver.metric("process_resident_memory_bytes")
    yield
    assert most_resident_bytes(bench.resolver.process.pid) < before + GROWTH_BYTES


def most_resident_bytes(pid: int) -> int:
    """The most memory that it ever had (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def others_are_answered_beside(bench: Bench, flood: Flood) -> None:
    """Every query of the other pod has its answer, and memory has not grown beyond reason."""
    with bounded_memory(bench), answering(bench, "192.0.2.9"), beside(flood):
        assert [number for number in range(QUERIES) if not answered(bench, number)] == []


def test_beside_random_subdomains_that_nobody_has_asked_for(both: Bench) -> None:
    """Each of them is new: forwarded, learned, committed."""
    pod, numbers = pod_socket(both), itertools.count()
    pod.setblocking(False)

    def flood() -> None:
        for _ in range(20):
            pod.sendto(query(f"x{next(numbers)}.example.com."), (SERVER, 53))
        threading.Event().wait(0.01)  # the server of this test is in this process too, and has its turn

    others_are_answered_beside(both, flood)
    assert both.resolver.metric("acns_dns_over_budget_total") > 0


def test_beside_a_flood_of_datagrams(both: Bench) -> None:
    pod, packet = pod_socket(both), query("www.example.com.")
    pod.setblocking(False)
    others_are_answered_beside(both, lambda: [pod.sendto(packet, (SERVER, 53)) for _ in range(100)])
    assert both.resolver.metric("acns_dns_over_budget_total") > 0


@contextlib.contextmanager
def no_resets(world: World) -> Iterator[None]:
    """The pod's kernel leaves connections half open that it knows nothing of."""
    world.pod.run("nft", "-f", "-", text=NO_RESETS)
    try:
        yield
    finally:
        world.pod.run("nft", "delete", "table", "ip", "quiet")


def test_beside_ten_thousand_half_open_connections(both: Bench) -> None:
    raw = both.keep(both.world.pod.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)))
    sent = itertools.count()

    def flood() -> None:
        number = next(sent)
        if number < HALF_OPEN:
            raw.sendto(syn(POD, 1024 + number, SERVER), (SERVER, 0))

    with bounded_memory(both), no_resets(both.world), answering(both), beside(flood):
        until(lambda: next(sent) >= HALF_OPEN, "all sent", 60)
        assert [number for number in range(QUERIES) if not answered(both, number)] == []
        stream = both.keep(both.world.pod.connect(SERVER, source=(OTHER_POD, 0)))
        for number in range(QUERIES):
            send_framed(stream, query("www.example.org.", ident=number))
            assert receive_framed(stream)[1] == number
    assert accepted(both) <= 1


def test_beside_readers_that_do_not_read(both: Bench) -> None:
    """Each connection asks on and on, and takes no answer."""
    packets = [query("www.example.org.", ident=ident) for ident in range(200)]
    kept: list[socket.socket] = []
    stuck: set[socket.socket] = set()

    def flood() -> None:
        if len(kept) < 64:
            kept.append(both.world.pod.connect(SERVER, source=(POD, 0)))
            kept[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            kept[-1].setblocking(False)
        for stream in kept:
            try:
                send_framed(stream, *packets)
            except BlockingIOError:
                stuck.add(stream)
            except OSError:
                continue  # closed, since it stood still

    others_are_answered_beside(both, flood)
    assert stuck  # it is not read from as long as it does not read
    for stream in kept:
        stream.close()


def accepted(bench: Bench) -> int:
    """TCP connections of pods that the resolver holds."""
    sockets = bench.world.node.run("ss", "-Htn", "state", "established", "dport", ">=", "1024")
    return sum(POD in line for line in sockets.splitlines())
