"""The ledger: numbers outlive the process, and only what is new is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from acns import statelog
from acns.api import ledger_file
from acns.api.ledger_file import Terms
from acns.datapath.model import Description
from acns.errors import EnvironmentFault
from acns.policy.model import Origin
from acns.shim.ledger import FORMAT, VERSION, Ledger
from tests.full_disk import no_file_larger_than

TERMS = Terms(min_ttl_s=0, margin_s=60)
ORIGIN = Origin("default/p", "egress", 0, "p.yaml", 7, 5)
RULE = Description("rule", "fqdn:name:a.io. 443/TCP", (ORIGIN,), ("default/frontend",))
CHAIN = Description("chain", "sent, though no egress rule allows it")
SELECTOR = Description("selector", "fqdn:name:a.io.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.log"


def test_numbers_survive_a_restart(path: Path) -> None:
    before = Ledger(path, TERMS)
    numbers = [before.identities.number(key) for key in ("b", "a", "c")]
    before.save({})
    before.identities.number("d")
    before.save({})
    after = Ledger(path, TERMS)
    assert [after.identities.number(key) for key in ("b", "a", "c", "d")] == [*numbers, max(numbers) + 1]
    assert after.identities.number("e") not in (*numbers, max(numbers) + 1)


def test_each_registry_has_its_own_numbers(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    registries = (ledger.endpoints, ledger.grants.egress, ledger.grants.ingress)
    assert [one.number("x") for one in registries] == [1, 1, 1]
    ledger.save({})
    assert [
        one.number("y") for one in (Ledger(path, TERMS).endpoints, Ledger(path, TERMS).grants.ingress)
    ] == [2, 2]


def test_a_number_that_was_given_again_belongs_to_the_last_text(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    grants = ledger.grants.egress
    for key in range(grants.first, grants.last + 1):
        grants.number(f"re_{key}")
    ledger.save({})
    grants.keep_only(f"re_{key}" for key in range(grants.first + 1, grants.last + 1))
    assert grants.number("re_new") == grants.first
    ledger.save({})
    after = Ledger(path, TERMS).grants.egress.known()
    assert after["re_new"] == grants.first
    assert f"re_{grants.first}" not in after


def test_only_what_is_new_is_written(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    ledger.identities.number("a")
    ledger.save({"re_1": RULE})
    size = path.stat().st_size
    ledger.save({"re_1": RULE})
    assert path.stat().st_size == size
    ledger.identities.number("b")
    ledger.save({"re_1": RULE, "fqdn_1": SELECTOR})
    *_, last = statelog.read(path, FORMAT, VERSION)
    assert last == {
        "numbers": {"identities": {"b": 257}},
        "ids": {"fqdn_1": {"kind": "selector", "text": "fqdn:name:a.io.", "origins": []}},
    }


def test_what_an_id_stands_for_can_be_read_with_file_and_line(path: Path) -> None:
    Ledger(path, TERMS).save({"re_1": RULE})
    [value] = statelog.read(path, FORMAT, VERSION)
    assert value["ids"]["re_1"]["origins"] == ["default/p egress[0] (p.yaml:7:5)"]


def test_whom_an_id_serves_is_not_written(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    ledger.save({"re_1": RULE})
    size = path.stat().st_size
    ledger.save({"re_1": replace(RULE, endpoints=("default/batch", "default/frontend"))})
    assert path.stat().st_size == size


def test_an_id_whose_meaning_changed_is_written_again(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    ledger.save({"x": RULE})
    ledger.save({"x": SELECTOR})
    *_, last = statelog.read(path, FORMAT, VERSION)
    assert last["ids"]["x"]["kind"] == "selector"


def test_what_is_on_disk_is_not_written_again_after_a_restart(path: Path) -> None:
    before = Ledger(path, TERMS)
    before.identities.number("a")
    before.save({"re_1": RULE, "fqdn_1": SELECTOR})
    content = path.read_bytes()
    after = Ledger(path, TERMS)
    with no_file_larger_than(0):
        after.identities.number("a")
        after.save({"re_1": RULE})
        after.save({})
    assert path.read_bytes() == content
    after.identities.number("b")
    after.save({"re_1": RULE})
    assert Ledger(path, TERMS).identities.known() == {"a": 256, "b": 257}


@pytest.mark.parametrize("needed", ["number", "id", "meaning", "terms"])
def test_what_the_kernel_must_not_have_before_it_is_on_disk_waits_for_the_disk(
    needed: str, path: Path
) -> None:
    Ledger(path, TERMS).save({"re_1": RULE})
    after = Ledger(path, Terms(0, 90) if needed == "terms" else TERMS)
    if needed == "number":
        after.identities.number("a")
    more = {"id": {"fqdn_1": SELECTOR}, "meaning": {"re_1": SELECTOR}}.get(needed, {})
    for _ in range(2):
        with no_file_larger_than(0), pytest.raises(EnvironmentFault):
            after.save({"re_1": RULE, **more})
    after.save({"re_1": RULE, **more})
    assert Ledger(path, TERMS).identities.known() == ({"a": 256} if needed == "number" else {})
    assert ledger_file.read(path).terms == Terms(0, 90 if needed == "terms" else 60)


@pytest.mark.parametrize("restarted", [True, False])
def test_a_withdrawal_waits_for_no_disk_though_it_changes_a_chain_and_moves_the_rules_below_it(
    restarted: bool, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(path, TERMS)
    ledger.save({"re_1": RULE, "fqdn_1": SELECTOR})
    ledger = Ledger(path, TERMS) if restarted else ledger
    moved = replace(RULE, origins=(replace(ORIGIN, line=3),))
    with no_file_larger_than(0):
        for number in range(2):
            ledger.save({"re_1": moved, f"eg_{number}": CHAIN})
        assert caplog.text.count("ledger not written") == 1
        with pytest.raises(EnvironmentFault):
            ledger.save({"re_1": moved, "re_2": RULE})
        ledger.save({"re_1": moved})
    ledger.save({"re_1": moved})
    *_, last = statelog.read(path, FORMAT, VERSION)
    assert last["ids"]["re_1"]["origins"] == ["default/p egress[0] (p.yaml:3:5)"]


def test_a_ledger_that_is_gone_is_needed_again(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    ledger.save({"re_1": RULE})
    path.unlink()
    with no_file_larger_than(0), pytest.raises(EnvironmentFault):
        ledger.save({"re_1": RULE})
    ledger.save({"re_1": RULE})
    assert path.exists()


def test_compacting_leaves_what_is_in_use_and_every_number(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    number = ledger.identities.number("a")
    ledger.save({"re_1": RULE})
    ledger.save({"fqdn_1": SELECTOR})
    ledger.compact()
    [value] = statelog.read(path, FORMAT, VERSION)
    assert list(value["ids"]) == ["fqdn_1"]
    assert Ledger(path, TERMS).identities.number("a") == number


def test_one_that_was_replaced_in_the_midst_of_a_write_leaves_the_next_ones_ledger_alone(path: Path) -> None:
    """It has been found to be the node's shim, hung, and goes on when it is no more."""
    overtaken: list[str] = []

    def fence() -> None:
        if overtaken:
            raise EnvironmentFault(overtaken[-1])

    older = Ledger(path, TERMS, fence)
    older.save({"re_1": RULE})
    newer = Ledger(path, TERMS)
    newer.save({"re_1": RULE, "fqdn_1": SELECTOR})
    overtaken.append("another shim has taken this one's place")
    older.identities.number("stale")
    for write in (older.compact, lambda: older.save({"re_1": RULE})):
        with pytest.raises(EnvironmentFault, match="another shim"):
            write()
    [value] = statelog.read(path, FORMAT, VERSION)
    assert list(value["ids"]) == ["re_1", "fqdn_1"]


