"""A name outside that nobody has looked up: at the addresses that it will have, else wherever it may be."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from acns.dns import name as names
from acns.fqdn.addresses import is_learnable_address
from acns.policy import verdict
from acns.policy.explain import Explanation, Knowledge
from acns.policy.learnings import Learnings
from acns.policy.model import Traffic
from acns.policy.overview import Overview
from acns.policy.routes import Outcome
from acns.policy.traffic import Packet, includes

from .explain_world import ADDRESS, DNS, DNS_IP, TO_DNS, ask, dns, fqdn, learned, live, policy, world

NAME = "api.example.com"
OPEN = dns(NAME) + fqdn(NAME)


def denying(deny: str) -> str:
    return policy(OPEN.rstrip(), more=f"  egressDeny:\n    - {deny}\n")


def resolving(*addresses: str, known: Knowledge | None = None) -> Knowledge:
    found = {names.from_text(NAME): {IPv4Address(address) for address in addresses}}
    return Knowledge(known.learned if known else None, DNS, found)


def outcomes(found: Explanation) -> dict[str, Outcome]:
    return {part.to: part.outcome for part in found.parts}


# --- what it resolves to is known -----------------------------------------------------------------------


def test_a_name_is_judged_at_the_addresses_that_it_will_have() -> None:
    overview = world(denying("toCIDR: [198.51.100.0/24]"))
    for address, outcome in (("198.51.100.10", Outcome.DENIED), ("203.0.113.10", Outcome.ALLOWED)):
        found = ask(overview, f"{NAME}:443", knowledge=resolving(address))
        assert (found.outcome, found.supposed) == (outcome, True)
        assert outcomes(found) == {f"{NAME} ({address})": outcome}


def test_a_name_some_of_whose_addresses_are_denied_is_partly_open() -> None:
    overview = world(denying("toCIDR: [198.51.100.0/24]"))
    found = ask(overview, f"{NAME}:443", knowledge=resolving("198.51.100.10", "203.0.113.10"))
    assert found.outcome is Outcome.PARTLY


def test_live_too_before_anybody_has_looked_it_up() -> None:
    overview = world(denying("toCIDR: [198.51.100.0/24]"))
    knowledge = resolving("198.51.100.10", known=live(overview))
    found = ask(overview, f"{NAME}:443", knowledge=knowledge)
    assert (found.outcome, [part.outcome for part in found.parts]) == (Outcome.DENIED, [Outcome.DENIED])


def test_an_address_that_is_a_service_without_the_port_is_denied_and_the_others_are_not() -> None:
    knowledge = resolving("203.0.113.10", str(DNS_IP))
    found = ask(world(policy(OPEN)), f"{NAME}:443", knowledge=knowledge)
    assert found.outcome is Outcome.PARTLY
    assert [(part.to, part.through, part.traffic, part.outcome) for part in found.parts] == [
        (
            "nobody (Service kube-system/kube-dns does not translate 443/TCP)",
            f"Service kube-system/kube-dns {DNS_IP}",
            "443/TCP",
            Outcome.DENIED,
        ),
        (f"{NAME} (203.0.113.10)", "", "443/TCP", Outcome.ALLOWED),
    ]


@pytest.mark.parametrize("traffic", [":443", ":icmp-8"])
def test_a_name_that_is_such_a_service_alone_is_denied(traffic: str) -> None:
    found = ask(world(policy(OPEN)), NAME + traffic, knowledge=resolving(str(DNS_IP)))
    assert (found.outcome, len(found.parts)) == (Outcome.DENIED, 1)


@pytest.mark.parametrize("source", ["client", "other"])
def test_a_name_without_an_ipv4_address_is_reached_by_nobody(source: str) -> None:
    found = ask(world(policy(OPEN)), f"{NAME}:443", source=source, knowledge=resolving())
    assert (found.outcome, found.parts) == (Outcome.DENIED, ())
    assert found.notes[-1] == f"{NAME} has no IPv4 address, and only IPv4 is shown here"


@pytest.mark.parametrize("address", ["169.254.169.254", "10.244.0.3", "172.18.0.3"])
def test_no_name_opens_what_is_never_learned(address: str) -> None:
    found = ask(world(policy(OPEN)), f"{NAME}:443", knowledge=resolving(address))
    assert found.outcome is Outcome.DENIED


@pytest.mark.parametrize(
    "text",
    [
        *("0.1.2.3", "10.0.0.1", "127.0.0.1", "169.254.1.1", "198.51.100.1"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    ],
)
def test_what_is_supposed_to_be_learned_is_what_an_answer_may_open(text: str) -> None:
    address = IPv4Address(text)
    selector = next(iter(world(policy(OPEN)).node("n1").fqdn_selectors()))
    supposed = Learnings.supposing([selector], names.from_text(NAME), [address])
    assert (address in supposed.open.get(selector, ())) is is_learnable_address(address.packed)


# --- nothing is known -----------------------------------------------------------------------------------


def test_of_a_name_that_may_be_in_a_denied_cidr_no_firm_verdict_is_given() -> None:
    found = ask(world(denying("toCIDR: [0.0.0.0/1]")), f"{NAME}:443")
    assert found.outcome is Outcome.PARTLY
    assert outcomes(found) == {
        f"{NAME} (in CIDR 0.0.0.0/1)": Outcome.DENIED,
        f"{NAME} (in no narrower CIDR of a rule)": Outcome.ALLOWED,
    }


def test_of_one_that_may_be_in_an_allowed_cidr_neither() -> None:
    found = ask(world(policy(OPEN + "    - toCIDR: [198.51.100.0/24]\n")), f"{NAME}:80")
    assert found.outcome is Outcome.PARTLY
    assert outcomes(found) == {
        f"{NAME} (in no narrower CIDR of a rule)": Outcome.DENIED,
        f"{NAME} (in CIDR 198.51.100.0/24)": Outcome.ALLOWED,
    }


def test_cidrs_that_make_no_difference_are_not_told() -> None:
    found = ask(world(policy(OPEN + "    - toCIDR: [198.51.100.0/24]\n")), f"{NAME}:443")
    assert outcomes(found) == {NAME: Outcome.ALLOWED}


def many_cidrs(count: int) -> Overview:
    """Each with a port of its own, and another fate for it."""
    rule = "    - toCIDR: [20.0.{0}.0/24]\n      toPorts: [{{ports: [{{port: '{1}', protocol: TCP}}]}}]\n"
    rules = "".join(rule.format(number, 1000 + number) for number in range(count))
    return world(policy(OPEN + rules, more="  egressDeny:\n    - toCIDR: [20.1.0.0/24]\n"))


def test_of_many_fates_some_are_shown_and_the_others_counted() -> None:
    found = ask(many_cidrs(40), NAME)
    shown = {part.to for part in found.parts}
    assert (found.outcome, len(shown), found.unshown) == (Outcome.PARTLY, 8, 42 - 8)
    assert found.notes[-1] == "CIDRs of rules give it another fate in 34 more parts of the outside"
    assert f"{NAME} (in CIDR 20.1.0.0/24)" not in shown  # the smallest, and nothing is only there


def test_a_name_among_many_cidrs_costs_little_more_than_some_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    def count(traffic: Traffic, one: Packet) -> bool:
        nonlocal asked
        asked += 1
        return includes(traffic, one)

    overview = many_cidrs(60)
    monkeypatch.setattr(verdict, "includes", count)
    ask(overview, str(ADDRESS))
    one_address, asked = asked, 0
    ask(overview, NAME)
    assert asked < 12 * one_address


@pytest.mark.parametrize(
    "allow", ["toCIDRSet: [{cidr: 0.0.0.0/0, except: [198.51.0.0/16]}]", "toCIDR: [198.51.0.0/16]"]
)
def test_what_a_cidr_opens_is_told_from_what_waits_for_a_query_that_nobody_sees(allow: str) -> None:
    found = ask(world(policy(f"    - {allow}\n{fqdn(NAME)}{TO_DNS}")), f"{NAME}:443")
    assert (found.outcome, len(found.parts)) == (Outcome.PARTLY, 2)


def test_live_too_it_is_told_from_what_waits_for_a_query() -> None:
    overview = world(policy(f"    - toCIDR: [198.51.0.0/16]\n{OPEN}"))
    found = ask(overview, f"{NAME}:443", knowledge=live(overview))
    assert (found.outcome, len(found.parts)) == (Outcome.PARTLY, 2)


def test_of_many_fates_one_without_a_query_is_shown_however_small_its_part() -> None:
    rule = "    - toCIDR: [20.0.{0}.0/24]\n      toPorts: [{{ports: [{{port: '{1}', protocol: TCP}}]}}]\n"
    denies = "  egressDeny:\n" + "".join(rule.format(number, 1000 + number) for number in range(20))
    by_name = f"    - toFQDNs: [{{matchName: {NAME}}}]\n"
    overview = world(policy(f"    - toCIDR: [20.1.0.0/28]\n{by_name}{dns(NAME)}", more=denies))
    found = ask(overview, NAME)
    assert found.unshown == 22 - 8
    assert f"{NAME} (in CIDR 20.1.0.0/28)" in {part.to for part in found.parts}


def test_live_what_other_rules_open_waits_for_no_query() -> None:
    overview = world(policy(OPEN + "    - toEntities: [world]\n      toPorts: [{ports: [{port: '80'}]}]\n"))
    found = ask(overview, NAME, knowledge=live(overview))
    assert found.outcome is Outcome.PARTLY


# --- the world ------------------------------------------------------------------------------------------


def test_for_what_an_address_stands_is_said_truly() -> None:
    narrow = ask(world(policy("    - toCIDR: [198.51.100.0/24]\n")), "world:80")
    assert narrow.notes == (
        "192.0.2.1 stands for all addresses outside that no rule is more particular about",
    )
    half = ask(world(denying("toCIDR: [0.0.0.0/1]")), "world:80")
    assert half.notes == (
        "1.0.0.0 stands for the addresses outside in CIDR 0.0.0.0/1, the largest part that rules treat alike",
    )


# --- only a kernel can be asked -------------------------------------------------------------------------


def in_kernel(overview: Overview, name: str, *addresses: str, resolves: bool = True) -> Knowledge:
    """What sets of n1 hold, whose shim cannot be asked; `resolves`: it is known whose addresses these are."""
    known = [
        replace(
            learned(overview, name, IPv4Address(address)),
            name=None,
            expires_at=0.0,
            learned_at=None,
            asked_by="",
            of_kernel=True,
        )
        for address in addresses
    ]
    return resolving(*(addresses if resolves else ()), known=live(overview, *known))


@pytest.mark.parametrize("entry", [NAME, "*.example.com"])
def test_a_name_is_open_at_its_addresses_that_are_in_the_kernels_set(entry: str) -> None:
    overview = world(policy(dns("*") + fqdn(entry)))
    knowledge = in_kernel(overview, NAME, "198.51.100.10", "198.51.100.11")
    found = ask(overview, f"{NAME}:443", knowledge=knowledge)
    assert (found.outcome, found.supposed, len(found.parts)) == (Outcome.ALLOWED, False, 2)
    assert all(one.of_kernel for part in found.parts for one in part.sides[0].rules[0].learned)


def test_what_is_in_the_set_by_the_very_name_is_its_own_whatever_it_resolves_to() -> None:
    overview = world(policy(OPEN))
    found = ask(overview, f"{NAME}:443", knowledge=in_kernel(overview, NAME, "203.0.113.9", resolves=False))
    assert (found.outcome, found.supposed) == (Outcome.ALLOWED, False)


def test_another_names_address_under_the_same_pattern_opens_nothing_for_this_one() -> None:
    overview = world(policy(dns("*") + fqdn("*.example.com")))
    knowledge = in_kernel(overview, "other.example.com", "203.0.113.9", resolves=False)
    resolved = {names.from_text(NAME): {IPv4Address("198.51.100.10")}}
    found = ask(overview, f"{NAME}:443", knowledge=replace(knowledge, resolutions=resolved))
    assert (found.outcome, found.supposed) == (Outcome.DENIED, True)
    assert "no pod has looked it up" in found.notes[0]


def test_where_nothing_is_known_of_the_name_that_the_agent_cannot_be_asked_is_said() -> None:
    overview = world(policy(dns("*") + fqdn("*.example.com")))
    knowledge = in_kernel(overview, "other.example.com", "203.0.113.9", resolves=False)
    found = ask(overview, f"{NAME}:443", knowledge=replace(knowledge, resolutions={}))
    assert (found.outcome, found.supposed) == (Outcome.DENIED, True)
    assert found.notes[0].startswith(f"no address of {NAME} is known on n1: its kernel holds addresses whose")
