"""Bringing the kernel to a plan: in which order, what a failure leaves, what is adopted, what has drifted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from acns import statelog
from acns.api import ledger_file
from acns.api.ledger_file import Terms
from acns.datapath.compiler import Compiler
from acns.datapath.model import Inventory, Ruleset
from acns.datapath.routes import Links
from acns.datapath.selectors import LEARNED, selector_id
from acns.dns import name as names
from acns.dns.pattern import match_name
from acns.errors import EnvironmentFault
from acns.fqdn.cache import NameCache
from acns.policy import manifests
from acns.policy.profiles import Profile
from acns.policy.resolve import Resolver
from acns.shim import ledger as ledgers
from acns.shim.enforcer import Enforcer
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.planner import Plan, Planner
from acns.shim.snapshot import Snapshots
from acns.shim.stopwatch import Stopwatch
from acns.telemetry.journal import Journal

TERMS = Terms(min_ttl_s=0, margin_s=60)
POD = IPv4Address("10.244.0.2")
PLACED = Links({POD: "veth0"})
A, B = match_name("a.example.com"), match_name("b.example.com")
ADDRESS = IPv4Address("198.51.100.7")
CLUSTER = f"""
apiVersion: v1
kind: Pod
metadata: {{name: frontend, namespace: default, labels: {{app: frontend}}}}
spec: {{nodeName: node1, containers: [{{name: app}}]}}
status: {{phase: Running, podIP: {POD}, podIPs: [{{ip: {POD}}}]}}
"""
POLICY = """---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: p, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: frontend}}}}
  egress:
  - toFQDNs: [{names}]
    toPorts: [{{ports: [{{port: "443", protocol: TCP}}]}}]
