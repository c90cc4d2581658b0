"""The learned set where somebody else has changed it, on a kernel of its own, without agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import cast

import pytest

from acns.datapath.constants import TAKEOVER_COMMENT
from acns.datapath.elements import Elements, NoSuchSet
from acns.datapath.highest import HighestWins
from acns.datapath.selectors import selector_id
from acns.dns.pattern import match_name
from acns.fqdn.cache import NameCache
from acns.policy.model import FQDN
from acns.shim.enforcer import Enforcer
from acns.shim.kernel import Kernel, Left
from acns.shim.learned import SAME_S, Learned
from acns.shim.set_watch import SetWatch
from lab.kernel import netns
from lab.kernel.netns import Namespace

from .test_shim_kernel import MARGIN_S, Policies, bring

pytestmark = pytest.mark.root

OURS, OTHER = match_name("a.example.com"), match_name("b.example.com")
ID, OTHER_ID = selector_id(OURS), selector_id(OTHER)
KNOWN, NEW = b"\xc6\x33\x64\x07", b"\xc6\x33\x64\x08"


@dataclass
class Reports:
    """In the place of an enforcer: what it was told has drifted."""

    has_enforced: bool = True
    lines: list[str] = field(default_factory=list)

    def report(self, lines: list[str]) -> None:
        self.lines += lines


class Bench:
    """A shim's memory of what OURS has opened, KNOWN, and somebody else in the same namespace."""

    def __init__(self, kernel: Kernel, others: Elements) -> None:
        self.kernel = kernel
        self.others = others
        self.resolver = HighestWins(others, TAKEOVER_COMMENT)
        self.learned = Learned(NameCache(), kernel, MARGIN_S)
        self.reports = Reports()
        self.watch = SetWatch(kernel, self.learned, cast(Enforcer, self.reports))

    async def begin(self) -> None:
        await bring(self.kernel, Policies().ruleset(FQDN(OURS)))
        self.learned.cache.set_selectors([OURS])
        self.learned.in_kernel = frozenset({OURS})
        self.learned.learn((b"a", b"example", b"com"), [KNOWN], 500.0)

    async def look(self) -> None:
        await self.kernel.inventory()
        self.kernel.touched.clear()
        await self.watch.look()

    def held(self) -> dict[str, set[bytes]]:
        return {id_: set(elements) for id_, elements in self.kernel.elements().items()}


@pytest.fixture
def place() -> Iterator[Namespace]:
    with closing(netns.make()) as made:
        yield made


@pytest.fixture
async def bench(place: Namespace) -> AsyncIterator[Bench]:
    with (
        closing(netns.in_namespace(place, Kernel)) as kernel,
        closing(netns.in_namespace(place, Elements)) as others,
    ):
        made = Bench(kernel, others)
        await made.begin()
        yield made


async def test_what_the_resolver_has_put_there_is_adopted_and_no_drift(bench: Bench) -> None:
    bench.resolver.put({ID: {NEW: 900.0}}, time.monotonic())
    await bench.look()
    assert bench.held() == {ID: {KNOWN, NEW}}
    assert bench.learned.cache.elements(OURS).keys() == {KNOWN, NEW}
    assert bench.reports.lines == []


async def test_what_somebody_took_out_is_put_back(bench: Bench) -> None:
    bench.others.delete({ID: [KNOWN]})
    await bench.look()
    assert bench.held() == {ID: {KNOWN}}
    assert bench.reports.lines == ["put back: 198.51.100.7 of name:a.example.com."]


@pytest.mark.parametrize("comment", ["", TAKEOVER_COMMENT], ids=["a stranger's", "the resolver's"])
async def test_what_is_of_no_selector_goes_and_is_drift_where_a_stranger_put_it_there(
    bench: Bench, comment: str
) -> None:
    bench.others.put({OTHER_ID: {NEW: 900.0}}, comment=comment)
    await bench.look()
    assert bench.held() == {ID: {KNOWN}}
    assert bench.reports.lines == ([] if comment else [f"taken out: 198.51.100.8 of {OTHER_ID}"])


async def test_what_the_shim_itself_could_not_take_out_goes_and_is_no_drift(bench: Bench) -> None:
    bench.others.put({OTHER_ID: {NEW: 900.0}})
    bench.learned.leave({OTHER: frozenset({NEW})})
    await bench.look()
    assert bench.held() == {ID: {KNOWN}}
    assert bench.reports.lines == []


async def test_nothing_is_foreign_where_not_all_could_be_adopted(bench: Bench) -> None:
    bench.learned.knows_all = False
    bench.others.put({ID: {NEW: 900.0}, OTHER_ID: {NEW: 900.0}})
    await bench.look()
    assert bench.held() == {ID: {KNOWN, NEW}}
    assert bench.reports.lines == []


async def test_before_the_first_policy_all_is_an_earlier_runs(bench: Bench) -> None:
    bench.reports.has_enforced = False
    bench.others.put({OTHER_ID: {NEW: 900.0}})
    await bench.look()
    assert bench.held() == {ID: {KNOWN}, OTHER_ID: {NEW}}


async def test_of_a_selector_that_waits_for_its_endpoints_interface_the_resolvers_is_remembered(
    bench: Bench,
) -> None:
    bench.learned.cache.set_selectors([OURS, OTHER])
    bench.resolver.put({OTHER_ID: {NEW: 900.0}}, time.monotonic())
    await bench.look()
    assert bench.held() == {ID: {KNOWN}}
    assert bench.learned.cache.elements(OTHER).keys() == {NEW}


async def test_a_selector_that_came_during_the_look_is_left_for_the_next(bench: Bench) -> None:
    bench.others.put({OTHER_ID: {NEW: 900.0}})
    await bench.kernel.inventory()
    bench.kernel.touched.clear()
    async with bench.kernel.lock:
        looking = asyncio.create_task(bench.watch.look())
        while not bench.kernel.lock._waiters:  # it has read, and waits to write
            await asyncio.sleep(0)
        bench.learned.cache.set_selectors([OURS, OTHER])
        bench.learned.in_kernel = frozenset({OURS, OTHER})
    await looking
    assert bench.held() == {ID: {KNOWN}, OTHER_ID: {NEW}}
    assert bench.kernel.touched.is_set()


async def test_a_selector_that_went_during_the_look_is_not_filled_again(bench: Bench) -> None:
    bench.others.delete({ID: [KNOWN]})
    await bench.kernel.inventory()
    async with bench.kernel.lock:
        looking = asyncio.create_task(bench.watch.look())
        while not bench.kernel.lock._waiters:
            await asyncio.sleep(0)
        bench.learned.in_kernel = frozenset()
    await looking
    assert bench.held() == {}
    assert bench.reports.lines == []


async def test_nothing_is_looked_at_again_because_reading_took_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bench.kernel.read_elements

    async def slowly() -> Left:
        found = await read()
        await asyncio.sleep(3 * SAME_S)
        return found

    monkeypatch.setattr(bench.kernel, "read_elements", slowly)
    monkeypatch.setattr(bench.kernel, "find", None)
    await bench.look()


async def test_without_a_set_nothing_is_said_to_be_written(bench: Bench, place: Namespace) -> None:
    for careful in (False, True):
        bench.kernel.nft.remove()
        if careful:
            await bench.kernel.inventory()
        with pytest.raises(NoSuchSet):
            bench.kernel.put({ID: {NEW: 900.0}})
