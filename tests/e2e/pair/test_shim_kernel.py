"""What the shim remembers of its kernel: right as long as nobody else acts, read again when somebody does.

In a namespace of its own, without agents.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from acns.api.ledger_file import Terms
from acns.datapath.compiler import Compiler
from acns.datapath.constants import TAKEOVER_COMMENT
from acns.datapath.elements import Elements
from acns.datapath.grants import Grants
from acns.datapath.highest import HighestWins
from acns.datapath.model import Inventory, Ruleset
from acns.datapath.ruleset import transaction
from acns.datapath.selectors import selector_id
from acns.datapath.transaction import COMMIT
from acns.dns.pattern import match_name
from acns.errors import Bug, EnvironmentFault
from acns.fqdn.cache import NameCache
from acns.policy.model import (
    FQDN,
    CIDRs,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    Match,
    NodePolicy,
    Origin,
    Peer,
)
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.retiming import Margins
from acns.shim.set_watch import SetWatch
from acns.shim.wiring import Wiring
from lab.kernel import netns
from lab.kernel.netns import Namespace

pytestmark = pytest.mark.root

POD = IPv4Address("10.244.0.2")
SELECTOR = match_name("a.example.com")
ADDRESS = IPv4Address("198.51.100.7").packed
MARGIN_S = 60.0
ORIGIN = Origin("default/p", "egress", 0, "p.yaml", 1, 1)


@pytest.fixture
def place() -> Iterator[Namespace]:
    with closing(netns.make()) as made:
        run(made, "ip", "link", "set", "lo", "up")
        yield made


@pytest.fixture
def kernel(place: Namespace) -> Iterator[Kernel]:
    with closing(netns.in_namespace(place, Kernel)) as made:
        yield made


def run(place: Namespace, *argv: str) -> str:
    """A command there; what it prints."""
    done = netns.in_namespace(place, lambda: subprocess.run(argv, check=True, capture_output=True, text=True))
    return done.stdout


class Policies:
    """Rulesets for one pod, from one compiler."""

    def __init__(self) -> None:
        self._compiler = Compiler(Grants.fresh())

    def ruleset(self, *peers: Peer) -> Ruleset:
        allows = tuple(Match(peer, None, ORIGIN) for peer in peers)
        endpoint = Endpoint("default", "frontend", POD, frozenset())
        policy = EndpointPolicy(endpoint, DirectionPolicy(True, allows))
        node = NodePolicy("node1", (policy,), frozenset({POD}), frozenset(), frozenset())
        return self._compiler.compile(node, {POD: "veth0"}, {})


async def bring(kernel: Kernel, ruleset: Ruleset) -> tuple[str, Inventory]:
    """Commit what is new; the transaction, and what the kernel is left with."""
    text = transaction(await kernel.inventory(), ruleset)
    return text, await kernel.commit(text, ruleset)


async def test_its_own_commits_are_remembered_and_not_read_back(kernel: Kernel) -> None:
    policies = Policies()
    _, left = await bring(kernel, policies.ruleset(FQDN(SELECTOR)))
    kernel.put({selector_id(SELECTOR): {ADDRESS: 60.0}})
    kernel.put({selector_id(SELECTOR): {ADDRESS: 90.0}})
    kernel.delete({selector_id(SELECTOR): [ADDRESS]})
    assert await kernel.inventory() is left
    inside = CIDRs("203.0.113.0/24", (IPv4Network("203.0.113.0/24"),))
    text, left = await bring(kernel, policies.ruleset(FQDN(SELECTOR), inside))
    assert COMMIT in text, "this one takes two commits"
    assert kernel.is_as_left()
    assert await kernel.inventory() is left


async def test_what_is_remembered_is_what_would_be_read(kernel: Kernel) -> None:
    _, left = await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    assert kernel.nft.inventory() == left


async def test_after_anybody_elses_commit_the_table_is_read_again_once(
    kernel: Kernel, place: Namespace
) -> None:
    _, left = await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    run(place, "nft", "flush", "set", "inet", "acns", "cluster_addrs")
    assert not kernel.is_as_left()
    found = await kernel.inventory()
    assert left.set_elements["cluster_addrs"] == {str(POD)}
    assert found.set_elements["cluster_addrs"] == frozenset()
    assert await kernel.inventory() is found


async def test_a_commit_among_our_own_is_not_missed(kernel: Kernel, place: Namespace) -> None:
    _, left = await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    kernel.put({selector_id(SELECTOR): {ADDRESS: 60.0}})
    run(place, "nft", "add", "table", "inet", "others")
    kernel.put({selector_id(SELECTOR): {ADDRESS: 90.0}})
    assert not kernel.is_as_left()
    assert await kernel.inventory() == left


async def test_after_a_failed_transaction_the_table_is_read_again(kernel: Kernel) -> None:
    ruleset = Policies().ruleset(FQDN(SELECTOR))
    _, left = await bring(kernel, ruleset)
    with pytest.raises(Bug):
        await kernel.commit("add rule inet acns nowhere accept", ruleset)
    assert not kernel.is_as_left()
    found = await kernel.inventory()
    assert found is not left
    assert found == left


def test_links_are_the_same_object_until_one_changes(place: Namespace) -> None:
    run(place, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "peer0")
    run(place, "ip", "link", "set", "veth0", "up")
    with closing(netns.in_namespace(place, Wiring)) as wiring:
        before = wiring.links()
        wiring.has_changed()  # the resolver's rule and route have come
        assert wiring.links() is before
        run(place, "ip", "route", "add", str(POD), "dev", "veth0", "scope", "link")
        assert wiring.links().interfaces == {POD: "veth0"}
        assert wiring.links() is wiring.links()


def test_links_that_lead_to_networks_are_uplinks(place: Namespace) -> None:
    run(place, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
    run(place, "ip", "address", "add", "172.18.0.2/24", "dev", "eth0")
    run(place, "ip", "link", "set", "eth0", "up")
    with closing(netns.in_namespace(place, Wiring)) as wiring:
        assert wiring.links().uplinks == {"eth0"}


def test_the_resolvers_rule_is_mended_when_somebody_takes_it_away(place: Namespace) -> None:
    with closing(netns.in_namespace(place, Wiring)) as wiring:
        wiring.links()
        before = run(place, "ip", "rule")
        run(place, "ip", "rule", "del", "pref", "9")
        assert wiring.has_changed()
        wiring.links()
        assert run(place, "ip", "rule") == before


class Clock:
    """Time for the cache, ahead of the kernel's by what the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("looks", [False, True], ids=["at once", "after the shim has read the table"])
