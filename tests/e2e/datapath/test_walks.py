"""A node's table after any sequence of changes: just what it would be if it had been made at once."""

from __future__ import annotations

from ipaddress import IPv4Address
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acns.datapath import commands, netlink, nfnetlink, ruleset
from acns.datapath.model import Inventory
from acns.datapath.nfnetlink import NetfilterSocket
from acns.datapath.nft import Nft
from acns.datapath.ruleset import Compiler, DenyResponse, Grants, Ruleset
from acns.datapath.transaction import COMMIT
from acns.dns import pattern
from acns.policy import model
from acns.policy.model import NodePolicy

from ...unit.datapath.policies import INTERFACES, POD_B, WHERE, endpoint, match, node, only, pod_a
from ...unit.datapath.walks import INSIDE, NAMES, SERVERS, TRAFFIC, Step, walks

pytestmark = pytest.mark.root

SERVER = IPv4Address("192.0.2.7")
EXPIRATION = 5
SAYS_ALL = only(
    *(match(peer, traffic) for peer in (*INSIDE, *NAMES) for traffic in TRAFFIC),
    deny=tuple(match(peer, traffic) for peer in INSIDE for traffic in TRAFFIC),
)
DNS = tuple(model.DNSAllow(servers, None, True, WHERE) for servers in SERVERS)
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


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walk=walks(), response=st.sampled_from(["none", "icmp"]))
def test_what_reaches_the_kernel_is_what_nft_makes_of_the_same_text(
    alone: Any, another: Any, walk: list[Step], response: DenyResponse
) -> None:
    compiler = Compiler(Grants.fresh(), deny_response=response)
    apply_both(alone, another, [compiler.compile(step.node, step.interfaces, {}) for step in walk])


@pytest.mark.parametrize("response", ["none", "icmp"])
def test_a_change_with_everything_in_it_is_familiar_and_what_nft_makes_of_it(
    alone: Any, another: Any, response: DenyResponse
) -> None:
    """The sets of CIDRs and DNS servers are there already: their making is left to nft."""
    compiler = Compiler(Grants.fresh(), deny_response=response)
    neighbour, new = endpoint("b", POD_B, SAYS_ALL, SAYS_ALL, DNS), model.FQDN(pattern.match_name("new"))
    more = [match(peer, model.Ports(model.Protocol.UDP, 1, 2)) for peer in (new, model.Addresses("new"))]
    say_more = only(*SAYS_ALL.allows, *more, deny=SAYS_ALL.denies)
    first = compiler.compile(node(neighbour, pod_a()), INTERFACES, {})
    learned = {new.selector: {SERVER: 1000.0}}
    second = compiler.compile(node(neighbour, pod_a(say_more, SAYS_ALL, dns=DNS)), INTERFACES, learned)
    transactions = apply_both(alone, another, [first, second, first])
    assert [commands.messages(text) is not None for text in transactions] == [False, True, True]


def apply_both(here: Any, there: Any, tables: list[Ruleset]) -> list[str]:
    """One after another, here by us and there by nft's own command, comparing bytes; the transactions."""
    nft, socket = here.do(Nft), there.do(NetfilterSocket)
    held, texts = Inventory(), []
    try:
        for table in tables:
            texts.append(ruleset.transaction(held, table))
            for commit in texts[-1].split(f"{COMMIT}\n"):
                if encoded := commands.messages(commit):
                    nft._socket.batch(encoded, "what nft.apply would leave to nft if it were refused")
                else:
                    nft.apply(commit)
                with NamedTemporaryFile("w") as file:
                    file.write(commit)
                    file.flush()
                    there.run("nft", "-f", file.name)
            assert raw(nft._socket) == raw(socket)
            held = Inventory.of(table)
        return texts
    finally:
        nft.remove()
        nft.close()
        there.run("nft", "flush", "ruleset")
        socket.close()


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
