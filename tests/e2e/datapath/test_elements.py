"""Set elements by raw netlink, on a real kernel."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from acns.datapath.elements import Elements, NoSuchSet, Overtaken
from acns.datapath.nft import Nft
from acns.errors import Bug

pytestmark = pytest.mark.root

ONE, TWO = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
TABLE = "add table inet acns\nadd set inet acns one { type ipv4_addr; flags timeout; }\n"
SECOND = "add set inet acns two { type ipv4_addr; flags timeout; }\n"


@pytest.fixture
def nft(alone: Any) -> Nft:
    made: Nft = alone.do(Nft)
    made.apply(TABLE + SECOND)
    return made


@pytest.fixture(params=[True, False, None], ids=["re-adding", "delete and add", "as probed"])
def elements(request: pytest.FixtureRequest, alone: Any, nft: Nft) -> Elements:
    made: Elements = alone.do(Elements, refresh_by_re_adding=request.param)
    return made


def test_elements_are_written_to_several_sets_in_one_commit(elements: Elements) -> None:
    before = elements.generation()
    elements.put({"one": {ONE: 10.0, TWO: 20.5}, "two": {ONE: 3600.0}})
    assert elements.generation() == before + 1
    assert elements.read("one") == pytest.approx({ONE: 10.0, TWO: 20.5}, abs=1)
    assert elements.read("two") == pytest.approx({ONE: 3600.0}, abs=1)


@pytest.mark.parametrize("second_s", [1000.0, 20.0])
def test_writing_again_moves_the_expiry_up_and_down(elements: Elements, second_s: float) -> None:
    elements.put({"one": {ONE: 100.0}})
    elements.put({"one": {ONE: second_s}})
    assert elements.read("one") == pytest.approx({ONE: second_s}, abs=1)


def test_writing_the_same_timeout_again_starts_it_anew(elements: Elements) -> None:
    elements.put({"one": {ONE: 100.0}})
    ticking = threading.Event()
    while elements.read("one")[ONE] > 99.95:
        ticking.wait(0.005)
    elements.put({"one": {ONE: 100.0}})
    assert elements.read("one")[ONE] > 99.97


def test_nothing_is_written_when_one_of_the_sets_is_gone(elements: Elements) -> None:
    with pytest.raises(NoSuchSet):
        elements.put({"one": {ONE: 10.0}, "gone": {ONE: 10.0}})
    assert elements.read("one") == {}
    elements.put({"one": {ONE: 10.0}})
    assert elements.read("one").keys() == {ONE}


def test_reading_or_deleting_from_a_missing_set_says_so(elements: Elements) -> None:
    with pytest.raises(NoSuchSet):
        elements.read("gone")
    with pytest.raises(NoSuchSet):
        elements.delete({"gone": [ONE]})


def test_deleting_what_is_not_there_is_no_error_and_deletes_the_rest(elements: Elements) -> None:
    elements.put({"one": {ONE: 10.0}})
    elements.delete({"one": [TWO, ONE]})
    assert elements.read("one") == {}


def test_the_generation_grows_by_one_with_every_commit_and_with_nothing_else(
    elements: Elements, nft: Nft
) -> None:
    before = elements.generation()
    nft.apply(
        "add set inet acns three { type ipv4_addr; }\n# commit\nadd set inet acns four { type mark; }\n"
    )
    assert elements.generation() == nft.generation() == before + 2
    elements.put({"one": {ONE: 10.0}})
    elements.delete({"one": [ONE]})
    assert elements.generation() == before + 4
    with pytest.raises(Bug):
        nft.apply("add rule inet acns nowhere accept\n")
    with pytest.raises(NoSuchSet):
        elements.put({"gone": {ONE: 10.0}})
    nft.list()
    nft.inventory()
    nft.counters()
    elements.read("one")
    assert nft.generation() == before + 4


def test_many_elements_are_written_and_all_are_read_back(elements: Elements) -> None:
    wanted = {number.to_bytes(4, "big"): 1000.0 for number in range(1, 12_001)}
    elements.put({"one": wanted})
    assert elements.read("one").keys() == wanted.keys()
    elements.delete({"one": wanted})
    assert elements.read("one") == {}


def test_an_empty_batch_is_no_commit(elements: Elements) -> None:
    before = elements.generation()
    elements.put({})
    elements.put({"one": {}})
    elements.delete({"one": []})
    assert elements.generation() == before


def test_elements_without_timeout_last(nft: Nft, elements: Elements) -> None:
    nft.apply("add element inet acns one { 192.0.2.1 }")
    assert elements.read("one") == {ONE: math.inf}


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
            elements.put({"one": {number.to_bytes(4, "big"): 100.0}})
            assert number.to_bytes(4, "big") in elements.read("one")
    finally:
        stop.set()
        thread.join()
    assert len(elements.read("one")) == 199


def test_a_write_for_an_older_generation_changes_nothing(nft: Nft, elements: Elements) -> None:
    elements.put({"one": {ONE: 100.0}})
    read_at = elements.generation()
    nft.apply("add set inet acns three { type ipv4_addr; }\n")
    with pytest.raises(Overtaken):
        elements.put({"one": {ONE: 10.0, TWO: 10.0}}, generation=read_at)
    assert elements.read("one") == pytest.approx({ONE: 100.0}, abs=1)
    elements.put({"one": {TWO: 10.0}}, generation=elements.generation())
    assert elements.read("one").keys() == {ONE, TWO}


def test_new_elements_carry_a_comment_that_nft_lists_and_old_ones_get_none(
    nft: Nft, elements: Elements
) -> None:
    elements.put({"one": {ONE: 100.0}})
    elements.put({"one": {TWO: 100.0}}, comment="takeover")
    assert elements.commented("one", "takeover") == {TWO}
    assert elements.commented("one", "takeove") == frozenset()
    assert 'comment "takeover"' in nft.list()


def test_a_comment_survives_a_refresh_where_the_kernel_can_refresh(elements: Elements) -> None:
    elements.put({"one": {ONE: 100.0}}, comment="takeover")
    elements.put({"one": {ONE: 500.0}}, comment="takeover")
    assert elements.commented("one", "takeover") == {ONE}
    assert elements.read("one") == pytest.approx({ONE: 500.0}, abs=1)
