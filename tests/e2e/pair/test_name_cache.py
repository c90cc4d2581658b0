"""`lab.cache`: what names have opened, and why each address is still there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from acns.fqdn.cache import Stay
from lab.policy_tools import name_cache
from lab.policy_tools.name_cache import Entry
from lab.runtime.lab import Lab
from lab.spec.load import find_topology, load_topology

from .wire import until

pytestmark = pytest.mark.root

SHORT = "rotating.example.com"  # its TTL is five seconds
CONNECTED = """
import socket, sys
one = socket.create_connection((sys.argv[1], 443))
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """quickstart, collecting often."""
    topology = load_topology(find_topology("quickstart"))
    nodes = tuple(node.model_copy(update={"shim": {"fqdn_gc_interval_s": 0.2}}) for node in topology.nodes)
    running = Lab.up(topology.model_copy(update={"nodes": nodes}), name=f"t{os.getpid()}-cache")
    try:
        yield running
    finally:
        running.down()


def resolve(lab: Lab, pod: str, name: str) -> str:
    """One of the name's addresses, as the pod learns it."""
    done = lab.pod(pod).run(["dig", "+short", name])
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def entries(lab: Lab, pod: str, name: str) -> list[Entry]:
    (node,) = name_cache.look(lab, pod)
    assert node.agrees
    return [one for one in node.entries if one.name == f"{name}."]


def test_an_address_says_whose_query_it_is_from_and_what_it_is_open_for(lab: Lab) -> None:
    address = resolve(lab, "frontend", "api.example.com")
    (found,) = (one for one in entries(lab, "frontend", "api.example.com") if str(one.address) == address)
    assert [one.text for one in found.opens] == ["api.example.com."]
    assert (found.asked_by, found.stay) == ("default/frontend", Stay.FRESH)
    assert 0 < found.ttl_left_s <= found.stays_s


def test_a_pod_sees_what_its_own_policy_opens_and_all_is_seen_without_one(lab: Lab) -> None:
    resolve(lab, "frontend", "api.example.com")
    resolve(lab, "batch", "data.storage.example.net")
    names = {one.name for one in name_cache.look(lab, "batch")[0].entries}
    assert names == {"data.storage.example.net."}
    assert names < {one.name for one in name_cache.look(lab, None)[0].entries}


def test_a_connection_keeps_its_address_past_the_ttl_and_is_named(lab: Lab) -> None:
    address = resolve(lab, "frontend", SHORT)
    argv = [sys.executable, "-c", CONNECTED, address]
    with lab.pod("frontend").popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"

        def held() -> list[Entry]:
            found = entries(lab, "frontend", SHORT)
            return [one for one in found if (str(one.address), one.stay) == (address, Stay.IN_USE)]

        (one,) = until(held, "its TTL is over and it is in use")
        (connection,) = one.connections
        assert connection.startswith("TCP ")
        assert connection.endswith(f" → {address}:443")
        assert client.stdin is not None
        client.stdin.close()
    until(lambda: not entries(lab, "frontend", SHORT), "the connection is gone, and the address with it")


def test_without_the_shim_it_is_what_the_kernel_holds(lab: Lab) -> None:
    address = resolve(lab, "batch", "data.storage.example.net")
    shim = lab.nodes[0].shim
    shim.hold()
    try:
        (node,) = name_cache.look(lab, "batch")
        assert not node.answered
        assert address in {str(one.address) for one in node.entries}
    finally:
        shim.start()
        shim.wait_ready()
