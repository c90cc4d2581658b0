"""Explanations as they are printed: what a verdict comes from, and what was compared with what."""

from __future__ import annotations

import io
from ipaddress import IPv4Address

from acns.dns.pattern import match_name
from acns.policy import destination
from acns.policy.explain import Knowledge, explain
from acns.policy.learnings import Learning, Learnings
from acns.policy.routes import Outcome
from lab.policy_tools.seen import Answered, Seen
from lab.report.explanations import print_explanation
from tests.unit.policy.explain_world import fqdn, policy, world

API = match_name("api.example.com")
ADDRESS = IPv4Address("198.51.100.10")


def printed(seen: Seen, *, of_kernel: bool) -> str:
    overview = world(policy(fqdn("api.example.com")))
    source = overview.local(overview.pod("client"))
    learned = Learnings((Learning(None, ADDRESS, (API,), 0.0, of_kernel=of_kernel),))
    wanted = destination.parse(f"{ADDRESS}:443", overview, source.resident)
    model = explain(overview, source, wanted, Knowledge({source.node.node: learned}))
    assert model.outcome is Outcome.ALLOWED
    out = io.StringIO()
    print_explanation(Answered(model, (seen,)), "lab x", is_live=True, now_s=0.0, out=out)
    return out.getvalue()


def test_an_address_that_only_the_kernel_has_is_not_said_to_be_learned_nor_to_be_compared() -> None:
    text = printed(Seen(Outcome.ALLOWED, agrees=True, compared=False), of_kernel=True)
    assert "198.51.100.10 is in the kernel's set; the shim cannot be asked whether it is to be" in text
    assert "kernel: ALLOWED (the model has it from this kernel: not compared)" in text
    assert "was learned" not in text


def test_a_difference_is_one_whatever_the_address_comes_from() -> None:
    text = printed(Seen(Outcome.DENIED, agrees=False, compared=False), of_kernel=True)
    assert "kernel: DENIED (the model says otherwise)" in text


def test_an_address_that_a_shim_has_found_at_its_start_is_compared() -> None:
    text = printed(Seen(Outcome.ALLOWED, agrees=True), of_kernel=False)
    assert "198.51.100.10 was learned before the shim was started" in text
    assert "kernel: ALLOWED (as the model says)" in text
