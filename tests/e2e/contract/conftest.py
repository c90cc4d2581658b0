"""Each agent alone with a scripted peer: a lab with shims alone for a module, a resolver for each test."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.order import Agents
from lab.runtime.lab import Lab
from lab.spec.topology import Topology

from ..resolver.resolver_world import World
from . import policies
from .peers import Relay, ScriptedResolver, unix_listener
from .resolver_bench import OTHER_POD, Bench

FQDNDATA = ("127.0.0.1", 10095)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs root."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="module")
def shim_lab() -> Iterator[Lab]:
    """One node with a shim and no resolver; it serves TCP too, by its setting."""
    running = Lab.up(
        Topology.model_validate(policies.TOPOLOGY),
        name=f"t{os.getpid()}-contract",
        agents=Agents(resolver=""),
    )
    try:
        yield running
    finally:
        running.down()


@pytest.fixture(params=["unix socket", "TCP"])
def peer(shim_lab: Lab, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ScriptedResolver]:
    """A client of that shim."""
    if request.param == "unix socket":
        made = ScriptedResolver(f"unix:{shim_lab.folder.socket(0, 'fqdndata')}")
        yield made
        made.close()
        return
    relay = Relay(unix_listener(tmp_path / "relay.sock"), lambda: connected(shim_lab))
    made = ScriptedResolver(f"unix:{tmp_path / 'relay.sock'}")
    yield made
    made.close()
    relay.close()


def connected(lab: Lab, node: str = "n1") -> socket.socket:
    """A connection to the shim's port in the node's namespace."""
    made = lab.node(node).open_socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.connect(FQDNDATA)
    except OSError:
        made.close()
        raise
    return made


@pytest.fixture
def policy(shim_lab: Lab) -> Iterator[policies.Desk]:
    """To change policies with; afterwards they are as they were."""
    desk = policies.Desk(shim_lab)
    yield desk
    desk.restore()


# --- the resolver -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A pod with two addresses, a node and DNS servers, with nothing of the shim's."""
    made = World()
    made.pod.run("ip", "address", "add", f"{OTHER_POD}/24", "dev", "eth0")
    made.node.run("nft", "add", "element", "inet", "x", "pods", f"{{ {OTHER_POD} }}")
    yield made
    made.end()


@pytest.fixture(scope="module", params=["unix socket", "TCP"])
def shared_bench(
    world: World, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    made = Bench(world, tmp_path_factory.mktemp("bench"), on_tcp=request.param == "TCP")
    yield made
    made.end()


@pytest.fixture
def bench(shared_bench: Bench) -> Iterator[Bench]:
    """A resolver that gets its policy from a scripted agent; not started yet."""
    yield shared_bench
    shared_bench.test_is_over()
