"""Learned addresses by raw netlink, on a real kernel."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.datapath import selectors
from acns.datapath.elements import Elements, NoSuchSet, Overtaken
from acns.datapath.nft import Nft
from acns.errors import Bug

from ...waiting import until

pytestmark = pytest.mark.root

ONE, TWO = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
A, B = "fqdn_0102030405", "fqdn_ffffffffff"
SET = "add set inet acns learned { typeof numgen inc mod 2 . numgen inc mod 2 . ip daddr; flags timeout; }\n"


@pytest.fixture
def nft(alone: Any) -> Nft:
    made: Nft = alone.do(Nft)
    made.apply("add table inet acns\n" + SET)
    return made


@pytest.fixture(params=[True, False, None], ids=["re-adding", "delete and add", "as probed"])
def elements(request: pytest.FixtureRequest, alone: Any, nft: Nft) -> Elements:
    made: Elements = alone.do(Elements, refresh_by_re_adding=request.param)
    return made


def test_elements_of_several_selectors_are_written_in_one_commit(elements: Elements) -> None:
    before = elements.generation()
    elements.put({A: {ONE: 10.0, TWO: 20.5}, B: {ONE: 3600.0}})
    assert elements.generation() == before + 1
    assert elements.read()[A] == pytest.approx({ONE: 10.0, TWO: 20.5}, abs=1)
    assert elements.read()[B] == pytest.approx({ONE: 3600.0}, abs=1)


@pytest.mark.parametrize("second_s", [1000.0, 20.0])
def test_writing_again_moves_the_expiry_up_and_down(elements: Elements, second_s: float) -> None:
    elements.put({A: {ONE: 100.0}})
    elements.put({A: {ONE: second_s}})
    assert elements.read()[A] == pytest.approx({ONE: second_s}, abs=1)


def test_writing_the_same_timeout_again_starts_it_anew(elements: Elements) -> None:
    elements.put({A: {ONE: 100.0}})
    ticking = threading.Event()
    while elements.read()[A][ONE] > 99.95:
        ticking.wait(0.005)
    elements.put({A: {ONE: 100.0}})
    assert elements.read()[A][ONE] > 99.97


def test_without_a_set_nothing_can_be_written_read_or_deleted(elements: Elements, nft: Nft) -> None:
    nft.apply("delete set inet acns learned\n")
    with pytest.raises(NoSuchSet):
        elements.put({A: {ONE: 10.0}})
    with pytest.raises(NoSuchSet):
        elements.read()
    with pytest.raises(NoSuchSet):
        elements.delete({A: [ONE]})
    assert elements.find({A: [ONE]}) == {}


def test_some_are_looked_up_without_the_rest(elements: Elements) -> None:
    elements.put({A: {ONE: 10.0, TWO: 20.5}, B: {ONE: 3600.0}})
    found = elements.find({A: [ONE], B: [ONE, TWO], "fqdn_0000000000": [ONE]})
    assert found == {
        A: {ONE: (pytest.approx(10, abs=1), "")},
        B: {ONE: (pytest.approx(3600, abs=1), "")},
    }


def test_what_is_over_is_not_found_whether_the_kernel_has_swept_it_out_or_not(elements: Elements) -> None:
    elements.put({A: {ONE: 0.05, TWO: 50.0}})
    until(lambda: ONE not in elements.find({A: [ONE]}).get(A, {}), "it is over")
    assert elements.find({A: [ONE, TWO]})[A].keys() == {TWO}


@given(st.integers(0, (1 << 40) - 1))
def test_every_id_is_two_numbers_that_nft_takes(number: int) -> None:
    id_ = f"fqdn_{number:010x}"
    assert selectors.id_of_numbers(*selectors.numbers(id_)) == id_
    assert selectors.id_in(selectors.key_prefix(id_)) == id_
    assert selectors.id_of(selectors.octets_of(id_)) == id_
    assert max(selectors.numbers(id_)) < 1 << 31


def test_nft_and_we_mean_the_same_element(nft: Nft, elements: Elements) -> None:
    nft.apply(f"add element inet acns learned {{ {selectors.element(B, '192.0.2.1')} timeout 500s }}\n")
    assert elements.read() == {B: {ONE: pytest.approx(500, abs=1)}}
    elements.put({A: {TWO: 500.0}})
    assert f"{selectors.element(A, '192.0.2.2')} timeout 8m20s" in nft.list()


def test_deleting_what_is_not_there_is_no_error_and_deletes_the_rest(elements: Elements) -> None:
    elements.put({A: {ONE: 10.0}})
    elements.delete({A: [TWO, ONE]})
    assert elements.read() == {}


def test_the_generation_grows_by_one_with_every_commit_and_with_nothing_else(
    elements: Elements, nft: Nft
) -> None:
    before = elements.generation()
    nft.apply(
        "add set inet acns three { type ipv4_addr; }\n# commit\nadd set inet acns four { type mark; }\n"
    )
    assert elements.generation() == nft.generation() == before + 2
    elements.put({A: {ONE: 10.0}})
    elements.delete({A: [ONE]})
    assert elements.generation() == before + 4
    with pytest.raises(Bug):
        nft.apply("add rule inet acns nowhere accept\n")
    nft.list()
    nft.inventory()
    nft.counters()
    elements.read()
    elements.find({A: [ONE]})
    assert nft.generation() == before + 4


def test_many_elements_are_written_and_all_are_read_back(elements: Elements) -> None:
    wanted = {number.to_bytes(4, "big"): 1000.0 for number in range(1, 12_001)}
    before = elements.generation()
    commits = elements.put({A: wanted}, generation=before, comment="takeover")
    assert elements.generation() == before + commits == before + 2
    assert elements.read_surely()[A].keys() == wanted.keys()
    assert elements.read()[A].keys() == wanted.keys()
    elements.delete({A: wanted})
    assert elements.read() == {}


def test_an_empty_batch_is_no_commit(elements: Elements) -> None:
    before = elements.generation()
    elements.put({})
    elements.put({A: {}})
    elements.delete({A: []})
    assert elements.generation() == before


def test_elements_without_timeout_last(nft: Nft, elements: Elements) -> None:
    nft.apply(f"add element inet acns learned {{ {selectors.element(A, '192.0.2.1')} }}")
    assert elements.read() == {A: {ONE: math.inf}}


def test_the_probe_leaves_nothing_behind(alone: Any) -> None:
    made: Elements = alone.do(Elements)
    assert made.refresh_by_re_adding in (True, False)
    assert alone.run("nft", "list", "ruleset") == ""


def test_writing_goes_on_while_rulesets_change(alone: Any, nft: Nft, elements: Elements) -> None:
    other: Nft = alone.do(Nft)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            other.apply("add set inet acns x { type ipv4_addr; }\ndelete set inet acns x\n")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for number in range(1, 200):
            elements.put({A: {number.to_bytes(4, "big"): 100.0}})
            assert number.to_bytes(4, "big") in elements.read()[A]
    finally:
        stop.set()
        thread.join()
    assert len(elements.read()[A]) == 199


def test_a_write_for_an_older_generation_changes_nothing(nft: Nft, elements: Elements) -> None:
    elements.put({A: {ONE: 100.0}})
    read_at = elements.generation()
    nft.apply("add set inet acns three { type ipv4_addr; }\n")
    with pytest.raises(Overtaken):
        elements.put({A: {ONE: 10.0, TWO: 10.0}}, generation=read_at)
    assert elements.read()[A] == pytest.approx({ONE: 100.0}, abs=1)
    elements.put({A: {TWO: 10.0}}, generation=elements.generation())
    assert elements.read()[A].keys() == {ONE, TWO}


def test_new_elements_carry_a_comment_that_nft_lists_and_old_ones_get_none(
    nft: Nft, elements: Elements
) -> None:
    elements.put({A: {ONE: 100.0}})
    elements.put({A: {TWO: 100.0}}, comment="takeover")
    found = elements.find({A: [ONE, TWO], B: [ONE]})
    assert {address: one.comment for address, one in found[A].items()} == {ONE: "", TWO: "takeover"}
    assert B not in found
    assert 'comment "takeover"' in nft.list()


def test_a_comment_survives_a_refresh_where_the_kernel_can_refresh(elements: Elements) -> None:
    elements.put({A: {ONE: 100.0}}, comment="takeover")
    elements.put({A: {ONE: 500.0}}, comment="takeover")
    assert elements.find({A: [ONE]})[A][ONE].comment == "takeover"
    assert elements.read()[A] == pytest.approx({ONE: 500.0}, abs=1)
