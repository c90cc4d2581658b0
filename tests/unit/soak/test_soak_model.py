"""The soak's model: what it takes for must, must not, and may."""

from __future__ import annotations

import pytest

from ...soak import plan, world
from ...soak.model import EITHER, NO, YES, Disturbance, Mapping, Model, Trouble, matches

NAME, ADDRESS = f"x1.{world.zone('alpha')}", "198.18.0.1"
ANY: tuple[Trouble, ...] = ("link", "upstream", "resolver")
SHARED, SHARED_ADDRESS = "x2.extra.soak.example", "198.18.0.2"


@pytest.fixture
def model() -> Model:
    return Model({ADDRESS: NAME, SHARED_ADDRESS: SHARED})


def told(pod: str, name: str, address: str, at: float = 100.0, ttl_s: float = 5.0) -> Mapping:
    return Mapping(pod, name, address, at, at + ttl_s)


@pytest.mark.parametrize(
    ("selector", "name", "expected"),
    [
        ("*.a.example", "x.a.example", True),
        ("*.a.example", "a.example", False),
        ("*.a.example", "x.y.a.example", False),
        ("x.a.example", "x.a.example", True),
    ],
)
def test_a_wildcard_is_one_label(selector: str, name: str, expected: bool) -> None:
    assert matches(selector, name) is expected


def test_an_address_of_an_allowed_name_must_pass_once_it_was_told_until_its_ttl_ends(model: Model) -> None:
    assert model.connection("alpha", ADDRESS, 99.0) is NO
    model.asked("alpha", NAME, 99.5)
    assert model.connection("alpha", ADDRESS, 99.6) is EITHER
    model.told(told("alpha", NAME, ADDRESS))
    assert model.connection("alpha", ADDRESS, 100.0) is YES
    assert model.connection("alpha", ADDRESS, 104.9) is YES
    assert model.connection("alpha", ADDRESS, 105.1) is EITHER
    assert model.connection("alpha", ADDRESS, 150.0) is NO


def test_a_shim_that_is_away_may_keep_an_expired_address_open(model: Model) -> None:
    model.asked("alpha", NAME, 100.0)
    model.weather.begins(Disturbance("shim", "", "stop shim", 145.0))
    assert model.connection("alpha", ADDRESS, 150.0) is EITHER


def test_another_pods_name_must_not_pass_whoever_asked_for_it(model: Model) -> None:
    model.asked("alpha", NAME, 100.0)
    model.told(told("alpha", NAME, ADDRESS))
    assert model.connection("beta", ADDRESS, 101.0) is NO
    assert model.query("beta", NAME, 101.0, 101.1) is NO


def test_what_one_pod_was_told_is_open_to_all_whose_policy_has_the_name(model: Model) -> None:
    for pod in ("alpha", "beta"):
        model.policies.edit(pod, world.EXTRA, True, 10.0).settled = 11.0
    model.told(told("alpha", SHARED, SHARED_ADDRESS))
    assert model.connection("beta", SHARED_ADDRESS, 101.0) is YES
    assert model.connection("gamma", SHARED_ADDRESS, 101.0) is NO


def test_on_another_port_nothing_passes_but_of_pods_without_policy(model: Model) -> None:
    model.asked("alpha", NAME, 99.0)
    model.told(told("alpha", NAME, ADDRESS))
    assert model.connection("alpha", ADDRESS, 101.0, world.OTHER_PORT) is NO
    assert model.connection(world.FREE, ADDRESS, 101.0, world.OTHER_PORT) is YES


def test_while_an_edit_is_under_way_both_are_right_and_afterwards_one(model: Model) -> None:
    change = model.policies.edit("alpha", world.EXTRA, True, 10.0)
    assert model.query("alpha", SHARED, 9.0, 9.1) is NO
    assert model.query("alpha", SHARED, 20.0, 20.1) is EITHER
    change.settled = 30.0
    assert model.query("alpha", SHARED, 31.0, 31.1) is YES
    model.policies.edit("alpha", world.EXTRA, False, 40.0).settled = 41.0
    assert model.query("alpha", SHARED, 42.0, 42.1) is NO


def test_a_dead_shim_excuses_no_lost_query(model: Model) -> None:
    model.weather.begins(Disturbance("shim", "", "kill shim", 100.0))
    assert not model.excuses_silence("alpha", NAME, 101.0, *ANY)


def test_faults_excuse_only_those_whom_they_touch(model: Model) -> None:
    model.weather.begins(Disturbance("link", "default/beta", "link down", 100.0, 102.0))
    model.weather.begins(Disturbance("resolver", "", "kill resolver", 200.0, 202.0))
    assert model.excuses_silence("beta", NAME, 101.0, *ANY)
    assert not model.excuses_silence("alpha", NAME, 101.0, *ANY)
    assert model.excuses_silence("alpha", NAME, 201.0, *ANY)
    assert not model.excuses_silence(world.FREE, NAME, 201.0, *ANY)
    assert not model.excuses_loss("alpha", 201.0)


def test_the_same_seed_is_the_same_plan() -> None:
    assert plan.epoch(7, 3) == plan.epoch(7, 3)
    assert plan.epoch(7, 3) != plan.epoch(8, 3)
    assert list(plan.edits(7, 100.0)) == list(plan.edits(7, 100.0))
