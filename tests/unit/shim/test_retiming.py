"""Notes of what the elements of an earlier run are about to be given: each is written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from acns.api.ledger_file import Terms
from acns.shim.ledger import Ledger
from acns.shim.retiming import Margins, Retiming
from tests.full_disk import no_file_larger_than

ONE, TWO = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"
EARLIER_S, MARGIN_S = 60.0, 7200.0
TERMS = Terms(0, MARGIN_S)
NAMES = frozenset({"fqdn_1"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.log"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    """Of a run with another margin than the one before."""
    before = Ledger(path, Terms(0, EARLIER_S))
    before.identities.number("a")
    before.save({})
    before.close()
    return Ledger(path, TERMS)


def note(
    ledger: Ledger, now_s: float, ends_s: dict[bytes, float], margin_s: float = MARGIN_S
) -> frozenset[str]:
    """As a round does that finds elements which end, with the earlier margin, at these moments."""
    left_s = {address: end_s - now_s for address, end_s in ends_s.items()}
    return Margins(ledger, lambda: now_s).note({"fqdn_1": left_s}, margin_s)


def test_a_try_that_is_made_again_writes_its_note_once(ledger: Ledger) -> None:
    note(ledger, 0, {ONE: 300.0, TWO: 400.0})
    with no_file_larger_than(0):
        for now_s in range(1, 30):
            assert note(ledger, now_s, {ONE: 300.0, TWO: 400.0}) == NAMES
        assert note(ledger, 310, {TWO: 400.5}) == NAMES, "the other has ended meanwhile"


@pytest.mark.parametrize("later", [{ONE: 300.0, TWO: 400.0}, {ONE: 500.0}], ids=["more", "renewed"])
def test_what_no_note_says_yet_is_written_in_the_place_of_the_one_before(
    ledger: Ledger, path: Path, later: dict[bytes, float]
) -> None:
    note(ledger, 0, {ONE: 300.0})
    assert note(ledger, 1, later) == NAMES
    said = {"fqdn_1": {address: end_s - EARLIER_S for address, end_s in later.items()}}
    assert ledger.retimings == Ledger(path, TERMS).retimings == (Retiming(MARGIN_S, said),)


def test_notes_of_addresses_past_their_ttl_which_end_later_with_each_try_are_not_piled_up(
    ledger: Ledger, path: Path
) -> None:
    for now_s in range(0, 30, 3):
        assert note(ledger, now_s, {ONE: 50.0}) == NAMES
    assert ledger.retimings == Ledger(path, TERMS).retimings == (Retiming(MARGIN_S, {"fqdn_1": {ONE: 27.0}}),)


def test_what_was_given_its_margin_before_a_try_failed_is_not_given_it_again(ledger: Ledger) -> None:
    note(ledger, 0, {ONE: 300.0, TWO: 50.0})
    given = {ONE: 300.0 - EARLIER_S + MARGIN_S, TWO: 50.0}
    assert note(ledger, 10, given) == NAMES
    assert Margins(ledger, lambda: 20.0).of("fqdn_1", ONE, given[ONE] - 20) == MARGIN_S


def test_a_note_that_was_followed_by_one_of_another_margin_is_written_again(
    ledger: Ledger, path: Path
) -> None:
    for margin_s in (MARGIN_S, 30.0, MARGIN_S):
        assert note(ledger, 0, {ONE: 300.0}, margin_s) == NAMES
    assert [one.margin_s for one in ledger.retimings] == [30.0, MARGIN_S]
    assert Ledger(path, TERMS).identities.known() == {"a": 256}
