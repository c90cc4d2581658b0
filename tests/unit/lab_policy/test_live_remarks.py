"""What is said beside answers about a running lab."""

from __future__ import annotations

from ipaddress import IPv4Address

from lab.policy_tools.live_remarks import remarks
from lab.spec.status import AgentStatus, Health, NodeStatus, Status

ERROR = "web.yaml:24:13: '203.0.113.0/2x' is not a network"
WARNING = "web.yaml:3:1: warning: it selects no pod [selects-nothing]"


def said(*problems: str, shim: Health = "ready") -> list[str]:
    agents = (AgentStatus("shim", shim), AgentStatus("resolver", "ready"))
    nodes = (NodeStatus("node1", IPv4Address("192.0.2.1"), agents),)
    return list(remarks(Status("lab", "quickstart", nodes, (), problems=problems)))


def test_of_a_lab_as_it_should_be_nothing_is_said() -> None:
    assert said() == []


def test_what_several_shims_refuse_is_said_once_and_warnings_are_counted() -> None:
    assert said(ERROR, WARNING, ERROR, WARNING) == [
        f"not in force: {ERROR}",
        "1 warnings: lab.status says which",
    ]


def test_a_shim_that_does_not_answer_is_named() -> None:
    (line,) = said(shim="stopped")
    assert line.startswith("the shim of node1 is stopped: ")
