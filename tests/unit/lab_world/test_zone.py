"""From records to an answer."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from lab.world.zone import AAAA, CNAME, MAX_CHAIN, NOERROR, NXDOMAIN, A, Name, Zone


def addresses(zone: Zone, name: str, qtype: int = A) -> list[str]:
    return [record.data for record in zone.lookup(name, qtype, {}).records if record.type != "CNAME"]


@pytest.fixture
def zone() -> Zone:
    return Zone(
        {
            "a.example.com": Name(a=(IPv4Address("192.0.2.1"),)),
            "*.example.com": Name(a=(IPv4Address("192.0.2.9"),), aaaa=(IPv6Address("2001:db8::9"),)),
            "deep.a.example.com": Name(a=(IPv4Address("192.0.2.3"),)),
            "loop.example.net": Name(cname="pool.example.net"),
            "pool.example.net": Name(cname="loop.example.net"),
            "away.example.net": Name(cname="nowhere.example.org"),
        }
    )


def test_a_name_of_its_own_comes_before_the_wildcard(zone: Zone) -> None:
    assert addresses(zone, "A.Example.COM.") == ["192.0.2.1"]


def test_a_wildcard_answers_for_what_nothing_else_covers(zone: Zone) -> None:
    assert addresses(zone, "any.example.com") == ["192.0.2.9"]
    assert addresses(zone, "two.levels.example.com", AAAA) == ["2001:db8::9"]


def test_a_wildcard_does_not_reach_below_a_name_that_exists(zone: Zone) -> None:
    """RFC 4592: the closest name that exists decides; the wildcard is above it."""
    answer = zone.lookup("x.a.example.com", A, {})
    assert (answer.rcode, answer.records) == (NXDOMAIN, ())


def test_a_chain_that_leaves_the_records_ends_in_nxdomain_with_its_cname(zone: Zone) -> None:
    answer = zone.lookup("away.example.net", A, {})
    assert (answer.rcode, [r.data for r in answer.records]) == (NXDOMAIN, ["nowhere.example.org"])
    assert answer.soa_owner == "example.org."


def test_a_loop_of_cnames_ends(zone: Zone) -> None:
    answer = zone.lookup("loop.example.net", A, {})
    assert (answer.rcode, len(answer.records)) == (NOERROR, MAX_CHAIN)


def test_asking_for_the_cname_itself_does_not_follow_it(zone: Zone) -> None:
    assert [r.data for r in zone.lookup("loop.example.net", CNAME, {}).records] == ["pool.example.net"]
