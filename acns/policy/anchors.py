"""Where to look for what a selector matches: a label that it requires.

Matching every selector against every pod costs their product. Nearly every selector requires some label with
a value (`app=web`), so pods are looked up by their labels, and selectors by one label that they require; only
those found are matched. A label's source is left aside: it is for the match to decide.
"""

from __future__ import annotations

from acns.policy.selectors import NAMESPACE_KEY, Labels, Operator, Selector

Pair = tuple[str, str]  # a label's name and value


def pairs_of(labels: Labels) -> frozenset[Pair]:
    """Where to look for selectors that match these labels."""
    return frozenset((name, value) for name, values in labels.by_name.items() for value in values.values())


def anchors_of(selector: Selector) -> tuple[Pair, ...] | None:
    """What matches has one of these; None: it requires nothing. A namespace holds many pods, so another
    label is better."""
    wanted = [each for each in selector.requirements if each.operator is Operator.IN]
    if not wanted:
        return None
    best = min(wanted, key=lambda each: (each.key.name == NAMESPACE_KEY, len(each.values)))
    return tuple((best.key.name, value) for value in best.values)
