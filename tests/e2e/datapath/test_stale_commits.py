"""A ruleset made for a table that somebody else has changed since: dropped, as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from acns.datapath.model import Content, Inventory, Ruleset, SetSpec
from acns.datapath.nfnetlink import Overtaken
from acns.datapath.nft import Nft
from acns.datapath.transaction import transaction
from acns.errors import EnvironmentFault
from acns.shim.kernel import Kernel

pytestmark = pytest.mark.root

ELSEWHERE = "add table ip elsewhere\n"
IN_OUR_TABLE = "add table inet acns\nadd set inet acns theirs { type ipv4_addr; }\n"
OURS = SetSpec("ours", "ipv4_addr", Content.KEPT, frozenset({"192.0.2.1"}))
NEW = Ruleset(frozenset(), {"ours": OURS}, {}, {}, {})
THROUGH_LIBNFTABLES = "add table inet acns\nadd set inet acns x { typeof ip daddr; }\n"
"""Which the raw encoder does not know."""


@pytest.fixture
def kernel(alone: Any) -> Iterator[Kernel]:
    """The shim's, as it starts."""
    made: Kernel = alone.do(Kernel)
    yield made
    made.close()


@pytest.fixture
def other(alone: Any) -> Iterator[Nft]:
    """Somebody else."""
    made: Nft = alone.do(Nft)
    yield made
    made.close()


@pytest.mark.parametrize("text", [IN_OUR_TABLE, THROUGH_LIBNFTABLES])
def test_a_transaction_for_an_older_generation_changes_nothing(kernel: Kernel, other: Nft, text: str) -> None:
    read_at = kernel.nft.generation()
    other.apply(ELSEWHERE)
    with pytest.raises(Overtaken):
        kernel.nft.apply(text, read_at)
    assert not other.inventory().exists
    kernel.nft.apply(text, kernel.nft.generation())
    assert other.inventory().exists


async def test_a_plan_for_a_table_that_somebody_else_has_changed_meanwhile_is_dropped(
    kernel: Kernel, other: Nft
) -> None:
    held = await kernel.inventory()
    other.apply(IN_OUR_TABLE)
    with pytest.raises(EnvironmentFault, match="somebody else has changed our table"):
        await kernel.commit(transaction(held, NEW), NEW)
    assert other.inventory().sets == {"theirs"}
    held = await kernel.inventory()
    await kernel.commit(transaction(held, NEW), NEW)
    assert other.inventory() == Inventory.of(NEW) == await kernel.inventory()


async def test_what_others_do_with_their_own_tables_holds_no_plan_up(kernel: Kernel, other: Nft) -> None:
    held = await kernel.inventory()
    other.apply(ELSEWHERE)
    await kernel.commit(transaction(held, NEW), NEW)
    assert other.inventory() == Inventory.of(NEW)
    assert kernel.is_as_left()
    assert not kernel.is_ours_alone()  # it may have been the resolver, in a learned set
