"""Which transactions are encoded here, and which are left to nft."""

from __future__ import annotations

import pytest

from acns.datapath import commands

FAMILIAR = """\
add table inet acns
add counter inet acns re_1
add set inet acns peers_2 { type ipv4_addr; comment "x"; elements = { 192.0.2.1, 192.0.2.2 }; }
add set inet acns peers_1 { type ipv4_addr; }
add chain inet acns eg_1
add rule inet acns eg_1 numgen inc mod 1 offset 7 . numgen inc mod 1 offset 0 . ip daddr @learned \
counter name re_1 accept comment "re_1 1 a name"
add element inet acns learned { 7 . 0 . 192.0.2.1 timeout 9ms }
add element inet acns from_address { 10.244.1.3 : jump eg_1 }
delete element inet acns cluster_addrs { 10.244.1.3, 10.244.1.4 }
flush chain inet acns eg_0
delete chain inet acns eg_0
delete set inet acns peers_0
delete counter inet acns re_0
"""


def test_a_change_of_policy_becomes_one_message_a_line() -> None:
    encoded = commands.messages(FAMILIAR)
    assert encoded is not None
    assert len(encoded) == len(FAMILIAR.splitlines()) + 1  # a set and its first elements are two


@pytest.mark.parametrize(
    "line",
    [
        "add chain inet acns base { type filter hook forward priority 0; policy accept; }",
        "add set inet acns cidr_1 { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }",
        "add set inet acns learned { typeof numgen inc mod 2 . ip daddr; flags timeout; }",
        "add set inet acns dns_1 { type ipv4_addr . inet_proto . inet_service; }",
        "add map inet acns new { type ifname . ipv4_addr : verdict; }",
        "flush map inet acns old",
        "add element inet acns ported { tcp }",
        "add element inet acns dns_1 { 192.0.2.1 . tcp . 53 }",
        "add element inet acns peers_1 { 10.0.0.0/8 }",
        "add element inet acns peers_1 { " + ", ".join(["192.0.2.1"] * 4000) + " }",
        "add rule inet acns eg_1 drop",
        'add rule inet acns eg_1 ip daddr 192.0.2.1 drop comment "x"',
        'add rule inet acns eg_1 ct state snat drop comment "x"',
        'add rule inet acns eg_1 meta l4proto gre drop comment "x"',
        'add rule inet acns eg_1 icmp type 256 drop comment "x"',
        'add rule inet acns eg_1 th dport 65536 drop comment "x"',
        'add rule inet acns eg_1 dropping comment "x"',
        "add table inet other",
        "delete table inet acns",
        "",
    ],
)
def test_anything_else_makes_the_whole_transaction_nfts(line: str) -> None:
    assert commands.messages(f"{FAMILIAR}{line}\n") is None
