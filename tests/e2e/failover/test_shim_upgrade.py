"""A shim is replaced, by a restart or by a next one beside it, and the pods notice nothing of it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runtime.handles import NodeHandle

from ..pair.companions import KernelWatch, Steady
from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR, REFUSED, Wire
from .outage import PATIENCE_S, SELECTOR, Place

pytestmark = pytest.mark.root

ROUNDS = 3


@contextlib.contextmanager
def next_generation(node: NodeHandle) -> Iterator[None]:
    """A second shim of the node, with the settings of the first, that has brought a policy stream up."""
    settings = node.shim.log_file.with_name("shim.toml")
    command = [sys.executable, "-m", "acns.shim", "--settings", str(settings)]
    before = serving(node)
    made = node.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert happens(lambda: serving(node) not in (before, ""), PATIENCE_S * 2)
        yield
    finally:
        made.send_signal(signal.SIGTERM)
        assert made.wait(PATIENCE_S) == 0


def socket_link(node: NodeHandle) -> Path:
    """Where resolvers look for the shim; each generation's own socket is behind it."""
    lines = node.shim.log_file.with_name("shim.toml").read_text().splitlines()
    return Path(next(line.split('"')[1] for line in lines if line.startswith("fqdndata_socket")))


def serving(node: NodeHandle) -> str:
    """Which generation is behind the link; empty: none."""
    try:
        return str(socket_link(node).readlink())
    except FileNotFoundError:
        return ""


def test_restarts_in_a_row_hinder_nobody_and_lose_nothing(place: Place) -> None:
    known, watch = place.learn(), KernelWatch(place.node)
    with Wire(place.lab, "legacy", place.sides.wire.rng) as cable:
        legacy = Steady(cable, "evil.example.org", ("198.51.100.99", 80))
        with watch.running(), legacy.running():
            watch.require(SELECTOR, known)
            for _ in range(ROUNDS):
                place.node.shim.upgrade()
                name, address = place.take()
                assert place.sides.ask(name) == Answer(NOERROR, (address,))
                watch.require(SELECTOR, address)
                assert place.open(address, known=known) == {known, address}
                assert place.sides.ask("denied.example.org") == Answer(REFUSED)
            place.wait_well()
        assert (watch.missing, watch.lowered) == ({}, {})
        assert watch.samples > ROUNDS
        assert (legacy.unanswered, legacy.hindered) == ([], [])
        assert legacy.queries > ROUNDS


def test_two_generations_at_once_do_not_take_each_others_socket_away(place: Place) -> None:
    known, (name, address) = place.learn(), place.take()
    with next_generation(place.node):
        second = serving(place.node)
        place.node.shim.hold(signal.SIGTERM)
        assert serving(place.node) == second
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
        assert place.open(address, known=known) == {known, address}
        assert place.sides.ask("denied.example.org") == Answer(REFUSED)
        place.node.shim.start()
        assert happens(lambda: serving(place.node) not in (second, ""), PATIENCE_S)
        third = serving(place.node)
    assert serving(place.node) == third
    place.wait_well()
    assert place.open(address, known=known) == {known, address}
