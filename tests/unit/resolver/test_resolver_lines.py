"""Lines of pods: who comes after whom."""

from __future__ import annotations

from acns.resolver.lines import Lines

MANY, ONE = b"\x0a\0\0\1", b"\x0a\0\0\2"


def test_lines_take_turns() -> None:
    lines: Lines[int] = Lines()
    for number in range(100):
        lines.put(MANY, number)
    lines.put(ONE, 1_000)
    lines.put(ONE, 1_001)
    assert [lines.take() for _ in range(6)] == [0, 1_000, 1, 1_001, 2, 3]
    assert (len(lines), lines.of(MANY), lines.of(ONE)) == (96, 96, 0)


def test_an_empty_line_has_nobody() -> None:
    lines: Lines[int] = Lines()
    lines.put(ONE, 1)
    assert (lines.take(), lines.take(), len(lines)) == (1, None, 0)
