"""The L4 side of rules: ports, names of ports, ranges, ICMP, `rules.dns`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.dns.pattern import match_name, match_pattern
from acns.policy.cnp_values import is_octal, is_port_name, port_number
from acns.policy.model import Protocol
from acns.policy.objects import PortBlock, PortSpec

from .reading import codes, errors, policy, rule

TCP, ANY = Protocol.TCP, Protocol.ANY


def ports(entry: str, section: str = "egress") -> tuple[PortSpec, ...]:
    (block,) = rule(f"{section}: [{{toPorts: [{{ports: [{entry}]}}]}}]").ports or ()
    return block.ports


def port_problem(entry: str) -> str:
    (message,) = errors(f"egress: [{{toPorts: [{{ports: [{entry}]}}]}}]")
    return message


# --- ports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["egress", "egressDeny", "ingress", "ingressDeny"])
def test_a_port_without_a_protocol_is_that_port_of_any_protocol(section: str) -> None:
    assert ports("{port: '53'}", section) == (PortSpec(ANY, 53, 53),)


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP", "ANY"])
def test_protocols_are_read(protocol: str) -> None:
    assert ports(f"{{port: '53', protocol: {protocol}}}") == (PortSpec(Protocol(protocol), 53, 53),)


def test_a_range_includes_its_end() -> None:
    assert ports("{port: '8000', endPort: 8010, protocol: TCP}") == (PortSpec(TCP, 8000, 8010),)


def test_port_zero_is_every_port() -> None:
    assert ports("{port: '0'}") == (PortSpec(ANY, 0, 0),)
    assert ports("{port: '0', endPort: 0}") == (PortSpec(ANY, 0, 0),)
    assert ports("{port: '0', endPort: 65535}") == (PortSpec(ANY, 0, 0),)


def test_a_range_from_zero_is_a_range() -> None:
    assert ports("{port: '0', endPort: 1023}") == (PortSpec(ANY, 1, 1023),)


def test_an_end_before_the_beginning_counts_for_nothing_and_is_doubtful() -> None:
    assert ports("{port: '8000', endPort: 80}") == (PortSpec(ANY, 8000, 8000),)
    assert codes("egress: [{toPorts: [{ports: [{port: '8000', endPort: 80}]}]}]") == ["end-port"]


@pytest.mark.parametrize("name", ["http", "dns-tcp", "a", "HTTP", "0x10", "8080-web", "fifteen-letters"])
def test_what_iana_takes_for_a_service_name_is_a_named_port(name: str) -> None:
    assert ports(f"{{port: '{name}', protocol: TCP}}") == (PortSpec(TCP, name=name.lower()),)


def test_a_named_port_takes_no_range() -> None:
    assert ports("{port: http, endPort: 90}") == (PortSpec(ANY, name="http"),)
    assert codes("egress: [{toPorts: [{ports: [{port: http, endPort: 90}]}]}]") == ["end-port"]


@pytest.mark.parametrize(
    "text", ["sixteen-letters1", "under_score", "two--dashes", "-a", "a-", "", "1_000", "+80"]
)
def test_what_is_neither_a_number_nor_a_name_is_refused(text: str) -> None:
    assert "neither a port number nor" in port_problem(f"{{port: '{text}'}}")


def test_a_leading_zero_makes_a_port_octal_as_in_cilium() -> None:
    assert ports("{port: '0443'}") == (PortSpec(ANY, 0o443, 0o443),)
    assert codes("egress: [{toPorts: [{ports: [{port: '0443'}]}]}]") == ["octal-port"]
    assert "octal" in port_problem("{port: '0993'}")


def test_zeros_alone_are_port_zero() -> None:
    assert ports("{port: '00'}") == (PortSpec(ANY, 0, 0),)


@given(st.text(alphabet="0123456789", min_size=1, max_size=6))
def test_numbers_are_read_as_go_reads_them(text: str) -> None:
    """strconv.ParseUint with base 0: as Python's own literals, but for the old octal."""
    go = text if len(text) == 1 or text[0] != "0" else "0o" + text[1:]
    try:
        expected = int(go, 0)
    except ValueError:
        with pytest.raises(ValueError, match="invalid literal"):
            port_number(text)
    else:
        assert port_number(text) == expected
        assert is_octal(text) == (go != text)


@given(st.text(alphabet="aZ09-_", max_size=17))
def test_port_names_are_those_of_rfc_6335(text: str) -> None:
    expected = (
        1 <= len(text) <= 15
        and all(character in "aZ09-" for character in text)
        and any(character.isalpha() for character in text)
        and text.strip("-") == text
        and "--" not in text
    )
    assert is_port_name(text) is expected


def test_several_entries_of_toports_stay_apart() -> None:
    found = rule("egress: [{toPorts: [{ports: [{port: '1'}, {port: '2'}]}, {ports: [{port: '3'}]}]}]").ports
    assert found == (
        PortBlock((PortSpec(ANY, 1, 1), PortSpec(ANY, 2, 2))),
        PortBlock((PortSpec(ANY, 3, 3),)),
    )


def test_an_empty_toports_counts_as_absent_and_is_doubtful() -> None:
    text = "egress: [{toEntities: [world], toPorts: []}]"
    assert rule(text).ports is None
    assert codes(text) == ["empty-ports"]


