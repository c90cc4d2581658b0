"""Takeover against a writer and a ledger that the test holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from acns import statelog
from acns.api import answered
from acns.api.answered import Answered
from acns.api.ledger_file import FORMAT, VERSION, Terms
from acns.datapath.model import Description
from acns.datapath.selectors import octets_of, selector_id
from acns.dns.pattern import match_name, match_pattern
from acns.fqdn import untold
from acns.policy.model import FQDN
from acns.resolver.room import MOST_OF_NAME
from acns.resolver.takeover import Takeover
from acns.shim.ledger import Ledger
from acns.writer.wire import Lease, Outcome
from tests.unit.resolver.mappings import MAPPING, many

EXACT, WILD, OTHER = (
    match_name("www.example.com"),
    match_pattern("*.example.com"),
    match_name("other.example"),
)
ODD = match_pattern("www.example.com")  # a pattern without a star
TERMS = Terms(min_ttl_s=10, margin_s=100.0)
WAIT_S: Final = 30.0


class FakeWriter:
    def __init__(self, outcome: Outcome = Outcome.WRITTEN) -> None:
        self.outcome = outcome
        self.leases: list[Lease] = []

    async def put(self, leases: Sequence[Lease]) -> Outcome:
        self.leases += leases
        return self.outcome


def ledger(path: Path, *selectors: object) -> Path:
    """As the shim writes it."""
    made = Ledger(path, TERMS)
    described = {
        selector_id(one): Description("selector", FQDN(one).key)  # type: ignore[arg-type]
        for one in selectors
    }
    made.save({**described, "re_1": Description("rule", "fqdn:name:www.example.com. 443/TCP")})
    made.close()
    return path


def takeover(writer: FakeWriter, path: Path) -> Takeover:
    return Takeover(writer, path)  # type: ignore[arg-type]


async def test_an_address_is_opened_by_every_selector_that_matches_and_by_no_other(
    tmp_path: Path,
) -> None:
    writer = FakeWriter()
    made = takeover(writer, ledger(tmp_path / "ledger.log", EXACT, WILD, OTHER, ODD))
    assert await made.commit(MAPPING, age_s=0.0)
    assert {lease.selector for lease in writer.leases} == {
        octets_of(selector_id(one)) for one in (EXACT, WILD, ODD)
    }


@pytest.mark.parametrize(("ttl_s", "counted_s"), [(60, 60), (1, TERMS.min_ttl_s), (10**9, 7 * 86_400)])
async def test_it_stays_as_long_as_the_shim_would_have_it_counted_from_the_answer(
    tmp_path: Path, ttl_s: int, counted_s: int
) -> None:
    writer = FakeWriter()
    made = takeover(writer, ledger(tmp_path / "ledger.log", EXACT))
    assert await made.commit(replace(MAPPING, ttl_s=ttl_s), age_s=5.0)
    (lease,) = writer.leases
    stays_s = counted_s + untold.kept_s(counted_s) + TERMS.margin_s
    assert lease.expires_at - time.time() == pytest.approx(stays_s - 5, abs=2)


async def test_addresses_that_no_name_may_open_are_left_out(tmp_path: Path) -> None:
    writer = FakeWriter()
    made = takeover(writer, ledger(tmp_path / "ledger.log", EXACT))
    assert await made.commit(replace(MAPPING, addresses=(b"\x7f\0\0\1", b"\xc0\0\2\7")), age_s=0.0)
    assert [lease.address for lease in writer.leases] == [b"\xc0\0\2\7"]


async def test_a_ledger_that_changes_is_read_again(tmp_path: Path) -> None:
    writer, path = FakeWriter(), tmp_path / "ledger.log"
    made = takeover(writer, ledger(path, OTHER))
    assert await made.commit(MAPPING, age_s=0.0)
    assert writer.leases == []
    ledger(path, OTHER, WILD)
    assert await made.commit(MAPPING, age_s=0.0)
    assert [lease.selector for lease in writer.leases] == [octets_of(selector_id(WILD))]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REFUSED])
async def test_what_the_writer_did_not_write_is_not_committed(tmp_path: Path, outcome: Outcome) -> None:
    made = takeover(FakeWriter(outcome), ledger(tmp_path / "ledger.log", EXACT))
    assert not await made.commit(MAPPING, age_s=0.0)


async def test_a_name_whose_every_answer_has_other_addresses_does_not_fill_the_set(tmp_path: Path) -> None:
    writer = FakeWriter()
    made = takeover(writer, ledger(tmp_path / "ledger.log", EXACT))
    for first in range(0, 30_000, 500):
        addresses = tuple((0x0B000000 + first + one).to_bytes(4, "big") for one in range(500))
        is_committed = await made.commit(replace(MAPPING, addresses=addresses, ttl_s=604_800), age_s=0.0)
        assert is_committed == (first < MOST_OF_NAME)
    assert len({lease.address for lease in writer.leases}) == MOST_OF_NAME
    assert await made.commit(replace(MAPPING, source=b"\x0a\0\0\2"), age_s=0.0)


async def test_what_a_shim_that_is_back_has_is_its_own_to_bound(tmp_path: Path) -> None:
    """It has let go meanwhile what ended; what was committed in its stead does not count for ever."""
    made = takeover(FakeWriter(), ledger(tmp_path / "ledger.log", EXACT))
    full = replace(MAPPING, addresses=many(1, MOST_OF_NAME).addresses)
    assert await made.commit(full, age_s=0.0)
    one_more = replace(MAPPING, addresses=(b"\xc6\x33\x64\x07",))
    assert not await made.commit(one_more, age_s=0.0)
    made.shim_is_back()
    assert await made.commit(one_more, age_s=0.0)


async def test_an_answer_of_more_addresses_than_a_name_may_have_is_not_committed(tmp_path: Path) -> None:
    writer = FakeWriter()
    made = takeover(writer, ledger(tmp_path / "ledger.log", EXACT))
    answer = many(1, MOST_OF_NAME + 1)
    assert not await made.commit(replace(answer, name=MAPPING.name), age_s=0.0)
    assert await made.commit(answer, age_s=0.0)  # no selector matches its name, so there is nothing to open
    assert writer.leases == []


@pytest.mark.parametrize("line", [2, 3])
async def test_by_a_damaged_ledger_nothing_is_committed(
    tmp_path: Path, line: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.log"
    made = Ledger(path, TERMS)
    for one in (EXACT, WILD):
        made.save({selector_id(one): Description("selector", FQDN(one).key)})
    made.close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"www", b"wvw").replace(b"pattern", b"pbttern")
    path.write_bytes(b"".join(lines))
    writer = FakeWriter()
    assert not await takeover(writer, path).commit(MAPPING, age_s=0.0)
    assert writer.leases == []
    assert f"is damaged in line {line}" in str(caplog.records[-1].__dict__)


async def test_a_torn_ledger_counts_up_to_its_torn_line_which_is_said_once_no_append_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = ledger(tmp_path / "ledger.log", EXACT)
    with path.open("ab") as file:
        file.write(b"a line that has not")
    writer = FakeWriter()
    made = takeover(writer, path)
    assert await made.commit(MAPPING, age_s=0.0)
    assert not caplog.records
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)  # nobody has touched the file
    for _ in range(3):
        assert await made.commit(MAPPING, age_s=0.0)
    assert len(writer.leases) == 4
    (said,) = caplog.records
    assert "ends in a torn line" in str(said.__dict__)


async def test_without_a_ledger_nothing_is_committed(tmp_path: Path) -> None:
    assert not await takeover(FakeWriter(), tmp_path / "nowhere").commit(MAPPING, age_s=0.0)


async def test_an_older_shims_ledger_says_not_how_long_and_nothing_is_committed(tmp_path: Path) -> None:
    log = statelog.StateLog(tmp_path / "ledger.log", FORMAT, VERSION)
    log.rewrite([{"numbers": {}, "ids": {}}])
    assert not await takeover(FakeWriter(), log.path).commit(MAPPING, age_s=0.0)


# --- when the answer came -----------------------------------------------------------------------------------


def test_when_an_answer_came_goes_through_metadata() -> None:
    assert answered.from_metadata(answered.to_metadata(Answered(1234.5, 300))) == Answered(1234.5, 300)


@pytest.mark.parametrize("value", ["", "now 5", "1 -1", "nan 5", "inf 5", "1", "1 2 3", "1 x"])
def test_metadata_that_means_nothing_says_nothing(value: str) -> None:
    assert answered.from_metadata(((answered.KEY, value),)) is None
