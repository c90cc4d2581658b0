"""Two writers of the same set, and a kernel that is a dictionary: nobody lowers an expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.datapath.elements import Found, NoSuchSet, Overtaken
from acns.datapath.highest import REMEMBERED_S, HighestWins
from acns.errors import EnvironmentFault

ONE, TWO = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


class FakeElements:
    """The kernel's set, with its rule for generations; `between` happens before each commit, once."""

    def __init__(self) -> None:
        self.ends: dict[str, dict[bytes, float]] = {"one": {}, "two": {}}
        self.is_there = True
        self.now = 0.0
        self.current = 7
        self.looked_up: list[bytes] = []
        self.between: list[Callable[[], None]] = []

    def generation(self) -> int:
        return self.current

    def find(self, wanted: Mapping[str, Iterable[bytes]]) -> dict[str, dict[bytes, Found]]:
        found = {}
        for id_, addresses in wanted.items():
            ends = self.ends[id_] if self.is_there else {}
            self.looked_up += addresses
            there = [one for one in addresses if ends.get(one, 0) > self.now]
            found[id_] = {one: Found(ends[one] - self.now, "") for one in there}
        return found

    def put(
        self, wanted: Mapping[str, Mapping[bytes, float]], *, generation: int | None = None, comment: str = ""
    ) -> int:
        if self.between:
            self.between.pop()()
        if generation is not None and generation != self.current:
            raise Overtaken("somebody else")
        if not self.is_there:
            raise NoSuchSet("learned")
        for id_, timeouts_s in wanted.items():
            self.ends[id_].update({address: self.now + left for address, left in timeouts_s.items()})
        self.current += 1
        return 1


@pytest.fixture
def kernel() -> FakeElements:
    return FakeElements()


def writer(kernel: FakeElements) -> HighestWins:
    return HighestWins(kernel)  # type: ignore[arg-type]


def test_what_lasts_longer_already_is_left_alone(kernel: FakeElements) -> None:
    kernel.ends["one"] = {ONE: 100.0}
    writer(kernel).put({"one": {ONE: 50.0, TWO: 50.0}}, now=0.0)
    assert kernel.ends["one"] == {ONE: 100.0, TWO: 50.0}


def test_who_loses_the_race_reads_again_and_keeps_what_the_winner_wrote(kernel: FakeElements) -> None:
    def another() -> None:
        kernel.ends["one"] = {ONE: 500.0}
        kernel.current += 1

    kernel.between = [another]
    writer(kernel).put({"one": {ONE: 50.0, TWO: 50.0}}, now=0.0)
    assert kernel.ends["one"] == {ONE: 500.0, TWO: 50.0}


def test_while_nobody_else_commits_nothing_is_looked_up_twice(kernel: FakeElements) -> None:
    own = writer(kernel)
    for number in range(10):
        own.put({"one": {ONE: 50.0 + number, TWO: 50.0}}, now=float(number))
    assert sorted(kernel.looked_up) == [ONE, TWO]


def test_what_has_expired_in_the_kernel_is_forgotten_here_too(kernel: FakeElements) -> None:
    own = writer(kernel)
    own.put({"one": {ONE: 5.0}}, now=0.0)
    kernel.now = REMEMBERED_S + 1
    own.put({"one": {TWO: 5.0}}, now=kernel.now)
    assert own._held["one"].keys() == {TWO}


def test_without_a_set_nothing_is_written_until_there_is_one(kernel: FakeElements) -> None:
    own = writer(kernel)
    kernel.is_there = False
    with pytest.raises(NoSuchSet):
        own.put({"one": {ONE: 50.0}}, now=0.0)
    assert own.written_on is None
    kernel.is_there = True
    kernel.current += 1
    own.put({"one": {ONE: 50.0}}, now=0.0)
    assert kernel.ends["one"] == {ONE: 50.0}


def test_others_who_commit_without_end_are_an_error_and_no_endless_loop(kernel: FakeElements) -> None:
    def another() -> None:
        kernel.current += 1

    kernel.between = [another] * 1000
    with pytest.raises(EnvironmentFault, match="others committed"):
        writer(kernel).put({"one": {ONE: 50.0}}, now=0.0)


Write = tuple[int, str, dict[bytes, float], float]
WRITES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(("one", "two")),
        st.dictionaries(st.sampled_from((ONE, TWO)), st.floats(1, 100), min_size=1),
        st.floats(0, 30),
    ),
    max_size=30,
)


@given(WRITES)
def test_two_writers_together_never_lower_an_expiry(
    writes: list[Write],
) -> None:
    kernel = FakeElements()
    writers = writer(kernel), writer(kernel)
    latest: dict[tuple[str, bytes], float] = {}
    for who, name, timeouts_s, passed_s in writes:
        kernel.now += passed_s
        writers[who].put({name: timeouts_s}, kernel.now)
        for address, timeout_s in timeouts_s.items():
            key = name, address
            latest[key] = max(latest.get(key, 0.0), kernel.now + timeout_s)
            assert kernel.ends[name][address] >= latest[key] - 1e-6
