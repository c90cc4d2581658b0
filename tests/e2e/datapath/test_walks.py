"""A node's table after any sequence of changes: just what it would be if it had been made at once."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acns.datapath import commands, netlink, nfnetlink, ruleset
from acns.datapath.model import Inventory
from acns.datapath.nfnetlink import NetfilterSocket
from acns.datapath.nft import Nft
from acns.datapath.ruleset import Compiler, DenyResponse, Grants
from acns.datapath.transaction import COMMIT
from acns.policy import model
from acns.policy.model import NodePolicy

from ...unit.datapath.policies import INTERFACES, WHERE, match, node, only, pod_a
from ...unit.datapath.walks import INSIDE, NAMES, SERVERS, TRAFFIC, Step, walks

pytestmark = pytest.mark.root

SERVER = IPv4Address("192.0.2.7")
EXPIRATION = 5
SAYS_ALL = only(
    *(match(peer, traffic) for peer in (*INSIDE, *NAMES) for traffic in TRAFFIC),
    deny=tuple(match(peer, traffic) for peer in INSIDE for traffic in TRAFFIC),
)
DNS = (model.DNSAllow(SERVERS[2], None, True, WHERE),)
NOBODY = NodePolicy("n1", (), frozenset(), frozenset(), frozenset())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walk=walks())
def test_every_step_leaves_what_its_ruleset_says_and_nothing_else(alone: Any, walk: list[Step]) -> None:
    nft: Nft = alone.do(Nft)
    try:
        grants = Grants.fresh()
        compiler, held, table = Compiler(grants), Inventory(), None
        for step in walk:
            table = compiler.compile(step.node, step.interfaces, {})
            nft.apply(ruleset.transaction(held, table))
            held = Inventory.of(table)
            assert nft.inventory() == held
        stepwise = listed(alone)
        nft.remove()
        nft.apply(ruleset.transaction(Inventory(), table))
        assert listed(alone) == stepwise
        empty = compiler.compile(NOBODY, {}, {})
        nft.apply(ruleset.transaction(Inventory.of(table), empty))
        assert nft.inventory() == Inventory.of(empty)
        assert empty == ruleset.compile_ruleset(NOBODY, {}, Grants.fresh(), {})
    finally:
        nft.remove()
        nft.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walk=walks(), response=st.sampled_from(["none", "icmp"]))
def test_what_reaches_the_kernel_is_what_nft_makes_of_the_same_text(
    alone: Any, another: Any, walk: list[Step], response: DenyResponse
) -> None:
    """Changes are encoded by us: here nft's own command does the same beside it, and bytes are compared."""
    nft, socket = alone.do(Nft), another.do(NetfilterSocket)
    try:
        compiler, held = Compiler(Grants.fresh(), deny_response=response), Inventory()
        for step in walk:
            table = compiler.compile(step.node, step.interfaces, {NAMES[0].selector: {SERVER: 1000.0}})
            text = ruleset.transaction(held, table)
            nft.apply(text)
            for commit in text.split(COMMIT):
                another.shell(f"nft -f - <<'NFT'\n{commit}NFT")
            assert raw(nft._socket) == raw(socket)
            held = Inventory.of(table)
    finally:
        nft.remove()
        nft.close()
        another.run("nft", "flush", "ruleset")
        socket.close()


def test_changes_of_policy_are_familiar_and_first_tables_are_not() -> None:
    grants, text = Compiler(Grants.fresh()), ruleset.transaction
    free, shut = (node(pod_a(policy, policy, dns=DNS)) for policy in (model.DirectionPolicy(), SAYS_ALL))
    first, second = (grants.compile(one, INTERFACES, {}) for one in (free, shut))
    assert commands.messages(text(Inventory(), first)) is None
    *ahead, change = text(Inventory.of(first), second).split(f"{COMMIT}\n")
    assert commands.messages(change)
    assert all(commands.messages(one) is None for one in ahead)
    assert commands.messages(text(Inventory.of(second), first))


def raw(socket: NetfilterSocket) -> dict[str, Any]:
    """The table's rules, sets, elements, chains and counters as the kernel gives them; without what counts
    time, packets or objects."""
    found: dict[str, Any] = {}
    for kind, passing in (("CHAIN", {2, 6}), ("RULE", {3, 6}), ("SET", {16, 20}), ("OBJ", {4, 5, 6})):
        objects = socket.objects(getattr(nfnetlink, f"GET{kind}"), netlink.text(1, "acns"), kind)
        found[kind] = [
            {number: value for number, value in netlink.walk(one) if number not in passing} for one in objects
        ]
    names = [netlink.name(one[2]) for one in found["SET"]]
    found["elements"] = {name: sorted(map(untimed, socket.elements("acns", name))) for name in names}
    return found


def untimed(element: netlink.Attributes) -> list[tuple[int, bytes]]:
    return sorted((number, value) for number, value in element.items() if number != EXPIRATION)


def listed(where: Any) -> list[str]:
    """The table as nft prints it, without counts; its parts sorted, as their order is history."""
    printed = where.run("nft", "-s", "list", "table", "inet", "acns")
    blocks = printed.removeprefix("table inet acns {\n").removesuffix("}\n").strip("\n").split("\n\n")
    return sorted(_unordered(block) if " elements = {" in block else block for block in blocks)


def _unordered(block: str) -> str:
    return " ".join(sorted(block.replace(",", " ").split()))