async def test_a_collection_spares_what_the_resolver_has_renewed(
    kernel: Kernel, place: Namespace, looks: bool
) -> None:
    """By the shim's reckoning it is over; the resolver, in its stead, has told a pod otherwise."""
    await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    clock, id_ = Clock(), selector_id(SELECTOR)
    learned = Learned(NameCache(), kernel, MARGIN_S, clock)
    learned.cache.set_selectors([SELECTOR])
    learned.in_kernel = frozenset({SELECTOR})
    learned.learn((b"a", b"example", b"com"), [ADDRESS], 5.0)
    with closing(netns.in_namespace(place, Elements)) as resolvers:
        HighestWins(resolvers, TAKEOVER_COMMENT).put({id_: {ADDRESS: MARGIN_S + 20.0}}, time.monotonic())
        if looks:
            await kernel.inventory()
        clock.now += 10.0
        await learned.collect()
        assert ADDRESS in kernel.elements()[id_]
        clock.now += 30.0
        resolvers.put({id_: {ADDRESS: MARGIN_S - 10.0}})  # the kernel's time passes too
        await learned.collect()
        assert ADDRESS not in kernel.elements().get(id_, {})


async def test_what_is_learned_lowers_nothing_that_the_resolver_has_let_stay_for_longer(
    kernel: Kernel, place: Namespace
) -> None:
    """The table was read since, so the count of commits is right again; the sets have not been looked at."""
    await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    await kernel.inventory()
    kernel.looked_at = kernel.others
    id_ = selector_id(SELECTOR)
    with closing(netns.in_namespace(place, Elements)) as resolvers:
        HighestWins(resolvers, TAKEOVER_COMMENT).put({id_: {ADDRESS: 600.0}}, time.monotonic())
    await kernel.inventory()
    for _ in range(2):
        kernel.put({id_: {ADDRESS: 20.0}})
        assert kernel.elements()[id_][ADDRESS] > 500
    kernel.put({id_: {ADDRESS: 900.0}})
    assert kernel.elements()[id_][ADDRESS] > 800
    assert kernel.is_as_left()  # its own careful writes are no others'


