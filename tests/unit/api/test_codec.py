"""The wire of FQDNData: both forms of an address, prefixes, names, whole snapshots."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.fqdn.table import PolicyTable


@given(st.ip_addresses())
def test_an_address_reads_the_same_as_text_and_written_back(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert codec.address_from_wire(str(address).encode()) == address.packed
    assert codec.address_to_wire(address.packed) == str(address).encode()


@given(st.ip_addresses(v=4))
def test_raw_ipv4_reads_as_itself_unless_it_is_the_text_of_an_ipv6_address(address: IPv4Address) -> None:
    read = codec.address_from_wire(address.packed)
    assert read == address.packed or len(read) == 16


def test_four_bytes_that_print_an_ipv6_address_never_open_an_ipv4_one() -> None:
    assert len(codec.address_from_wire(b"::12")) == 16


@pytest.mark.parametrize(
    "value", [b"", b"192.0.2", b"192.0.2.256", b"hosts", b"\xff" * 5, b"192.0.2.7 ", b"x" * 500]
)
def test_what_is_no_address_names_the_field(value: bytes) -> None:
    with pytest.raises(codec.BadMessage, match="record_ip"):
        codec.address_from_wire(value, "record_ip")


def test_ipv4_only_keeps_order_and_drops_ipv6_and_repeats() -> None:
    one, two, six = b"\xc0\0\2\1", b"\xc0\0\2\2", b"\0" * 16
    assert codec.ipv4_only([two, six, one, two]) == (two, one)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_prefix_survives_the_wire(address: IPv4Address, length: int) -> None:
    network = IPv4Network((address, length), strict=False)
    wire = codec.prefix_to_wire(network)
    assert (len(wire), wire[4]) == (5, length)
    assert codec.prefix_from_wire(wire) == network
    assert codec.prefix_from_wire(address.packed + bytes((length,))) == network  # host bits do not matter


def test_an_ipv6_prefix_is_left_out() -> None:
    assert codec.prefix_from_wire(b"\0" * 16 + b"\x40") is None


@pytest.mark.parametrize("value", [b"", b"\0" * 4, b"\0\0\0\0\x21", b"10.0.0.0/8", b"\0" * 16 + b"\x81"])
def test_what_is_no_prefix_is_refused(value: bytes) -> None:
    with pytest.raises(codec.BadMessage):
        codec.prefix_from_wire(value)


@pytest.mark.parametrize(
    ("bits", "network"),
    [(128, "10.96.0.10/32"), (124, "10.96.0.0/28"), (96, "0.0.0.0/0"), (95, None), (0, None)],
)
def test_a_prefix_may_come_in_gos_sixteen_bytes_of_an_ipv4_address(bits: int, network: str | None) -> None:
    mapped = bytes(10) + b"\xff\xff" + b"\x0a\x60\0\x0a"
    wanted = IPv4Network(network) if network else None
    assert codec.prefix_from_wire(mapped + bytes((bits,))) == wanted


@pytest.mark.parametrize("text", ["www.example.com", "www.example.com.", "WWW.Example.COM."])
def test_names_fold_case_and_need_no_final_dot(text: str) -> None:
    name = codec.name_from_wire(text)
    assert name == (b"www", b"example", b"com")
    assert codec.name_to_wire(name) == "www.example.com."


@pytest.mark.parametrize("text", ["", "a..b", "x" * 64 + ".com"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(codec.BadMessage, match="fqdn"):
        codec.name_from_wire(text)


LONG = 100_000


@pytest.mark.parametrize("text", ["x" * LONG, "\\" * LONG, "x." * LONG + ".", "ü" * LONG, "\\120" * LONG])
def test_what_is_no_name_is_shown_in_part(text: str) -> None:
    with pytest.raises(codec.BadMessage, match="exceeds 255 octets") as refused:
        codec.name_from_wire(text)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("value", [b"x" * LONG, b"\xff" * LONG])
def test_what_is_no_address_or_prefix_is_shown_in_part(value: bytes) -> None:
    for read in (codec.address_from_wire, codec.prefix_from_wire):
        with pytest.raises(codec.BadMessage) as refused:
            read(value)
        assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("text", ["x" * LONG, "*" * LONG, "x" * LONG + "..", "*." * LONG + ".."])
def test_what_is_no_pattern_is_shown_in_part(text: str) -> None:
    with pytest.raises(codec.BadMessage, match="dns_pattern") as refused:
        codec.policy_table(snapshot(text))
    assert len(str(refused.value)) < 1_000


def test_a_mapping_is_written_as_real_peers_write_it() -> None:
    mapping = codec.Mapping((b"www", b"example", b"com"), (b"\xc0\0\2\7",), 60, 4321, b"\x0a\xf4\0\5")
    message = codec.mapping_to_wire(mapping)
    assert message == pb.FQDNMapping(
        fqdn="www.example.com.",
        record_ip=[b"192.0.2.7"],
        ttl=60,
        source_identity=4321,
        source_ip=b"10.244.0.5",
    )
    assert codec.mapping_from_wire(message) == mapping


def test_the_report_of_a_query_has_no_addresses() -> None:
    report = pb.FQDNMapping(fqdn="www.example.com", ttl=4294967295, source_ip=b"10.244.0.5")
    read = codec.mapping_from_wire(report)
    assert (read.addresses, read.ttl_s) == ((), 4294967295)


# --- snapshots ----------------------------------------------------------------------------------------------


POD, DNS = b"\x0a\xf4\0\5", b"\x0a\x60\0\x0a"
UDP = 17


def snapshot(*patterns: str, **server: int) -> pb.PolicyState:
    state = pb.PolicyState(request_id="one")
    rule = state.egress_l7_dns_policy.add(source_endpoint_id=7, dns_pattern=patterns)
    rule.dns_servers.add(
        **({"dns_server_identity": 999, "dns_server_port": 53, "dns_server_proto": UDP} | server)
    )
    state.identity_to_endpoint_mapping.add(identity=4321).endpoint_info.add(id=7, ip=[POD, b"\0" * 16])
    state.identity_to_prefix_mapping.add(identity=999, prefix=[DNS + b"\x20", b"\0" * 17])
    return state


def asked(state: pb.PolicyState, name: bytes = b"www", server: bytes = DNS, port: int = 53) -> bool:
    table = codec.policy_table(state)
    endpoint = table.endpoint_of(POD)
    assert endpoint == 7
    return table.allowed(endpoint, server, port, UDP, (name, b"example", b"com"))


def test_a_snapshot_allows_its_patterns_at_its_servers_only() -> None:
    state = snapshot("www.example.com", "*.example.org.")
    assert asked(state)
    assert not asked(state, name=b"wwx")
    assert not asked(state, server=b"\x0a\x60\0\x0b")
    assert not asked(state, port=54)


def test_identity_zero_is_any_server_and_port_zero_any_port() -> None:
    assert asked(snapshot("*.example.com", dns_server_identity=0), server=b"\1\2\3\4")
    assert asked(snapshot("*.example.com", dns_server_port=0), port=5353)


def test_a_rule_without_patterns_allows_every_name() -> None:
    assert asked(snapshot(), name=b"whatever")


def test_an_empty_snapshot_is_a_table_that_allows_nobody() -> None:
    assert codec.policy_table(pb.PolicyState()).endpoint_of(POD) is None


def test_rules_of_one_endpoint_add_up() -> None:
    state = snapshot("a.example.com")
    state.MergeFrom(snapshot("b.example.com"))
    assert asked(state, name=b"a")
    assert asked(state, name=b"b")


@pytest.mark.parametrize("pattern", ["", "a b", "a..b", "{x}"])
def test_a_pattern_that_cannot_be_read_refuses_the_whole_snapshot(pattern: str) -> None:
    with pytest.raises(codec.BadMessage, match="dns_pattern"):
        codec.policy_table(snapshot("www.example.com", pattern))


def read(reader: codec.PolicyReader, state: pb.PolicyState) -> PolicyTable:
    steps = reader.read(state)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def test_a_pattern_that_stays_is_compiled_once_and_one_that_goes_is_forgotten() -> None:
    reader = codec.PolicyReader()
    tables = [
        read(reader, snapshot(*texts)) for texts in (["*.a.io", "*.b.io"], ["*.a.io"], ["*.b.io", "*.a.io"])
    ]
    first, second, third = (
        {one.text: one for rule in table.rules for one in rule.selectors} for table in tables
    )
    assert first["*.a.io."] is second["*.a.io."] is third["*.a.io."]
    assert first["*.b.io."] is not third["*.b.io."]


def test_a_snapshot_that_is_refused_forgets_no_pattern() -> None:
    reader = codec.PolicyReader()
    before = read(reader, snapshot("*.a.io"))
    with pytest.raises(codec.BadMessage):
        read(reader, snapshot("*.b.io", "a b"))
    assert read(reader, snapshot("*.a.io")).rules[0].selectors[0] is before.rules[0].selectors[0]


MANY = 300
SERVERS = [pb.DNSServer(dns_server_port=port) for port in range(MANY)]
ADDRESSES = [bytes((10, 244, *divmod(number, 256))) for number in range(MANY)]
POD_OF_MANY = pb.IdentityToEndpointMapping(endpoint_info=[pb.EndpointInfo(id=7, ip=ADDRESSES)])
PREFIXES = pb.IdentityToPrefixMapping(prefix=[one + b"\x20" for one in ADDRESSES])


@pytest.mark.parametrize(
    "state",
    [
        pb.PolicyState(egress_l7_dns_policy=[pb.DNSPolicy(dns_pattern=["*.a.io"] * MANY)]),
        pb.PolicyState(egress_l7_dns_policy=[pb.DNSPolicy(dns_servers=SERVERS)]),
        pb.PolicyState(identity_to_endpoint_mapping=[POD_OF_MANY]),
        pb.PolicyState(identity_to_prefix_mapping=[PREFIXES]),
    ],
    ids=["patterns", "servers", "addresses", "prefixes"],
)
def test_one_part_of_a_snapshot_is_read_in_as_many_steps_as_it_is_long(state: pb.PolicyState) -> None:
    assert sum(1 for _ in codec.PolicyReader().read(state)) >= MANY


def test_an_endpoints_address_that_is_there_twice_counts_once() -> None:
    state = snapshot()
    state.identity_to_endpoint_mapping[0].endpoint_info[0].ip.extend([b"10.244.0.6", POD])
    table = codec.policy_table(state)
    assert [one.address for one in table.endpoints] == [POD, b"\x0a\xf4\0\6"]


def test_a_pods_address_may_come_in_gos_sixteen_bytes() -> None:
    mapped = bytes(10) + b"\xff\xff" + b"\x0a\xf4\0\5"
    assert codec.pod_address_from_wire(mapped, "ip") == b"\x0a\xf4\0\5"
    assert codec.pod_address_from_wire(b"::ffff:10.244.0.5", "ip") == b"\x0a\xf4\0\5"
    assert len(codec.pod_address_from_wire(b"2001:db8::1", "ip")) == 16


def test_what_a_name_resolves_to_is_never_ipv4_in_ipv6_clothes() -> None:
    read = codec.mapping_from_wire(pb.FQDNMapping(fqdn="a.io.", record_ip=[b"::ffff:192.0.2.7"]))
    assert read.addresses == ()


def test_a_response_code_of_a_newer_peer_is_its_number() -> None:
    assert [codec.code_name(code) for code in (1, 99)] == ["NO_ERROR", "99"]
