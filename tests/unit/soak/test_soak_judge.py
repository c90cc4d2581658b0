"""The soak's judge: of each kind what is a violation, and what is none."""

from __future__ import annotations

import math
import time

import pytest

from ...soak import world
from ...soak.judge import NOERROR, REFUSED, Judge
from ...soak.model import Disturbance, Model, Trouble
from ...soak.tally import Tally

SERVFAIL = 2
OWN, OWN_ADDRESSES = f"x1.{world.zone('alpha')}", ("198.18.0.1", "198.18.0.2")
DENIED, DENIED_ADDRESS = f"x2.{world.DENIED}", "198.18.0.3"
KEY = (OWN_ADDRESSES[0], 1_000_001)


@pytest.fixture
def judge() -> Judge:
    model = Model({**dict.fromkeys(OWN_ADDRESSES, OWN), DENIED_ADDRESS: DENIED})
    return Judge(model, Tally(1, model.weather.all))


@pytest.fixture
def now() -> float:
    return time.monotonic()


def befallen(judge: Judge, trouble: Trouble, since: float) -> None:
    judge.model.weather.begins(Disturbance(trouble, "node1", f"{trouble} at fault", since - 1.0))


def violations(judge: Judge) -> list[str]:
    judge.judge_until(math.inf)
    return [one.kind for one in judge.tally.violations]


# --- queries ----------------------------------------------------------------------------------------------


def test_an_allowed_name_that_is_answered_is_right(judge: Judge, now: float) -> None:
    judge.answered("alpha", OWN, now, NOERROR, OWN_ADDRESSES, 5.0)
    assert violations(judge) == []
    assert judge.tally.counts["queries answered"] == 1


def test_an_address_of_another_name_is_a_lie(judge: Judge, now: float) -> None:
    judge.answered("alpha", OWN, now, NOERROR, (OWN_ADDRESSES[0], DENIED_ADDRESS), 5.0)
    assert violations(judge) == ["wrongly passed"]


@pytest.mark.parametrize("rcode", [NOERROR, 3])
def test_a_denied_name_that_is_answered_is_passed(judge: Judge, now: float, rcode: int) -> None:
    judge.answered("alpha", DENIED, now, rcode, (), 0.0)
    assert violations(judge) == ["wrongly passed"]


def test_a_denied_name_that_is_refused_is_right(judge: Judge, now: float) -> None:
    judge.answered("alpha", DENIED, now, REFUSED, (), 0.0)
    assert violations(judge) == []
    assert judge.tally.counts["queries refused"] == 1


@pytest.mark.parametrize("trouble", [None, "shim"])
@pytest.mark.parametrize("rcode", [None, REFUSED, SERVFAIL, NOERROR])
def test_nothing_but_a_fault_on_its_way_excuses_a_lost_query(
    judge: Judge, now: float, trouble: Trouble | None, rcode: int | None
) -> None:
    if trouble:
        befallen(judge, trouble, now)
    if rcode is None:
        judge.silent("alpha", OWN, now)
    else:
        judge.answered("alpha", OWN, now, rcode, (), 0.0)
    assert violations(judge) == ["wrongly dropped"]


@pytest.mark.parametrize("trouble", ["link", "upstream", "resolver"])
def test_a_fault_on_its_way_excuses_a_lost_query(judge: Judge, now: float, trouble: Trouble) -> None:
    befallen(judge, trouble, now)
    judge.silent("alpha", OWN, now)
    judge.answered("alpha", OWN, now, SERVFAIL, (), 0.0)
    assert violations(judge) == []
    assert judge.tally.counts["queries lost to a fault"] == 2


def test_no_fault_of_its_own_has_a_resolver_refuse_an_allowed_name(judge: Judge, now: float) -> None:
    befallen(judge, "resolver", now)
    judge.answered("alpha", OWN, now, REFUSED, (), 0.0)
    assert violations(judge) == ["wrongly dropped"]


