"""A listing of nft's, taken apart: what names have opened, and what of it a pod's chains name."""

from __future__ import annotations

import re

from acns.datapath import selectors
from acns.dns.pattern import match_name, match_pattern
from lab.policy_tools.node_state import Meaning
from lab.report import ruleset

OURS, OTHERS = match_name("api.example.com"), match_pattern("*.example.net")
OUR_ID, OTHER_ID = map(selectors.selector_id, (OURS, OTHERS))
LISTING = f"""table inet acns {{
\tset learned {{
\t\ttypeof numgen inc mod 2 . numgen inc mod 2 . ip daddr
\t\tflags timeout
\t\telements = {{ {selectors.element(OUR_ID, "192.0.2.1")} timeout 1h expires 59m,
\t\t\t     {selectors.element(OTHER_ID, "192.0.2.2")} timeout 2h expires 1h comment "takeover" }}
\t}}

\tmap from_address {{
\t\ttype ipv4_addr : verdict
\t\telements = {{ 10.244.1.3 : jump f_1 }}
\t}}

\tchain f_1 {{
\t\t{selectors.match(OURS, "daddr")} accept comment "re_1 7 fqdn:name:api.example.com. 443/TCP"
\t\t{selectors.match(OURS, "saddr")} accept comment "re_1 7 fqdn:name:api.example.com. 443/TCP"
\t}}

\tchain f_2 {{
\t\t{selectors.match(OTHERS, "daddr")} accept comment "re_2 8 fqdn:pattern:*.example.net. 443/TCP"
\t}}
}}
"""
MEANINGS = {OUR_ID: Meaning("selector", "fqdn:name:api.example.com.", ())}


def test_what_names_have_opened_is_told_by_selector() -> None:
    assert ruleset.learned(ruleset.read(LISTING)) == {
        OUR_ID: {"192.0.2.1": "192.0.2.1 timeout 1h expires 59m"},
        OTHER_ID: {"192.0.2.2": '192.0.2.2 timeout 2h expires 1h comment "takeover"'},
    }


def test_without_the_set_nothing_is_open() -> None:
    assert ruleset.learned(ruleset.read("")) == {}


def test_a_pod_sees_what_its_own_selectors_have_opened_each_once() -> None:
    part = ruleset.of_pod("node1", "ns/a", "10.244.1.3", "veth-a", ruleset.read(LISTING), MEANINGS)
    assert [(one.name, one.says, one.elements) for one in part.sets] == [
        ("learned", "fqdn:name:api.example.com.", ("192.0.2.1 timeout 1h expires 59m",))
    ]


def test_a_node_sees_those_of_all_and_one_that_nobody_describes_by_its_id() -> None:
    part = ruleset.whole("node1", ruleset.read(LISTING), MEANINGS)
    assert [one.says for one in part.sets] == ["fqdn:name:api.example.com.", OTHER_ID]
    assert re.search(rf"set learned {{  # {OTHER_ID}\n    192\.0\.2\.2 timeout", ruleset.text(part))