"""


class FakeKernel:
    """Holds what it is told; `before_commit` may look around, or refuse."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.held = Inventory()
        self.left: Mapping[str, dict[bytes, float]] = {}
        self.committed: list[Ruleset] = []
        self.written: list[Mapping[str, Mapping[bytes, float]]] = []
        self.deleted: list[dict[str, set[bytes]]] = []
        self.touched = asyncio.Event()
        self.before_delete: Callable[[], object] = lambda: None
        self.before_commit: Callable[[], object] = lambda: None
        self.fence: Callable[[], object] = lambda: None

    async def inventory(self) -> Inventory:
        return self.held

    async def commit(self, transaction: str, ruleset: Ruleset) -> Inventory:
        self.before_commit()
        self.committed.append(ruleset)
        self.held = Inventory.of(ruleset)
        return self.held

    def put(self, wanted: Mapping[str, Mapping[bytes, float]]) -> None:
        self.written.append(wanted)

    def delete(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        self.before_delete()
        self.deleted.append({id_: set(addresses) for id_, addresses in unwanted.items()})
        self.left = {id_: left for id_, left in self.left.items() if id_ not in unwanted}

    async def delete_many(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        self.delete(unwanted)

    def retime(self, ids: Container[str], wanted: Callable[[str, bytes, float], float]) -> None:
        self.left = {
            id_: {one: wanted(id_, one, left_s) if id_ in ids else left_s for one, left_s in left.items()}
            for id_, left in self.left.items()
        }

    def elements(self) -> Mapping[str, dict[bytes, float]]:
        return self.left


class Bench:
    """An enforcer between a real planner and a kernel that is none."""

    def __init__(self, folder: Path, margin_s: float = 60.0) -> None:
        self.kernel = FakeKernel()
        self.path = folder / "ledger.log"
        self.ledger = Ledger(self.path, Terms(0, margin_s))
        kernel = cast(Kernel, self.kernel)
        self.learned = Learned(NameCache(), kernel, margin_s=margin_s, clock=lambda: 1000.0)
        self.snapshots = Snapshots(self.ledger)
        self.enforcer = Enforcer(
            kernel, self.learned, self.ledger, self.snapshots, Journal("", "shim"), now=lambda: 5000.0
        )
        self.planner = Planner(Resolver("node1"), Compiler(self.ledger.grants))

    def plan(self, *selectors: str, links: Links = PLACED) -> Plan:
        named = ", ".join(f"{{matchName: {one}}}" for one in selectors)
        text = CLUSTER + (POLICY.format(names=named) if selectors else "")
        parsed = manifests.parse(text, "cluster.yaml", Profile.ACNS)
        assert parsed.ok, parsed.problems
        return self.planner.plan(parsed.objects, links, Stopwatch())

    async def enforce(self, *selectors: str) -> bool:
        return await self.enforcer.enforce(self.plan(*selectors), Stopwatch())

    def saved(self) -> dict[str, Any]:
        values = statelog.read(self.path, ledgers.FORMAT, ledgers.VERSION)
        return {id_: one for value in values for id_, one in value["ids"].items()}

    def start_of(self, selector: str) -> Mapping[str, float]:
        """What was known of a selector, and came with the last commit."""
        return self.kernel.committed[-1].learned.get(selector_id(match_name(selector)), {})


def fails(_: object) -> None:
    raise EnvironmentFault("ledger.log cannot be written: No space left on device")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_what_an_id_stands_for_is_on_disk_before_the_kernel_has_it(bench: Bench) -> None:
    seen: list[set[str]] = []
    bench.kernel.before_commit = lambda: seen.append(set(bench.saved()))
    assert await bench.enforce("a.example.com")
    assert seen == [set(bench.kernel.committed[0].descriptions)]


async def test_numbers_that_the_snapshot_needs_are_on_disk_before_the_commit(bench: Bench) -> None:
    known: list[dict[str, int]] = []
    bench.kernel.before_commit = lambda: known.append(Ledger(bench.path, TERMS).endpoints.known())
    await bench.enforce("a.example.com")
    assert known == [{"default/frontend": 1}]


async def test_the_same_plan_again_commits_nothing(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    assert not await bench.enforce("a.example.com")
    assert len(bench.kernel.committed) == 1


async def test_a_new_selector_starts_with_what_is_known_already(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    bench.learned.learn(names.from_text("b.example.com."), [ADDRESS.packed], ttl_s=30)
    await bench.enforce("a.example.com", "b.example.com")
    assert bench.start_of("b.example.com") == {str(ADDRESS): 90.0}
    assert bench.start_of("a.example.com") == {}


async def test_after_a_failure_the_next_attempt_brings_everything(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    bench.learned.learn(names.from_text("b.example.com."), [ADDRESS.packed], ttl_s=30)

    def refuse() -> None:
        raise EnvironmentFault("the kernel refuses")

    bench.kernel.before_commit = refuse
    with pytest.raises(EnvironmentFault):
        await bench.enforce("b.example.com")
    assert bench.learned.in_kernel == bench.learned.cache.selectors == {A}
    bench.kernel.before_commit = lambda: None
    assert await bench.enforce("b.example.com")
    assert bench.start_of("b.example.com") == {str(ADDRESS): 90.0}
    assert bench.learned.in_kernel == bench.learned.cache.selectors == {B}
    assert bench.enforcer.drifts == 0


async def test_what_an_earlier_run_has_learned_is_adopted(bench: Bench, tmp_path: Path) -> None:
    await bench.enforce("a.example.com")
    (tmp_path / "later").mkdir()
    later = Bench(tmp_path / "later")
    later.kernel.held = bench.kernel.held
    later.kernel.left = {selector_id(A): {ADDRESS.packed: 75.0}}
    assert not await later.enforce("a.example.com")
    assert later.learned.cache.elements(A) == {ADDRESS.packed: 1015.0}
    assert later.enforcer.drifts == 0


@pytest.mark.parametrize("margin_s", [10.0, 3_600.0], ids=["shorter", "longer"])
async def test_what_is_adopted_ends_by_the_margin_that_it_was_put_there_with(
    margin_s: float, bench: Bench, tmp_path: Path
) -> None:
    """The grace was set to something else between the two runs."""
    await bench.enforce("a.example.com")
    later = Bench(tmp_path, margin_s)
    later.kernel.held = bench.kernel.held
    later.kernel.left = {selector_id(A): {ADDRESS.packed: 60.0 + 20.0}}
    await later.enforce("a.example.com")
    assert later.learned.cache.elements(A)[ADDRESS.packed] == pytest.approx(1020.0)
    (left,) = later.kernel.left.values()
    assert left == {ADDRESS.packed: margin_s + 20.0}
    assert not later.learned.renewed(A, left, 1000.0), "nobody has renewed it in the shim's stead"
    again = Bench(tmp_path)
    assert again.ledger.terms_before == Terms(0, margin_s)


@pytest.mark.parametrize("margin_s", [10.0, 3_600.0], ids=["shorter", "longer"])
async def test_what_is_adopted_is_given_another_margin_once_however_often_the_first_round_fails(
    margin_s: float, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.enforce("a.example.com")
    later = Bench(tmp_path, margin_s)
    later.kernel.held = bench.kernel.held
    later.kernel.left = {selector_id(A): {ADDRESS.packed: 60.0 + 20.0}}
    with monkeypatch.context() as full:
        full.setattr(later.ledger, "save", fails)
        for _ in range(3):
            with pytest.raises(EnvironmentFault):
                await later.enforce("a.example.com")
    await later.enforce("a.example.com")
    assert later.kernel.left == {selector_id(A): {ADDRESS.packed: margin_s + 20.0}}
    assert later.learned.cache.elements(A)[ADDRESS.packed] == pytest.approx(1020.0)


@pytest.mark.parametrize("last_s", [10.0, 60.0, 600.0], ids=["as the killed one", "as the first", "another"])
async def test_what_one_that_was_killed_had_given_its_margin_is_known_by_it(
    last_s: float, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its terms were in the ledger; the resolver has added another in its stead, by the
    first one's."""
    await bench.enforce("a.example.com")
    killed, last = Bench(tmp_path, 10.0), IPv4Address("198.51.100.8")
    killed.kernel.held = bench.kernel.held
    killed.kernel.left = {selector_id(A): {ADDRESS.packed: 60.0 + 20.0}}
    monkeypatch.setattr(killed.ledger, "save", fails)
    with pytest.raises(EnvironmentFault):
        await killed.enforce("a.example.com")
    assert ledger_file.read(bench.path).terms == Terms(0, 60.0)
    next_one = Bench(tmp_path, last_s)
    next_one.kernel.held = bench.kernel.held
    elements = {**killed.kernel.left[selector_id(A)], last.packed: 60.0 + 30.0}
    next_one.kernel.left = {selector_id(A): elements}
    await next_one.enforce("a.example.com")
    assert next_one.kernel.left == {
        selector_id(A): {ADDRESS.packed: last_s + 20.0, last.packed: last_s + 30.0}
    }
    assert not next_one.learned.renewed(A, next_one.kernel.left[selector_id(A)], 1000.0)
    assert Bench(tmp_path, last_s).ledger.retimings == ()


async def test_no_time_is_changed_that_could_not_be_written_down_before(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.enforce("a.example.com")
    later = Bench(tmp_path, 10.0)
    later.kernel.held = bench.kernel.held
    later.kernel.left = {selector_id(A): {ADDRESS.packed: 60.0 + 20.0}}
    monkeypatch.setattr(later.ledger, "note", fails)
    with pytest.raises(EnvironmentFault):
        await later.enforce("a.example.com")
    assert later.kernel.left == {selector_id(A): {ADDRESS.packed: 60.0 + 20.0}}


async def test_where_somebody_deleted_the_learned_set_it_is_made_again_with_what_it_had(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    bench.learned.learn(names.from_text("a.example.com."), [ADDRESS.packed], ttl_s=30)
    held = bench.kernel.held
    bench.kernel.held = replace(held, sets=set(held.sets) - {LEARNED})
    assert await bench.enforce("a.example.com")
    assert bench.start_of("a.example.com") == {str(ADDRESS): 100.0}
    assert bench.enforcer.drifts == 1


async def test_what_a_selector_has_opened_goes_when_no_rule_names_it_any_more(bench: Bench) -> None:
    await bench.enforce("a.example.com", "b.example.com")
    bench.learned.learn(names.from_text("a.example.com."), [ADDRESS.packed], ttl_s=30)
    await bench.enforce("b.example.com")
    assert bench.kernel.deleted == [{selector_id(A): {ADDRESS.packed}}]
    assert not bench.kernel.touched.is_set()


async def test_what_could_not_be_taken_out_is_looked_for_again(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    bench.learned.learn(names.from_text("a.example.com."), [ADDRESS.packed], ttl_s=30)
    bench.kernel.before_delete = lambda: fails(None)
    assert await bench.enforce("b.example.com")
    assert bench.kernel.touched.is_set()
    assert bench.learned.in_kernel == {B}


async def test_what_could_not_be_taken_out_of_a_selector_that_is_back_is_looked_at(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    bench.learned.learn(names.from_text("a.example.com."), [ADDRESS.packed], ttl_s=30)
    bench.kernel.before_delete = lambda: fails(None)
    await bench.enforce("b.example.com")
    bench.kernel.touched.clear()
    await bench.enforce("a.example.com")
    assert bench.kernel.touched.is_set()
    assert bench.learned.leftover == {}


async def test_what_an_earlier_run_has_left_of_a_selector_that_is_gone_is_taken_out(bench: Bench) -> None:
    bench.kernel.left = {selector_id(B): {ADDRESS.packed: 75.0}}
    await bench.enforce("a.example.com")
    assert bench.kernel.deleted == [{selector_id(B): {ADDRESS.packed}}]


async def test_nothing_that_an_earlier_run_has_left_is_taken_out_before_its_rules_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.kernel.left = {selector_id(B): {ADDRESS.packed: 75.0}}
    with monkeypatch.context() as full:
        full.setattr(bench.ledger, "save", fails)
        with pytest.raises(EnvironmentFault):
            await bench.enforce("a.example.com")
    assert bench.kernel.deleted == []
    await bench.enforce("a.example.com")
    assert bench.kernel.deleted == [{selector_id(B): {ADDRESS.packed}}]


async def test_a_table_read_again_and_found_as_it_was_left_is_no_drift(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    bench.kernel.held = replace(bench.kernel.held)
    assert not await bench.enforce("a.example.com")
    assert bench.enforcer.drifts == 0


async def test_the_selectors_of_an_endpoint_without_an_interface_start_with_what_is_known_once_it_has_one(
    bench: Bench,
) -> None:
    assert await bench.enforcer.enforce(bench.plan("a.example.com", links=Links({})), Stopwatch())
    assert (bench.learned.cache.selectors, bench.learned.in_kernel) == ({A}, frozenset())
    bench.learned.learn(names.from_text("a.example.com."), [ADDRESS.packed], ttl_s=30)
    assert bench.kernel.written == []
    assert await bench.enforce("a.example.com")
    assert bench.start_of("a.example.com") == {str(ADDRESS): 100.0}
    assert bench.learned.in_kernel == {A}


async def test_what_was_learned_outlives_a_time_without_any_interface(bench: Bench) -> None:
    await bench.enforce("a.example.com")
    bench.learned.learn(names.from_text("a.example.com."), [ADDRESS.packed], ttl_s=30)
    assert await bench.enforcer.enforce(bench.plan("a.example.com", links=Links({})), Stopwatch())
    assert bench.kernel.deleted == [{selector_id(A): {ADDRESS.packed}}]
    assert await bench.enforce("a.example.com")
    assert bench.start_of("a.example.com") == {str(ADDRESS): 100.0}
    assert bench.enforcer.drifts == 0
