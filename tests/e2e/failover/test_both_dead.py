"""Nobody renews anything: what a user sees after the agents have been down for the grace, and before.

By default that is an hour. Here a second stands for a quarter of an hour: names live two seconds,
the grace is four; the kernel's own clock cannot be shifted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from acns.fqdn import untold
from lab.runtime.lab import Lab
from lab.spec.load import find_topology, load_topology

from ..pair.companions import Download
from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR
from . import outage
from .outage import DOWNLOAD_FROM, PORT, TTL_S, Place

pytestmark = pytest.mark.root

SHORT_TTL_S, COLLECTION_S, GRACE_S = 2, 1.0, 4.0
DEFAULT_MARGIN_S = 60.0 + 3600.0


@pytest.fixture(scope="module")
def hasty() -> Iterator[Place]:
    """The lab with another clock."""
    topology = load_topology(find_topology("quickstart"))
    shim = {"fqdn_gc_interval_s": COLLECTION_S, "agent_down_grace_s": GRACE_S}
    nodes = tuple(node.model_copy(update={"shim": shim}) for node in topology.nodes)
    names = dict(topology.internet.names)
    names[DOWNLOAD_FROM] = names[DOWNLOAD_FROM].model_copy(update={"ttl_s": SHORT_TTL_S})
    internet = topology.internet.model_copy(update={"names": names})
    changed = topology.model_copy(update={"nodes": nodes, "internet": internet})
    lab = Lab.up(changed, name=f"t{os.getpid()}-hasty")
    try:
        with outage.places(lab, SHORT_TTL_S) as made:
            yield made
    finally:
        lab.down()


def test_by_default_the_kernel_keeps_an_address_for_an_hour_past_its_ttl_and_no_longer(place: Place) -> None:
    address = place.learn()
    stays_s = TTL_S + untold.kept_s(TTL_S) + DEFAULT_MARGIN_S
    assert place.expiry(address) - time.monotonic() == pytest.approx(stays_s, abs=5)


def test_after_the_grace_new_connections_close_live_ones_go_on_and_all_returns_with_the_agents(
    hasty: Place,
) -> None:
    with Download(hasty.lab.pod("frontend"), DOWNLOAD_FROM):
        assert hasty.download_flows()
        name, address = hasty.take()
        assert hasty.sides.ask(name) == Answer(NOERROR, (address,))
        hasty.node.shim.hold()
        hasty.node.resolver.hold()
        assert hasty.open(known=address) == {address}
        assert happens(lambda: not hasty.is_in_the_kernel(address), 4 * GRACE_S)
        assert hasty.sides.let_out([address], PORT, known=address) == set()
        assert hasty.download_flows()
        hasty.node.shim.start()
        hasty.node.resolver.start()
        hasty.wait_well()
        assert hasty.sides.ask(name) == Answer(NOERROR, (address,))
        assert hasty.open(known=address) == {address}
        assert hasty.download_flows()


def test_while_the_shim_lives_an_address_in_use_outlasts_its_ttl_and_goes_when_the_use_ends(
    hasty: Place,
) -> None:
    with Download(hasty.lab.pod("frontend"), DOWNLOAD_FROM):
        assert hasty.download_flows()
        ends_at = time.monotonic() + 4 * (SHORT_TTL_S + GRACE_S) / 2
        assert happens(lambda: time.monotonic() > ends_at, 60)
        assert in_use(hasty)
    assert happens(lambda: not in_use(hasty), 60)


def in_use(place: Place) -> list[str]:
    """The addresses of the download's name that the shim still has."""
    return place.names_known(DOWNLOAD_FROM)
