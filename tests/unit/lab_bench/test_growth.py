"""The work of a first plan grows as its endpoints do: by what is called, which no busy machine changes."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from lab.bench import inputs, worlds
from lab.bench.plans import Plan

ENDPOINTS = 40
"""Then twice and four times as many, each with the same load."""


def calls(endpoints: int) -> int:
    """How many functions, Python's and C's, it takes to make the node's table from manifests."""
    scale = Plan().at(endpoints).scale
    texts = inputs.files(scale)
    count = 0

    def counted(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        worlds.compiled(scale, texts)
    finally:
        sys.setprofile(before)
    return count


def test_an_endpoint_more_costs_the_same_however_many_there_are() -> None:
    few, more, many = (calls(times * ENDPOINTS) for times in (1, 2, 4))
    assert (many - more) / (more - few) < 2.2