@pytest.mark.parametrize("field", ["toPorts", "icmps"])
def test_beside_no_peer_it_leaves_nothing_and_that_is_said(field: str) -> None:
    (problem,) = policy(f"egress: [{{{field}: []}}]").problems
    assert problem.code == "empty-ports"
    assert problem.message == f"an empty {field} counts as absent: without peers this entry allows nothing"
    assert codes(f"egressDeny: [{{{field}: []}}]") == []
    assert codes(f"egressDeny: [{{{field}: []}}, {{toEntities: [world]}}]") == ["empty-deny"]
    assert codes(f"egressDeny: [{{toEntities: [world], {field}: []}}]") == ["empty-ports"]


@pytest.mark.parametrize("field", ["toPorts", "icmps"])
@pytest.mark.parametrize("section", ["egress", "egressDeny"])
@pytest.mark.parametrize("peers", ["toEntities", "toEndpoints"])
def test_beside_an_empty_list_of_peers_nothing_is_meant_and_that_alone_is_said(
    peers: str, section: str, field: str
) -> None:
    assert codes(f"{section}: [{{{peers}: [], {field}: []}}]") == ["empty-peers"]
    other = "icmps: [{fields: [{type: 8}]}]" if field == "toPorts" else "toPorts: [{ports: [{port: '1'}]}]"
    assert codes(f"{section}: [{{{peers}: [], {field}: [], {other}}}]") == ["empty-peers", "empty-ports"]


def test_forty_ports_are_enough_for_one_entry() -> None:
    many = ", ".join(f"{{port: '{n}'}}" for n in range(1, 41))
    assert len(ports(many)) == 40
    assert "40" in port_problem(many + ", {port: '41'}")


# --- DNS -----------------------------------------------------------------------------------------------

DNS = "toEntities: [world], toPorts: [{{ports: [{}], rules: {{dns: [{}]}}}}]"


def test_names_are_read_with_their_ports() -> None:
    text = DNS.format("{port: '53'}", "{matchName: A.io}, {matchPattern: '*.A.io'}")
    (block,) = rule(f"egress: [{{{text}}}]").ports or ()
    assert block == PortBlock((PortSpec(ANY, 53, 53),), (match_name("a.io"), match_pattern("*.a.io")))


def test_a_plain_port_has_no_names() -> None:
    (block,) = rule("egress: [{toPorts: [{ports: [{port: '53'}]}]}]").ports or ()
    assert block.dns is None


@pytest.mark.parametrize("port", ["{port: '0'}", "{port: '53', endPort: 54}", "{port: '53', protocol: SCTP}"])
def test_rules_dns_needs_ports_that_a_query_can_go_to(port: str) -> None:
    assert len(errors(f"egress: [{{{DNS.format(port, '{matchName: a.io}')}}}]")) == 1


@pytest.mark.parametrize("port", ["{port: '5353', endPort: 53}", "{port: dns}", "{port: '53', endPort: 53}"])
def test_other_ports_may_have_names(port: str) -> None:
    assert errors(f"egress: [{{{DNS.format(port, '{matchName: a.io}')}}}]") == []


def test_ingress_takes_no_names() -> None:
    text = DNS.format("{port: '53'}", "{matchName: a.io}").replace("toEntities", "fromEntities")
    assert errors(f"ingress: [{{{text}}}]") == ["rules.dns works on egress only"]


@pytest.mark.parametrize("rules", ["{http: []}", "{kafka: []}", "{l7proto: x}", "{l7: []}", "{}"])
def test_other_l7_rules_are_refused(rules: str) -> None:
    found = errors(f"egress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {rules}}}]}}]")
    assert len(found) == 1


# --- ICMP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["egress", "egressDeny", "ingress", "ingressDeny"])
def test_icmp_types_are_numbers_texts_or_names(section: str) -> None:
    text = "icmps: [{fields: [{type: 8}, {type: '0'}]}, {fields: [{family: IPv4, type: TimeExceeded}]}]"
    assert rule(f"{section}: [{{{text}}}]").icmps == (8, 0, 11)


def test_ipv6_types_are_left_out_with_a_warning() -> None:
    text = "egress: [{icmps: [{fields: [{family: IPv6, type: EchoRequest}]}]}]"
    assert rule(text).icmps == ()
    assert codes(text) == ["ipv6-ignored"]


def test_a_rule_with_types_of_ipv6_only_allows_nothing_rather_than_everything() -> None:
    found = rule("egress: [{toEntities: [world], icmps: [{fields: [{family: IPv6, type: 128}]}]}]")
    assert found.icmps == ()
    assert found.ports is None


def test_an_empty_icmps_counts_as_absent_and_is_doubtful() -> None:
    text = "egress: [{toEntities: [world], icmps: []}]"
    assert rule(text).icmps is None
    assert codes(text) == ["empty-ports"]


def test_icmp_and_ports_cannot_stand_in_one_rule() -> None:
    text = "icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: '80'}]}]"
    assert errors(f"egress: [{{{text}}}]") == ["icmps and toPorts cannot stand in one rule"]


@given(st.integers(-10, 300), st.sampled_from(["IPv4", "IPv6"]), st.booleans())
def test_every_number_of_eight_bits_is_a_type_and_no_other(number: int, family: str, quoted: bool) -> None:
    value = f"'{number}'" if quoted else str(number)
    found = errors(f"egress: [{{icmps: [{{fields: [{{family: {family}, type: {value}}}]}}]}}]")
    assert (found == []) == (0 <= number <= 255)
