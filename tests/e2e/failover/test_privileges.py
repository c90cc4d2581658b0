"""What reads what pods and servers send cannot change a rule; what can change rules reads none of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acns.datapath import selectors
from acns.writer import wire
from acns.writer.wire import Lease, Outcome

from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR, until
from .outage import PATIENCE_S, SELECTOR, Place

pytestmark = pytest.mark.root

ID = selectors.selector_id(SELECTOR)
OCTETS = selectors.octets_of(ID)
NET_ADMIN, NET_RAW, NET_BIND_SERVICE = 1 << 12, 1 << 13, 1 << 10

CHANGE = """
import sys
from acns import privileges
from acns.datapath.nft import Nft
privileges.keep_only({privileges.NET_RAW, privileges.NET_BIND_SERVICE})
Nft().apply(sys.argv[1])
"""
CHANGES = (
    "add table inet mine",
    "flush table inet acns",
    "insert rule inet acns pre_pods accept",
    f"add element inet acns learned {{ {selectors.element(ID, '198.51.100.99')} }}",
    "delete table inet acns",
)


def capabilities(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {kind: int(found[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def test_the_resolver_has_what_transparent_sockets_need_and_nothing_else(place: Place) -> None:
    pid = place.node.resolver.pid
    assert pid is not None
    kept = NET_RAW | NET_BIND_SERVICE
    assert capabilities(pid) == {"Inh": 0, "Prm": kept, "Eff": kept, "Bnd": kept, "Amb": 0}
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


def test_every_thread_of_the_resolver_has_given_them_up(place: Place) -> None:
    pid = place.node.resolver.pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        assert f"CapEff:\t{NET_RAW | NET_BIND_SERVICE:016x}" in (task / "status").read_text()


def test_the_writer_has_only_the_right_to_change_the_kernel(place: Place) -> None:
    pid = place.node.resolver.pid
    assert pid is not None
    writer = capabilities(child_of(pid))
    assert writer == {"Inh": 0, "Prm": NET_ADMIN, "Eff": NET_ADMIN, "Bnd": NET_ADMIN, "Amb": 0}


def test_a_writer_that_is_killed_takes_its_resolver_along_and_the_next_pair_serves(place: Place) -> None:
    known, pid = place.learn(), place.node.resolver.pid
    assert pid is not None
    place.node.shim.hold()
    try:
        os.kill(child_of(pid), signal.SIGKILL)
        assert happens(lambda: place.node.resolver.pid not in (None, pid), PATIENCE_S)
        place.node.resolver.wait_ready()
        name, address = place.take()
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
        assert place.open(address, known=known) == {known, address}
    finally:
        place.node.shim.start()
        place.wait_well()


@pytest.mark.parametrize("change", CHANGES)
def test_with_the_resolvers_privileges_no_rule_can_be_changed(place: Place, change: str) -> None:
    place.learn()  # the set is there
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    before = _without_counts(place.node.ruleset())
    done = place.node.run([sys.executable, "-c", CHANGE, f"{change}\n"], env=environment)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
    assert _without_counts(place.node.ruleset()) == before


def test_it_is_for_its_privileges_that_it_cannot(place: Place) -> None:
    """The same program, with what only the writer keeps."""
    able = CHANGE.replace("{privileges.", "{privileges.NET_ADMIN, privileges.")
    change = "add table inet mine\ndelete table inet mine\n"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = place.node.run([sys.executable, "-c", able, change], env=environment)
    assert done.returncode == 0, done.stderr


def _without_counts(ruleset: str) -> list[str]:
    """The lines that packets and time do not change."""
    return [line for line in ruleset.splitlines() if not re.search(r"expires|packets \d", line)]


# --- a writer that is told what it should not be ------------------------------------------------------------


@pytest.fixture
def writer(place: Place) -> Iterator[socket.socket]:
    """A writer of our own on the node, and the resolver's end of its socket."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    with its:
        process = place.node.popen(
            [sys.executable, "-m", "acns.writer", str(its.fileno())],
            pass_fds=(its.fileno(),),
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
    assert wire.read_answer(ours.recv(100)) == (0, Outcome.WRITTEN)
    yield ours
    ours.close()
    process.communicate(timeout=20)


def told(writer: socket.socket, *leases: Lease) -> Outcome:
    writer.send(wire.request(7, leases))
    sequence, outcome = wire.read_answer(writer.recv(100))
    assert sequence == 7
    return outcome


def test_the_writer_writes_what_opens(place: Place, writer: socket.socket) -> None:
    known = place.learn()
    lease = Lease(OCTETS, socket.inet_aton("192.0.2.77"), time.time() + 5000)
    assert told(writer, lease) is Outcome.WRITTEN
    assert "192.0.2.77" in place.open("192.0.2.77", known=known)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0"]
)
def test_the_writer_refuses_addresses_that_no_name_may_open(writer: socket.socket, address: str) -> None:
    lease = Lease(OCTETS, socket.inet_aton(address), time.time() + 50)
    assert told(writer, lease) is Outcome.REFUSED


@pytest.mark.parametrize("expires_at", [float("nan"), float("inf"), 1e18])
def test_the_writer_refuses_an_expiry_without_sense(writer: socket.socket, expires_at: float) -> None:
    assert told(writer, Lease(OCTETS, socket.inet_aton("192.0.2.7"), expires_at)) is Outcome.REFUSED


def test_what_the_writer_has_put_there_for_no_selector_opens_nothing_and_is_taken_out(
    place: Place, writer: socket.socket
) -> None:
    known = place.learn()
    lease = Lease(bytes(5), socket.inet_aton("192.0.2.66"), time.time() + 50)
    assert told(writer, lease) is Outcome.WRITTEN
    assert "192.0.2.66" not in place.open("192.0.2.66", known=known)
    until(lambda: "192.0.2.66" not in place.node.ruleset(), "the shim has taken it out")


def test_the_writer_never_lowers_an_expiry(place: Place, writer: socket.socket) -> None:
    known = place.learn()
    before = place.expiry(known)
    assert told(writer, Lease(OCTETS, socket.inet_aton(known), time.time() + 1)) is Outcome.WRITTEN
    assert place.expiry(known) >= before - 1


def test_a_message_that_is_no_request_ends_the_writer(writer: socket.socket) -> None:
    writer.send(b"flush ruleset")
    assert writer.recv(100) == b""