@pytest.mark.parametrize("trouble", ["link", "upstream"])
def test_a_dns_server_that_lost_its_own_may_refuse(judge: Judge, now: float, trouble: Trouble) -> None:
    befallen(judge, trouble, now)
    judge.answered("alpha", OWN, now, REFUSED, (), 0.0)
    assert violations(judge) == []


def test_no_dns_server_is_needed_to_refuse(judge: Judge, now: float) -> None:
    befallen(judge, "upstream", now)
    judge.silent("alpha", DENIED, now)
    assert violations(judge) == ["wrongly dropped"]


def test_queries_that_nothing_would_have_excused_are_counted(judge: Judge, now: float) -> None:
    judge.answered("alpha", OWN, now, NOERROR, OWN_ADDRESSES, 5.0)
    befallen(judge, "shim", now)
    judge.judge_until(math.inf)
    judge.answered("alpha", OWN, now, NOERROR, OWN_ADDRESSES, 5.0)
    judge.judge_until(math.inf)
    befallen(judge, "resolver", now)
    judge.answered("alpha", OWN, now, NOERROR, OWN_ADDRESSES, 5.0)
    judge.judge_until(math.inf)
    assert judge.tally.counts["queries that no fault excused"] == 2
    assert judge.tally.counts["queries that no fault excused, without a shim"] == 2


def test_a_query_that_no_pod_may_ask_is_a_leak_at_the_server(judge: Judge, now: float) -> None:
    judge.reached_the_server(OWN, now)
    assert violations(judge) == []
    judge.reached_the_server(DENIED, now)
    assert violations(judge) == ["leaks"]


# --- connections ------------------------------------------------------------------------------------------


def told(judge: Judge, now: float) -> None:
    judge.model.asked("alpha", OWN, now)
    judge.answered("alpha", OWN, now, NOERROR, OWN_ADDRESSES, 60.0)


def test_a_connection_to_what_was_told_must_come_out_of_the_node(judge: Judge, now: float) -> None:
    told(judge, now)
    judge.connected("alpha", KEY[0], world.PORT, KEY, "at once")
    judge.passed[KEY] = now
    judge.connected("alpha", KEY[0], world.PORT, (KEY[0], 2), "again")
    assert violations(judge) == ["wrongly dropped"]


def test_a_link_at_fault_excuses_a_connection_and_no_other_fault_does(judge: Judge, now: float) -> None:
    told(judge, now)
    for trouble in ("shim", "resolver", "upstream"):
        befallen(judge, trouble, now)  # type: ignore[arg-type]
    judge.connected("alpha", KEY[0], world.PORT, KEY, "at once")
    assert violations(judge) == ["wrongly dropped"]
    befallen(judge, "link", now)
    judge.connected("alpha", KEY[0], world.PORT, KEY, "at once")
    assert violations(judge) == ["wrongly dropped"]


@pytest.mark.parametrize(
    ("pod", "address", "port"),
    [
        ("alpha", DENIED_ADDRESS, world.PORT),
        ("beta", OWN_ADDRESSES[0], world.PORT),
        ("alpha", OWN_ADDRESSES[0], world.OTHER_PORT),
    ],
)
def test_in_no_weather_a_connection_may_pass_that_must_not(
    judge: Judge, now: float, pod: str, address: str, port: int
) -> None:
    told(judge, now)
    for trouble in ("link", "shim", "resolver", "upstream"):
        befallen(judge, trouble, now)  # type: ignore[arg-type]
    judge.passed[address, 7] = now
    judge.connected(pod, address, port, (address, 7), "a knock")
    assert violations(judge) == ["wrongly passed"]


def test_what_must_not_pass_and_does_not_is_right(judge: Judge, now: float) -> None:
    judge.connected("alpha", DENIED_ADDRESS, world.PORT, (DENIED_ADDRESS, 7), "a knock")
    assert violations(judge) == []
    assert judge.tally.counts["connections must not pass"] == 1
