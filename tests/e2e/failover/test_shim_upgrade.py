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
LOOKS = 600
"""How often the kernel is read before nothing more is expected of a shim that looks once a second."""


@contextlib.contextmanager
def next_generation(node: NodeHandle) -> Iterator[None]:
    """A second shim of the node with the settings of the first, where the first was found, and ready."""
    settings = node.shim.log_file.with_name("shim.toml")
    command = [sys.executable, "-m", "acns.shim", "--settings", str(settings)]
    before = serving(node)
    made = node.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert happens(lambda: serving(node) not in (before, ""), PATIENCE_S * 2)
        assert happens(lambda: node.shim.http_get().status == 200, PATIENCE_S), "it has adopted what is there"
        yield
    finally:
        made.send_signal(signal.SIGTERM)
        assert made.wait(PATIENCE_S) == 0


def socket_link(node: NodeHandle) -> Path:
    """Where resolvers look for the shim; each generation's own socket is behind it."""
    return setting(node, "fqdndata_socket")


def setting(node: NodeHandle, name: str) -> Path:
    """A path that the shim's settings say."""
    return Path(next(line.split('"')[1] for line in settings_of(node) if line.startswith(name)))


def settings_of(node: NodeHandle) -> list[str]:
    return node.shim.log_file.with_name("shim.toml").read_text().splitlines()


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


def test_what_the_next_one_learns_stays_while_the_one_before_lives(place: Place) -> None:
    """By the first one's reckoning somebody has put it there."""
    known, watch = place.learn(), KernelWatch(place.node)
    before = standing_by(place.node)
    with next_generation(place.node), watch.running():
        assert happens(lambda: standing_by(place.node) > before, PATIENCE_S)
        name, address = place.take()
        assert place.sides.ask(name) == Answer(NOERROR, (address,))
        watch.require(SELECTOR, address)
        assert place.open(address, known=known) == {known, address}
        looked_at(place.node, watch)
        assert (watch.missing, watch.lowered) == ({}, {})
    assert happens(lambda: serving(place.node) != "", PATIENCE_S * 2), (
        "the first is started again, and serves"
    )
    place.wait_well()
    assert place.open(address, known=known) == {known, address}


def test_one_that_hung_when_it_was_replaced_undoes_nothing_when_it_goes_on(place: Place) -> None:
    known, watch = place.learn(), KernelWatch(place.node)
    before = standing_by(place.node)
    place.node.shim.kill(signal.SIGSTOP)
    try:
        with next_generation(place.node), watch.running():
            name, address = place.take()
            assert place.sides.ask(name) == Answer(NOERROR, (address,))
            watch.require(SELECTOR, address)
            place.node.shim.kill(signal.SIGCONT)
            assert happens(lambda: standing_by(place.node) > before, PATIENCE_S)
            looked_at(place.node, watch)
            assert (watch.missing, watch.lowered) == ({}, {})
            assert place.open(address, known=known) == {known, address}
    finally:
        place.node.shim.kill(signal.SIGCONT)
    place.wait_well()


def test_one_that_hung_while_another_came_and_left_is_started_anew(place: Place) -> None:
    """It finds no link then, and nobody would find it."""
    known, first = place.learn(), serving(place.node)
    place.node.shim.kill(signal.SIGSTOP)
    try:
        with next_generation(place.node):
            name, address = place.take()
            assert place.sides.ask(name) == Answer(NOERROR, (address,))
        assert serving(place.node) == ""
    finally:
        place.node.shim.kill(signal.SIGCONT)
    assert happens(lambda: serving(place.node) not in (first, ""), PATIENCE_S * 2)
    place.wait_well()
    assert place.open(address, known=known) == {known, address}


@pytest.mark.parametrize("found_by", ["fqdndata_socket", "http_socket"])
def test_one_that_nobody_finds_any_more_is_started_anew(found_by: str, place: Place) -> None:
    """Something tidies the folder up, say."""
    known, first = place.learn(), serving(place.node)
    setting(place.node, found_by).unlink()
    assert happens(lambda: serving(place.node) not in (first, ""), PATIENCE_S * 2)
    place.wait_well()
    name, address = place.take()
    assert place.sides.ask(name) == Answer(NOERROR, (address,))
    assert place.open(address, known=known) == {known, address}


@pytest.mark.parametrize("lacking", ["manifests", "http_socket"])
def test_one_that_cannot_start_takes_nobodys_place(lacking: str, place: Place, tmp_path: Path) -> None:
    kept = [one for one in settings_of(place.node) if not one.startswith((lacking, "log_file"))]
    wrong = tmp_path / "shim.toml"
    wrong.write_text("\n".join([f'{lacking} = "{tmp_path / "none" / "at all"}"', *kept]))
    first = serving(place.node)
    made = place.node.popen(
        [sys.executable, "-m", "acns.shim", "--settings", str(wrong)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert made.wait(PATIENCE_S * 2) not in (0, None)
    assert serving(place.node) == first
    assert place.node.shim.http_get().status == 200
    assert place.sides.ask("denied.example.org") == Answer(REFUSED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_one_that_is_told_to_end_while_it_starts_takes_nobodys_place(
    number: signal.Signals, place: Place, tmp_path: Path
) -> None:
    alike = tmp_path / "shim.toml"
    alike.write_text("\n".join(one for one in settings_of(place.node) if not one.startswith("log_file")))
    first, folder = serving(place.node), socket_link(place.node).parent
    before = sorted(folder.glob("*.sock*"))
    command = [sys.executable, "-X", "importtime", "-m", "acns.shim", "--settings", str(alike)]
    with place.node.popen(command, stderr=subprocess.PIPE, text=True) as made:
        assert made.stderr
        assert any(line.endswith("acns.shim.daemon\n") for line in made.stderr), "it is made next"
        made.send_signal(number)
        said = made.stderr.read()
    assert (made.returncode, "Traceback" in said) == (0, False)
    assert serving(place.node) == first
    assert sorted(folder.glob("*.sock*")) == before


def standing_by(node: NodeHandle) -> int:
    """How often a shim of the node has made way for another."""
    return node.shim.log_file.read_text().count("standing by")


def looked_at(node: NodeHandle, watch: KernelWatch) -> None:
    """Returns when a shim would have looked after what somebody else has done, and what it did was seen."""
    before = watch.samples
    assert happens(lambda: watch.samples > before + LOOKS, PATIENCE_S)


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
