"""What a cluster does to names: the search list with ndots:5, and headless Services, whose names have the
addresses of pods. Asked for by the C library of the machine."""

from __future__ import annotations

import sys

import pytest

from ..pair.wire import NXDOMAIN
from .scene import CLUSTER, Scene

pytestmark = pytest.mark.root

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 443), timeout=1)"
HEADLESS = f"db.{CLUSTER}"


def getent(scene: Scene, name: str) -> list[str]:
    """The addresses that a program gets for a name."""
    lines = scene.asker.pod.run(["getent", "ahostsv4", name]).stdout.splitlines()
    return sorted({line.split()[0] for line in lines})


def connects(scene: Scene, address: str) -> bool:
    return scene.asker.pod.run([sys.executable, "-c", CONNECT, address]).returncode == 0


def test_a_walk_that_finds_its_name_in_the_search_list_ends_there(scene: Scene) -> None:
    pod = str(scene.lab.pod("open").address)
    scene.server.answers_with(HEADLESS, f"5 A {pod}")
    assert getent(scene, "db") == [pod]
    assert len(scene.server.asked) == 1


def test_a_headless_service_teaches_nothing_and_its_pods_are_judged_as_pods(scene: Scene) -> None:
    """Though a selector of the policy matches the name: its addresses are pods', open or not by the rules for
    pods."""
    pods = {tier: str(scene.lab.pod(tier).address) for tier in ("open", "shut")}
    scene.server.answers_with(HEADLESS, *(f"5 A {one}" for one in pods.values()))
    assert getent(scene, HEADLESS) == sorted(pods.values())
    assert connects(scene, pods["open"])
    assert not connects(scene, pods["shut"])
    assert scene.learned(*pods.values()) == {}
    assert f"{HEADLESS}." not in scene.known_names()


def test_an_external_name_service_teaches_the_address_that_its_alias_leads_to(scene: Scene) -> None:
    """What the alias comes to is no pod; it is learned under the Service's name."""
    (address,) = scene.addresses(1)
    name = f"external.{CLUSTER}"
    scene.says(name, f"{name} 5 CNAME web.far.test.", f"web.far.test 60 A {address}")
    assert getent(scene, name) == [address]
    assert scene.learned(address) == {address: scene.kept_s(5)}
    scene.assert_open(address)


def test_a_service_that_does_not_exist_ends_the_walk_in_nothing(scene: Scene) -> None:
    scene.says(f"gone.{CLUSTER}", rcode=NXDOMAIN)
    assert getent(scene, f"gone.{CLUSTER}") == []