def test_numbers_that_the_one_before_gives_until_it_is_replaced_are_not_given_again(path: Path) -> None:
    older = Ledger(path, TERMS)
    older.save({})
    newer = Ledger(path, TERMS)
    older.identities.number("given since")
    older.grants.egress.number("re_1")
    older.save({"re_1": RULE})
    newer.read_again()
    assert newer.identities.number("new") == 257
    newer.save({"re_1": RULE})
    assert Ledger(path, TERMS).identities.known() == {"given since": 256, "new": 257}
    assert Ledger(path, TERMS).grants.egress.known() == {"re_1": 1}


def test_a_ledger_that_went_after_it_was_read_costs_no_number(path: Path) -> None:
    older = Ledger(path, TERMS)
    older.identities.number("a")
    older.save({})
    newer = Ledger(path, TERMS)
    path.unlink()
    newer.read_again()
    newer.save({})
    assert Ledger(path, TERMS).identities.known() == {"a": 256}


def test_a_torn_end_costs_only_what_was_in_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(path, TERMS)
    first = ledger.identities.number("a")
    ledger.save({})
    second = ledger.identities.number("b")
    ledger.save({})
    path.write_bytes(path.read_bytes()[:-5])
    after = Ledger(path, TERMS)
    assert "state damaged" in caplog.text
    assert after.identities.known() == {"a": first}
    assert after.identities.number("c") == second


def test_a_torn_end_on_a_full_disk_keeps_nothing_from_being_withdrawn(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    ledger.save({"re_1": RULE, "fqdn_1": SELECTOR})
    ledger.identities.number("a")
    ledger.save({"re_1": RULE, "fqdn_1": SELECTOR})
    path.write_bytes(path.read_bytes()[:-5])
    with no_file_larger_than(0):
        after = Ledger(path, TERMS)
        after.save({"re_1": RULE})
        after.identities.number("a")
        with pytest.raises(EnvironmentFault):
            after.save({"re_1": RULE})
    after.save({"re_1": RULE})
    assert Ledger(path, TERMS).identities.known() == {"a": 256}


def test_what_could_not_be_written_is_written_with_the_next(path: Path) -> None:
    ledger = Ledger(path, TERMS)
    ledger.save({})
    ledger.identities.number("a")
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(EnvironmentFault):
        ledger.save({"re_1": RULE})
    path.parent.mkdir()
    ledger.save({"re_1": RULE})
    assert Ledger(path, TERMS).identities.known() == {"a": 256}
    [value] = statelog.read(path, FORMAT, VERSION)
    assert list(value["ids"]) == ["re_1"]
