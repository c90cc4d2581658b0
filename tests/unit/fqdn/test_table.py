"""Looking things up in a policy snapshot."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from acns.dns import name, pattern
from acns.fqdn.table import DNSRule, DNSServer, EndpointAddress, IdentityPrefix, PolicyTable

WWW = name.from_text("www.example.com")


def address(text: str) -> bytes:
    return IPv4Address(text).packed


def prefix(text: str, identity: int) -> IdentityPrefix:
    network = IPv4Network(text)
    return IdentityPrefix(network.network_address.packed, network.prefixlen, identity)


def test_an_endpoints_own_identity_beats_any_prefix_and_the_longest_prefix_beats_shorter_ones() -> None:
    table = PolicyTable(
        endpoints=[EndpointAddress(address("10.0.0.1"), 5, 300)],
        prefixes=[prefix("10.0.0.1/32", 9), prefix("10.0.0.0/8", 16), prefix("10.0.0.0/24", 17)],
    )
    assert [table.identity_of(address(one)) for one in ("10.0.0.1", "10.0.0.2", "10.9.0.1", "11.0.0.1")] == [
        300,
        17,
        16,
        2,
    ]


def test_a_default_prefix_covers_everything() -> None:
    table = PolicyTable(prefixes=[prefix("0.0.0.0/0", 16)])
    assert table.identity_of(address("203.0.113.1")) == 16


def test_only_endpoints_with_an_id_are_sources() -> None:
    table = PolicyTable(
        endpoints=[
            EndpointAddress(address("10.0.0.1"), 5, 300),
            EndpointAddress(address("10.0.1.1"), 0, 300),
        ]
    )
    assert table.endpoint_of(address("10.0.0.1")) == 5
    assert table.endpoint_of(address("10.0.1.1")) is None
    assert table.identity_of(address("10.0.1.1")) == 300


def test_of_two_things_said_of_one_address_or_prefix_the_last_counts_and_it_is_told() -> None:
    pod, twice = (
        address("10.0.0.1"),
        PolicyTable(prefixes=[prefix("10.0.0.0/8", 16), prefix("10.0.0.0/8", 17)]),
    )
    assert twice.identity_of(pod) == 17
    assert twice.contradiction == "10.0.0.0/8 is of several identities"
    for other in (EndpointAddress(pod, 6, 300), EndpointAddress(pod, 5, 301)):
        table = PolicyTable(endpoints=[EndpointAddress(pod, 5, 300), other])
        assert (table.endpoint_of(pod), table.identity_of(pod)) == (other.endpoint_id, other.identity)
        assert table.contradiction == "10.0.0.1 is of several endpoints"


def test_what_is_said_twice_alike_or_of_different_prefixes_is_no_contradiction() -> None:
    table = PolicyTable(
        endpoints=[EndpointAddress(address("10.0.0.1"), 5, 300)] * 2,
        prefixes=[prefix("10.0.0.0/8", 16)] * 2 + [prefix("10.0.0.0/9", 17), prefix("10.0.0.1/32", 9)],
    )
    assert table.contradiction == ""


def test_rules_add_up() -> None:
    table = PolicyTable(
        [
            DNSRule(1, (pattern.match_name("a.io"),), (DNSServer(2, 53, 17),)),
            DNSRule(1, (pattern.match_name("b.io"),), (DNSServer(2, 5353, 17),)),
        ]
    )
    server = address("192.0.2.1")
    assert table.allowed(1, server, 53, 17, name.from_text("a.io"))
    assert table.allowed(1, server, 5353, 17, name.from_text("b.io"))
    assert not table.allowed(1, server, 53, 17, name.from_text("b.io"))


def test_zero_is_any_server_port_or_protocol_and_no_server_is_none() -> None:
    server = address("192.0.2.1")
    assert PolicyTable([DNSRule(1, (), (DNSServer(0, 0, 0),))]).allowed(1, server, 99, 6, WWW)
    assert not PolicyTable([DNSRule(1, (), (DNSServer(0, 53, 0),))]).allowed(1, server, 99, 6, WWW)
    assert not PolicyTable([DNSRule(1, (), (DNSServer(3, 0, 0),))]).allowed(1, server, 99, 6, WWW)
    assert not PolicyTable([DNSRule(1, (), ())]).allowed(1, server, 53, 17, WWW)


def test_an_empty_table_knows_nobody_and_allows_nothing() -> None:
    table = PolicyTable()
    assert table.endpoint_of(address("10.0.0.1")) is None
    assert not table.allowed(1, address("10.0.0.1"), 53, 17, WWW)


def test_a_remembered_result_is_for_that_very_question_only() -> None:
    table = PolicyTable([DNSRule(1, (pattern.match_name("www.example.com"),), (DNSServer(2, 53, 17),))])
    server = address("192.0.2.1")
    for _ in range(2):
        assert table.allowed(1, server, 53, 17, WWW)
        assert not table.allowed(2, server, 53, 17, WWW)
        assert not table.allowed(1, server, 53, 6, WWW)
        assert not table.allowed(1, server, 54, 17, WWW)
        assert not table.allowed(1, server, 53, 17, WWW[1:])


def test_snapshots_with_the_same_contents_are_equal() -> None:
    rules = [DNSRule(1, (pattern.match_name("a.io"),), (DNSServer(2, 53, 17),))]
    assert PolicyTable(rules) == PolicyTable(list(rules))
    assert PolicyTable(rules) != PolicyTable()
