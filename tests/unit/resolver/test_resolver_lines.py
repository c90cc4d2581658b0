"""Lines of pods, and what each of them holds."""

from __future__ import annotations

from acns.resolver.lines import Holders, Lines

MANY, ONE = b"\x0a\0\0\1", b"\x0a\0\0\2"


def test_lines_take_turns() -> None:
    lines: Lines[int] = Lines()
    for number in range(100):
        lines.put(MANY, number)
    lines.put(ONE, 1_000)
    lines.put(ONE, 1_001)
    taken = [lines.take() for _ in range(6)]
    assert taken == [(MANY, 0), (ONE, 1_000), (MANY, 1), (ONE, 1_001), (MANY, 2), (MANY, 3)]
    assert (len(lines), lines.of(MANY), lines.of(ONE)) == (96, 96, 0)


def test_who_is_passed_over_keeps_its_place() -> None:
    lines: Lines[int] = Lines()
    for number, pod in enumerate((MANY, MANY, ONE)):
        lines.put(pod, number)
    assert lines.take({MANY}) == (ONE, 2)
    assert lines.take({MANY}) is None
    assert lines.take() == (MANY, 0)


def test_a_pod_is_full_while_it_holds_the_most_or_more() -> None:
    holders = Holders(2)
    for _ in range(3):
        holders.take(MANY)
    holders.take(ONE)
    assert holders.full == {MANY}
    holders.give(MANY)
    assert holders.full == {MANY}
    holders.give(MANY)
    assert not holders.full
