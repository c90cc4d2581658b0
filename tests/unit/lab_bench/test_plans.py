"""How much is measured, and of what."""

from __future__ import annotations

import json

import pytest

from lab.bench import plans, policy
from lab.bench.plans import FULL, QUICK, Plan
from lab.errors import InputError


@pytest.mark.parametrize("endpoints", FULL.curve)
def test_along_the_curve_every_endpoint_has_the_same_load(endpoints: int) -> None:
    scale = FULL.at(endpoints).scale
    assert scale.endpoints == endpoints
    assert (scale.policies, scale.selectors, scale.addresses) == (
        2 * endpoints,
        8 * endpoints,
        80 * endpoints,
    )
    assert scale.seed == FULL.scale.seed


def test_the_curve_of_the_full_run_passes_through_its_scale() -> None:
    assert FULL.at(FULL.scale.endpoints).scale == FULL.scale


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_a_plan_survives_the_way_into_a_part(plan: Plan) -> None:
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


def test_without_a_choice_all_parts_run() -> None:
    assert policy.chosen("") == plans.PARTS


def test_parts_run_in_their_order_whatever_the_order_of_asking() -> None:
    assert policy.chosen("memory, load") == ("load", "memory")


def test_an_unknown_part_is_refused_with_the_closest_known_one() -> None:
    with pytest.raises(InputError, match="there is no part lod") as refused:
        policy.chosen("load,lod")
    assert "load" in refused.value.hint
