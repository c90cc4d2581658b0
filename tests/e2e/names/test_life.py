"""How long a learned address stays: while one of its names is fresh, while a connection lives, within limits.

A SYN without an answer is a connection, too, for two minutes: nothing here sends one to what is to leave.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from acns.fqdn import untold
from acns.fqdn.cache import Stay

from ..pair import wire
from ..pair.wire import until
from .scene import HTTPS, MIN_TTL_S, MOST_PER_NAME, OPEN, OPEN_TOO, Scene

pytestmark = pytest.mark.root

WEEK_S = 7 * 86_400


@contextlib.contextmanager
def connected(scene: Scene, address: str, pod: str = "asker") -> Iterator[None]:
    """A connection of the pod's own kernel to a web server; at its end the server has closed it, too."""
    made = scene.lab.pod(pod).open_socket(socket.AF_INET, socket.SOCK_STREAM)
    with made:
        made.settimeout(wire.DEADLINE_S)
        made.connect((address, HTTPS))
        yield
        made.shutdown(socket.SHUT_WR)
        while made.recv(4096):  # it says that this was no TLS
            pass


def left(scene: Scene, address: str) -> bool:
    return not scene.learned(address)


@pytest.mark.parametrize(
    ("records", "ttl_s"),
    [
        (("{name} 0 A {address}",), 0),
        (("{name} 9999999 A {address}",), WEEK_S),
        (("x.far.test 600 A {address}", "{name} 90 CNAME x.far.test."), 90),
        (("{name} 60 A {address}", "{name} 5 HTTPS 1 . alpn=h2"), 60),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_kernel_is_told_the_time_of_the_answers_chain_when_the_answer_arrives(
    scene: Scene, transport: str, records: tuple[str, ...], ttl_s: int
) -> None:
    name, (address,) = scene.name(), scene.addresses(1)
    scene.says(name, *(one.format(name=name, address=address) for one in records))
    scene.ask(name, transport)
    assert scene.learned(address) == {address: scene.kept_s(ttl_s)}


def test_the_kernel_keeps_an_address_for_the_longest_of_its_names(scene: Scene) -> None:
    names, (address,) = [scene.name() for _ in range(3)], scene.addresses(1)
    for name, ttl_s in zip(names, (60, 600, 30), strict=True):
        scene.server.answers_with(name, f"{ttl_s} A {address}")
        scene.ask(name)
    assert scene.names(address) == {f"{name}." for name in names}
    assert scene.learned(address) == {address: scene.kept_s(600)}


@pytest.mark.parametrize("later", [("5 A {address}",), ()])
def test_neither_a_shorter_ttl_nor_no_address_later_takes_anything_back(
    scene: Scene, later: tuple[str, ...]
) -> None:
    name, (address, beside) = scene.name(), scene.addresses(2)
    scene.server.answers_with(name, f"600 A {address}", f"600 A {beside}")
    scene.ask(name)
    scene.server.answers_with(name, *(one.format(address=address) for one in later))
    scene.ask(name)
    assert scene.learned(address, beside) == dict.fromkeys((address, beside), scene.kept_s(600))


def test_an_address_stays_until_the_last_of_its_names_has_run_out_and_the_journal_names_each(
    scene: Scene,
) -> None:
    first, second = scene.name(), scene.name()
    (address,) = scene.addresses(1)
    for name, ttl_s in ((first, 1), (second, 4)):
        scene.server.answers_with(name, f"{ttl_s} A {address}")
        scene.ask(name)
    until(lambda: scene.gone(address), "the first name has run out")
    assert scene.names(address) == {f"{second}."}
    assert not left(scene, address)
    until(lambda: left(scene, address), "it has left")
    scene.assert_closed(address)
    until(lambda: len(scene.gone(address)) > 1, "the journal, which is written behind, says so")
    told = [(one["name"], one["why"]) for one in scene.gone(address)]
    assert told == [(f"{first}.", "expired"), (f"{second}.", "expired")]


def test_asked_again_before_its_end_an_address_goes_on(scene: Scene) -> None:
    name, (asked_again, once) = scene.name(), scene.addresses(2)
    scene.says(name, f"{name} 1 A {asked_again}", f"{name} 1 A {once}")
    scene.ask(name)
    scene.says(name, f"{name} 600 A {asked_again}")
    scene.ask(name)
    until(lambda: left(scene, once), "the other one has left")
    assert not left(scene, asked_again)


@contextlib.contextmanager
def forgotten(scene: Scene, pod: str) -> Iterator[None]:
    """The node's shim hears that the pod is gone; in the kernel all stays."""
    file = scene.lab.folder.manifests("node1") / "pods.yaml"
    text = file.read_text()
    others = [one for one in yaml.safe_load_all(text) if one["metadata"]["name"] != pod]
    _replace(file, yaml.safe_dump_all(others))
    try:
        yield
    finally:
        _replace(file, text)
        scene.lab.wait_settled()


def _replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def test_a_connection_of_a_pod_that_is_gone_keeps_nothing(scene: Scene) -> None:
    """It has no end that anybody would see: the kernel remembers it for days."""
    name, other, (of_other,) = scene.name(), scene.name(), scene.addresses(1)
    scene.says(name, f"{name} 1 A {OPEN}")
    scene.says(other, f"{other} 1 A {of_other}")
    scene.ask(name)
    with connected(scene, OPEN, "leaver"):
        scene.ask(other)
        until(lambda: left(scene, of_other), "another name's address has left")
        assert not left(scene, OPEN)
        with forgotten(scene, "leaver"):
            until(lambda: left(scene, OPEN), "nobody uses it any more")
            scene.assert_closed(OPEN)


def test_a_connection_keeps_its_address_and_the_others_of_its_name_until_it_ends(scene: Scene) -> None:
    """A client that lost one server turns to the next that it was told of."""
    name, other, (beside, of_other) = scene.name(), scene.name(), scene.addresses(2)
    scene.says(name, *(f"{name} 1 A {one}" for one in (OPEN, OPEN_TOO, beside)))
    scene.says(other, f"{other} 1 A {of_other}")
    scene.ask(name)
    with connected(scene, OPEN):
        scene.ask(other)  # later: that it is gone says that the first one's time was over, too
        until(lambda: left(scene, of_other), "another name's address has left")
        kept = scene.learned(OPEN, OPEN_TOO, beside)
        assert kept.keys() == {OPEN, OPEN_TOO, beside}
    until(lambda: not scene.learned(OPEN, OPEN_TOO, beside), "the connection is over, and all of them left")
    scene.assert_closed(beside)


def test_an_address_outlives_its_last_connection_by_the_idle_grace(scene: Scene) -> None:
    name = scene.name()
    scene.server.answers_with(name, f"1 A {OPEN}")
    scene.ask(name)
    with connected(scene, OPEN):
        until(lambda: scene.stay(OPEN) == Stay.IN_USE, "its TTL is over, and it is in use")
    until(lambda: scene.stay(OPEN) == Stay.GRACE, "the connection is over")
    assert not left(scene, OPEN)
    until(lambda: left(scene, OPEN), "it has left")


def test_a_ttl_below_the_lowest_is_raised_to_it(scene: Scene) -> None:
    name, addresses = scene.name(), scene.addresses(2)
    for address, ttl_s in zip(addresses, (1, MIN_TTL_S + 1), strict=True):
        scene.server.answers_with(name, f"{ttl_s} A {address}")
        assert scene.lab.pod("patient").run(["dig", "+short", name]).stdout.split() == [address]
    assert scene.learned(*addresses, node="node2") == dict(
        zip(addresses, map(scene.kept_s, (MIN_TTL_S, MIN_TTL_S + 1)), strict=True)
    )


def test_past_the_limit_of_a_name_the_earliest_to_expire_go_and_never_one_in_use(scene: Scene) -> None:
    name, addresses = scene.name(), scene.addresses(MOST_PER_NAME + 40)
    early, late = addresses[:60], addresses[60:]
    scene.says(name, *(f"{name} 300 A {one}" for one in (OPEN, *early)))
    scene.ask(name, "tcp")
    with connected(scene, OPEN):
        scene.says(name, *(f"{name} 600 A {one}" for one in late))
        scene.ask(name, "tcp")
        until(lambda: len(scene.learned(*early)) == len(early) - 41, "the surplus has left")
        assert len(scene.learned(OPEN, *late)) == 1 + len(late)
        gone = next(one for one in early if left(scene, one))
        assert [one["why"] for one in scene.gone(gone)] == ["limit per name"]
        scene.assert_closed(gone)


def test_an_address_with_a_ttl_of_zero_is_open_for_the_connection_that_follows_it(scene: Scene) -> None:
    """And stays while that lives."""
    name, other, (of_other,) = scene.name(), scene.name(), scene.addresses(1)
    scene.server.answers_with(name, f"0 A {OPEN_TOO}")
    scene.server.answers_with(other, f"0 A {of_other}")
    scene.ask(name)
    with connected(scene, OPEN_TOO):
        scene.ask(other)
        until(lambda: left(scene, of_other), "the other one has left")
        assert not left(scene, OPEN_TOO)
    until(lambda: left(scene, OPEN_TOO), "it has left")


@contextlib.contextmanager
def without_the_shim_and_then_without_a_word(scene: Scene) -> Iterator[None]:
    """The shim hangs in the block; when it wakes there is no resolver to tell it what it missed."""
    shim, resolver = scene.node.shim, scene.node.resolver
    resolver.start()
    resolver.wait_ready()
    shim.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        resolver.hold()
        shim.kill(signal.SIGCONT)


def test_what_the_resolver_renewed_while_the_shim_hung_goes_no_earlier_though_nobody_tells_of_it(
    scene: Scene,
) -> None:
    """The shim knows the address by an end that is over; the kernel has a later one."""
    name, other, (renewed, once) = scene.name(), scene.name(), scene.addresses(2)
    try:
        with without_the_shim_and_then_without_a_word(scene):
            scene.says(name, f"{name} 4 A {renewed}")
            scene.ask(name)
        until(lambda: scene.names(renewed), "adopted")
        with without_the_shim_and_then_without_a_word(scene):
            scene.says(name, f"{name} 600 A {renewed}")
            scene.ask(name)
            scene.says(other, f"{other} 4 A {once}")
            scene.ask(other)
        until(lambda: scene.names(once), "adopted")
        until(lambda: left(scene, once), "the other one has left")
        assert scene.learned(renewed) == {renewed: 600 + untold.kept_s(600)}
    finally:
        scene.node.resolver.start()
        scene.node.resolver.wait_ready()
