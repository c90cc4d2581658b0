"""Whether two FQDN selectors speak of a common name, without knowing any name.

Decided on the patterns alone, label by label, so it holds for every name there can be. It may say yes where
only names that are too long to exist would do; a no is always right.
"""

from __future__ import annotations

from functools import lru_cache

from acns.dns.pattern import FQDNSelector

ANY_LABELS = "**"  # as a first label: one or more whole labels


def overlap(one: FQDNSelector, other: FQDNSelector) -> bool:
    """Whether some name is matched by both."""
    if one.is_match_all or other.is_match_all or one == other:
        return True
    if one.literal is not None:
        return other.matches(one.literal)
    if other.literal is not None:
        return one.matches(other.literal)
    return _labels_overlap(_labels(one), _labels(other))


def _labels(selector: FQDNSelector) -> list[str]:
    return selector.text.split(".")[:-1]


def _labels_overlap(one: list[str], other: list[str]) -> bool:
    """Both end at the root, so labels are compared from there."""
    tail_one, open_one = _tail(one)
    tail_other, open_other = _tail(other)
    if not open_one and not open_other and len(one) != len(other):
        return False
    # What is open takes one label at least, and any.
    if open_one and not open_other and len(other) <= len(tail_one):
        return False
    if open_other and not open_one and len(one) <= len(tail_other):
        return False
    return all(map(globs_overlap, reversed(tail_one), reversed(tail_other)))


def _tail(labels: list[str]) -> tuple[list[str], bool]:
    """The labels that are fixed in number, and whether any number may stand before them."""
    return (labels[1:], True) if labels[0] == ANY_LABELS else (labels, False)


@lru_cache(maxsize=4096)
def globs_overlap(one: str, other: str) -> bool:
    """Whether some label is matched by both of two labels with `*`s, each of which stands for any characters
    or none."""
    reached = {(0, 0)}
    waiting = [(0, 0)]
    while waiting:
        for step in _steps(one, other, *waiting.pop()):
            if step not in reached:
                reached.add(step)
                waiting.append(step)
    return (len(one), len(other)) in reached


def _steps(one: str, other: str, i: int, j: int) -> list[tuple[int, int]]:
    """How far both get by one character more, or by ending a star."""
    here, there = one[i : i + 1], other[j : j + 1]
    steps = []
    if here == "*":
        steps += [(i + 1, j), (i, j + 1)] if there else [(i + 1, j)]
    if there == "*":
        steps += [(i, j + 1), (i + 1, j)] if here else [(i, j + 1)]
    if here and here == there:
        steps.append((i + 1, j + 1))
    return steps
