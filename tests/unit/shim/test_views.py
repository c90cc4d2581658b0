"""What the shim shows of its memory: names, addresses, from whose query, until when."""

from __future__ import annotations

import json
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from acns.dns import name as names
from acns.dns.pattern import match_name
from acns.fqdn.cache import NameCache
from acns.shim import views
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.telemetry import metrics
from acns.telemetry.http import HealthServer, Readiness
from tests import agent_pages

API = match_name("api.example.com")
WANTED = match_name("www.example.com")
ADDRESS = IPv4Address("198.51.100.10").packed


class _Kernel:
    """Takes whatever is written."""

    def put(self, wanted: object) -> None: ...


def learned(now: float = 1000.0) -> Learned:
    found = Learned(NameCache(), cast(Kernel, _Kernel()), margin_s=60.0, clock=lambda: now)
    found.cache.set_selectors([API, WANTED])
    found.in_kernel = frozenset([API])
    return found


def addresses(memory: Learned, wall: float = 1000.0) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], views.cache(memory, lambda: wall)["addresses"])


def test_an_address_says_which_query_it_is_from_and_until_when() -> None:
    memory = learned()
    memory.learn(names.from_text("api.example.com"), [ADDRESS], 30, "default/frontend")
    assert addresses(memory) == [
        {
            "name": "api.example.com.",
            "address": "198.51.100.10",
            "opens": ["name:api.example.com."],
            "learned_at": 1000.0,
            "expires_at": 1030.0,
            "asked_by": "default/frontend",
            "stay": "fresh",
            "stays_until": 1030.0,
        }
    ]


def test_times_are_told_by_the_wall_clock_however_it_was_set_meanwhile() -> None:
    memory = learned()
    memory.learn(names.from_text("api.example.com"), [ADDRESS], 30)
    (found,) = addresses(memory, wall=4600.0)
    assert (found["learned_at"], found["expires_at"], found["stays_until"]) == (4600.0, 4630.0, 4630.0)


def test_an_address_of_a_name_that_no_selector_wants_opens_nothing() -> None:
    memory = learned()
    memory.learn(names.from_text("other.example.com"), [ADDRESS], 30, "default/frontend")
    assert addresses(memory)[0]["opens"] == []


def test_a_set_that_the_kernel_has_not_yet_opens_nothing() -> None:
    memory = learned()
    memory.learn(names.from_text("www.example.com"), [ADDRESS], 30)
    assert addresses(memory)[0]["opens"] == []


def test_the_latest_query_is_the_one_that_is_told() -> None:
    memory = learned()
    memory.learn(names.from_text("api.example.com"), [ADDRESS], 30, "default/frontend")
    memory.learn(names.from_text("api.example.com"), [ADDRESS], 10, "default/batch")
    (found,) = addresses(memory)
    assert (found["asked_by"], found["expires_at"]) == ("default/batch", 1030.0)


def test_what_an_earlier_run_has_learned_has_no_name() -> None:
    memory = learned()
    memory.cache.adopt(API, ADDRESS, 1500.0)
    (found,) = addresses(memory)
    assert (found["name"], found["learned_at"], found["opens"]) == ("", None, ["name:api.example.com."])


async def test_a_view_is_served_as_json_where_readiness_is(tmp_path: Path) -> None:
    path = tmp_path / "shim.sock"
    server = HealthServer(str(path), metrics.new_registry(), Readiness, views.of(learned()))
    await server.start()
    try:
        _, body = await agent_pages.get(path, views.CACHE)
        assert json.loads(body) == {"version": 1, "now": pytest.approx(time.time(), abs=60), "addresses": []}
        assert (await agent_pages.get(path, "/readyz"))[0] == 200
    finally:
        await server.stop()