async def test_what_the_resolver_renewed_of_ours_is_spared_after_the_sets_were_looked_at_too(
    kernel: Kernel, place: Namespace
) -> None:
    """The shim has made that element itself, so nothing but its end shows that somebody else renewed it."""
    await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    clock, id_ = Clock(), selector_id(SELECTOR)
    learned = Learned(NameCache(settle_s=0), kernel, MARGIN_S, clock)
    learned.cache.set_selectors([SELECTOR])
    learned.in_kernel = frozenset({SELECTOR})
    learned.learn((b"a", b"example", b"com"), [ADDRESS], 5.0)
    with closing(netns.in_namespace(place, Elements)) as resolvers:
        HighestWins(resolvers, TAKEOVER_COMMENT).put({id_: {ADDRESS: MARGIN_S + 60.0}}, time.monotonic())
    await kernel.inventory()
    watch = SetWatch(kernel, learned, enforcer=None)  # type: ignore[arg-type]
    await watch.look()
    assert kernel.is_ours_alone()
    clock.now += 30.0
    await learned.collect()
    assert ADDRESS in kernel.elements()[id_]
    clock.now += 60.0
    await learned.collect()
    assert ADDRESS not in kernel.elements().get(id_, {})


async def test_somebody_elses_commit_is_not_taken_for_one_of_ours_where_there_was_nothing_to_write(
    kernel: Kernel, place: Namespace
) -> None:
    await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    id_ = selector_id(SELECTOR)
    with closing(netns.in_namespace(place, Elements)) as resolvers:
        await kernel.inventory()
        kernel.looked_at = kernel.others
        resolvers.put({id_: {ADDRESS: 600.0}})  # one commit, as one of ours would be
        kernel.put({id_: {ADDRESS: 20.0}})
        assert not kernel.is_as_left()
        before = kernel.others
        await kernel.inventory()
        assert kernel.others == before + 1
        assert not kernel.is_ours_alone()


@pytest.mark.parametrize("old_margin_s", [MARGIN_S / 2, MARGIN_S * 20], ids=["shorter", "longer"])
async def test_what_a_run_with_another_margin_has_left_ends_with_its_ttl_also_when_it_is_looked_at(
    kernel: Kernel, place: Namespace, tmp_path: Path, old_margin_s: float
) -> None:
    await bring(kernel, Policies().ruleset(FQDN(SELECTOR)))
    margins = Margins(Ledger(tmp_path / "ledger.log", Terms(0, old_margin_s)))
    clock, id_ = Clock(), selector_id(SELECTOR)
    learned = Learned(NameCache(settle_s=0), kernel, MARGIN_S, clock)
    learned.cache.set_selectors([SELECTOR])
    learned.in_kernel = frozenset({SELECTOR})
    with closing(netns.in_namespace(place, Elements)) as others:
        others.put({id_: {ADDRESS: old_margin_s + 30.0}})
        await kernel.inventory()
        assert learned.adopt([SELECTOR], margins) == 1
        assert kernel.elements()[id_][ADDRESS] == pytest.approx(MARGIN_S + 30.0, abs=5)
        others.put({id_: {b"\xc6\x33\x64\x63": 600.0}})  # somebody's, so that the sets are looked at
    await kernel.inventory()
    await SetWatch(kernel, learned, enforcer=_Silent()).look()  # type: ignore[arg-type]
    assert learned.cache.elements(SELECTOR)[ADDRESS] == pytest.approx(clock.now + 30.0, abs=5)
    clock.now += 60.0
    await learned.collect()
    assert ADDRESS not in kernel.elements().get(id_, {})


async def test_a_plan_made_for_an_older_table_is_not_committed(kernel: Kernel, place: Namespace) -> None:
    policies = Policies()
    await bring(kernel, policies.ruleset(FQDN(SELECTOR)))
    inside = CIDRs("203.0.113.0/24", (IPv4Network("203.0.113.0/24"),))
    stale_ruleset = policies.ruleset(FQDN(SELECTOR), inside)
    stale = transaction(await kernel.inventory(), stale_ruleset)
    with closing(netns.in_namespace(place, Kernel)) as other:
        other_inside = CIDRs("198.51.100.0/24", (IPv4Network("198.51.100.0/24"),))
        _, newest = await bring(other, Policies().ruleset(FQDN(SELECTOR), other_inside))
        with pytest.raises(EnvironmentFault):
            await kernel.commit(stale, stale_ruleset)
        assert other.nft.inventory() == newest


class _Silent:
    """An enforcer that is told of drift."""

    def report(self, changes: object) -> None: ...
