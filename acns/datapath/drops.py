"""How a packet ends: counted, logged, answered if the settings say so, dropped.

Every drop is logged to one NFLOG group under the id of what dropped it, a few a second per id, so that a
flood of denied packets does not become a flood of logs; counters stay exact. A limit is a match to nft, and
what follows it in its rule is left out above it: so each of these steps is a rule of its own, and rules that
drop `goto` a chain of them.

What a deny drops takes its connection's grant with it: else its ICMP errors, and nothing but them, would go
on passing for as long as connection tracking remembers it.
"""

from __future__ import annotations

from typing import Literal

from acns.datapath import constants, names, rules
from acns.datapath.model import ChainSpec, Rule
from acns.datapath.rules import Way

DenyResponse = Literal["none", "icmp"]
"""What a pod hears of a packet that its egress policy drops (Cilium's `--policy-deny-response`)."""


def logging(id_: str) -> str:
    """Log under this id, within the limit."""
    prefix = f'"{constants.LOG_PREFIX}{id_} "'
    return f"limit rate {constants.LOG_LIMIT} log prefix {prefix} group {constants.NFLOG_GROUP}"


def log(id_: str) -> Rule:
    """The rule that does."""
    return fixed(logging(id_))


def answer(way: Way, response: DenyResponse) -> list[Rule]:
    """What the sender is told: only of its own packets, and only if it is the pod."""
    if response == "none" or way is not Way.EGRESS:
        return []
    return [fixed(f"limit rate {constants.ANSWER_LIMIT} reject with icmp admin-prohibited")]


def denied(rule_id: str, way: Way, response: DenyResponse) -> ChainSpec:
    """Where a deny rule leads; the rule itself counts."""
    body = [log(rule_id), fixed(rules.take_grant(way.direction)), *answer(way, response), fixed("drop")]
    return ChainSpec(named("x", body), tuple(body))


def counted(counter: str) -> ChainSpec:
    """Where one of the base counters' packets go."""
    return ChainSpec(f"x_{counter}", (fixed(f"counter name {counter}"), log(counter), fixed("drop")))


def fixed(text: str, note: str = "") -> Rule:
    """A rule of the mechanism, not of any policy: called after its text."""
    return Rule(f"k_{names.digest(text)}", text, note)


def named(prefix: str, body: list[Rule]) -> str:
    """The name of a chain with these rules, and no others."""
    return f"{prefix}_{names.digest(*[part for rule in body for part in (rule.id, rule.text)])}"
