"""`policy.explain` about a lab on kind: objects and names are the cluster's; by stand-ins for programs."""

from __future__ import annotations

import pytest

from lab.errors import InputError
from lab.policy_tools import commands

from .conftest import Desk


def explained(*words: str, dns: str | None = None, expect: str | None = None) -> int:
    about = commands.About(name="demo")
    return commands.run_explain(words, about, dns=dns, server=None, expect=expect, as_json=False)


def test_what_a_name_has_opened_is_the_shims_word_and_the_rest_the_clusters(
    running: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explained("frontend", "198.51.100.77:443", expect="allowed") == 0
    assert "api.example.com" in capsys.readouterr().out
    assert explained("frontend", "198.51.100.78:443", expect="denied") == 0
    assert explained("frontend", "198.51.100.78:443", expect="allowed") == 1
    assert explained("frontend", dns="api.example.com", expect="allowed") == 0
    assert explained("frontend", dns="evil.example.net", expect="denied") == 0


@pytest.mark.parametrize(
    "said",
    ["", "not found", "[]", "{}", '{"addresses": 1}', '{"addresses": [1]}', '{"addresses": [{"name": 1}]}'],
)
def test_a_shim_that_does_not_answer_is_told_and_nothing_is_known_then(
    running: Desk, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    running.say("kubectl exec acns-shim-aaaaa /cache", stdout=said, exit_code=1)
    assert explained("frontend", "198.51.100.77:443", expect="denied") == 0
    assert "the shim of node1 does not answer" in capsys.readouterr().err


def test_a_pod_that_is_not_there_is_told(running: Desk) -> None:
    with pytest.raises(InputError, match="there is no pod 'nobody'"):
        explained("nobody", "198.51.100.77:443")
