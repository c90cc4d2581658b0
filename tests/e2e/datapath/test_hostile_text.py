"""Selector text from policies ends up in nft's quotes: nothing in it may end them."""

from __future__ import annotations

from typing import Any

import pytest

from acns.datapath import ruleset

pytestmark = pytest.mark.root

HOSTILE = [
    'quote" } drop',
    "new\nline",
    "back\\slash",
    "tab\tnul\0",
    "ünï¢ode 🦉",
    "x" * 400,
    '";#',
    "$(reboot)",
    "{a,b}",
    "@set * \udcff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_selector_text_breaks_out_of_a_comment(world: Any, text: str) -> None:
    peers = world.pods(text, "10.244.1.4"), world.pods("honest", "10.244.1.4")
    matches = tuple(world.allow(peer, 80) for peer in peers)
    policy = world.policy(a=world.only(*matches, deny=matches), to_a=world.only(*matches, deny=matches))
    world.enforce(policy)
    assert world.enforce(policy) == ""
    found = world.nft.inventory().chain_rules
    assert found == {name: chain.ids for name, chain in world.ruleset.chains.items()}
    assert any(one.text.startswith(text) for one in ruleset.describe(world.ruleset).values())
