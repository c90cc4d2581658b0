"""`invoke lab.cache`: what is printed, and the exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from acns.dns.pattern import match_name
from acns.errors import InputError
from acns.fqdn.cache import Stay
from lab.policy_tools import commands, name_cache
from lab.policy_tools.name_cache import Entry, NodeCache

API = match_name("api.example.com")
CONNECTION = "TCP 10.244.0.2:40000 → 198.51.100.10:443"


def entry(stay: Stay, *connections: str, ttl_left_s: float = -5.0) -> Entry:
    address = IPv4Address("198.51.100.10")
    return Entry("api.example.com.", address, (API,), ttl_left_s, stay, 7.0, "default/frontend", connections)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[NodeCache]:
    """What the lab is found to have."""
    found: list[NodeCache] = []
    monkeypatch.setattr(commands.Lab, "attach", lambda name: SimpleNamespace(name="lab"))
    monkeypatch.setattr(name_cache, "look", lambda lab, pod: found)
    return found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (entry(Stay.FRESH, ttl_left_s=12), "12 s"),
        (entry(Stay.FRESH, CONNECTION, ttl_left_s=12), f"fresh; {CONNECTION}"),
        (entry(Stay.IN_USE, CONNECTION), f"a connection lives: {CONNECTION}"),
        (entry(Stay.IN_USE, *[CONNECTION] * 5), f"{CONNECTION}; {CONNECTION} and 3 more"),
        (entry(Stay.NAME_IN_USE), "a connection to another address of its name lives"),
        (entry(Stay.GRACE), "grace, 7 s more"),
        (entry(Stay.DUE), "due: the next collection lets it go"),
    ],
)
def test_each_reason_has_its_words(
    shown: list[NodeCache], capsys: pytest.CaptureFixture[str], found: Entry, words: str
) -> None:
    shown.append(NodeCache("node1", True, (found,)))
    assert commands.run_cache([], None, as_json=False) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("field", ["missing", "foreign"])
def test_a_kernel_that_has_something_else_is_shown_and_exit_code_1(
    shown: list[NodeCache], capsys: pytest.CaptureFixture[str], field: str
) -> None:
    shown.append(NodeCache("node1", True, (), **{field: ("198.51.100.10 of api.example.com",)}))
    assert commands.run_cache([], None, as_json=False) == 1
    assert "198.51.100.10 of api.example.com" in capsys.readouterr().out
    assert commands.run_cache([], None, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["nodes"][0]["agrees"] is False


def test_more_than_one_pod_is_an_error_of_the_command_line(shown: list[NodeCache]) -> None:
    with pytest.raises(InputError, match="a b"):
        commands.run_cache(["a", "b"], None, as_json=False)


def test_an_address_of_two_names_is_said_to_be_both(
    shown: list[NodeCache], capsys: pytest.CaptureFixture[str]
) -> None:
    one = entry(Stay.FRESH, ttl_left_s=12)
    shown.append(NodeCache("node1", True, (one, replace(one, name="cdn.example.net."))))
    assert commands.run_cache([], None, as_json=False) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "node1: 198.51.100.10 is api.example.com and cdn.example.net: who may reach one of them" in text
    assert commands.run_cache([], None, as_json=True) == 0
    first, second = json.loads(capsys.readouterr().out)["nodes"][0]["addresses"]
    assert (first["also"], second["also"]) == (["cdn.example.net."], ["api.example.com."])
