"""Tables for people, plain lines for pipes, JSON for programs."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from lab.report import doctor, next_steps, tables
from lab.spec.expect import Row
from lab.spec.load import find_topology, load_topology
from lab.spec.status import AgentStatus, NodeStatus, PodStatus, Status
from lab.spec.topology import Topology

ROWS = [
    Row("frontend", "api.example.com", 443, "connects", "connects", True, "https from 198.51.100.10", 3.2),
    Row("frontend", "x" * 120 + ".example.com", None, "REFUSED", "NOERROR", False, "[red]NOERROR: A[/]", 1.0),
]
STATUS = Status(
    "mine",
    "quickstart",
    (
        NodeStatus(
            "node1",
            IPv4Address("172.18.0.2"),
            (
                AgentStatus("shim", "ready", 7),
                AgentStatus("resolver", "not ready", 8, "no policy yet", "", 3),
            ),
        ),
    ),
    (
        PodStatus("frontend", "default", "node1", IPv4Address("10.244.0.2"), identity=258, enforced="egress"),
        PodStatus("legacy", "default", "node1", IPv4Address("10.244.0.4"), identity=259, enforced="none"),
        PodStatus("kube-dns", "kube-system", "node1", IPv4Address("10.244.0.53")),
    ),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Feature:
    name: str
    ok: bool
    required: bool = True
    detail: str = "found"
    cost: str = "no redirection"
    mend: str = "load the module"


def printed_truth(out: io.StringIO) -> str:
    tables.print_truth(ROWS, out)
    return out.getvalue()


def test_in_a_pipe_a_row_is_one_line_of_plain_words() -> None:
    lines = printed_truth(io.StringIO()).splitlines()
    assert "\x1b" not in "".join(lines)
    assert lines[1].split()[:6] == ["ok", "frontend", "api.example.com", "443", "connects", "connects"]
    (wrong,) = [line for line in lines if line.startswith("WRONG")]
    assert "x" * 120 in wrong
    assert wrong.isascii()


def test_what_a_server_said_is_never_taken_for_markup() -> None:
    assert "[red]NOERROR: A[/]" in printed_truth(io.StringIO())


def test_the_count_says_whether_the_tables_agree() -> None:
    assert printed_truth(io.StringIO()).splitlines()[-1] == "1 of 2 statements are not true"


def test_a_terminal_gets_colour_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;32m" in printed_truth(Terminal()) or "\x1b[32m" in printed_truth(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in printed_truth(Terminal())


def test_the_status_names_agents_that_are_not_ready_and_pods_under_policy() -> None:
    out = io.StringIO()
    tables.print_status(STATUS, out)
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["node1", "172.18.0.2", "resolver", "not", "ready", "3", "8", "no", "policy", "yet"] in lines
    assert ["frontend", "node1", "10.244.0.2", "idle", "258", "egress", "enforced"] in lines
    assert ["legacy", "node1", "10.244.0.4", "idle", "259", "not", "enforced"] in lines
    assert ["kube-system/kube-dns", "node1", "10.244.0.53", "idle", "?", "unknown"] in lines


def test_the_status_says_what_is_wrong_with_manifests() -> None:
    out = io.StringIO()
    problem = "manifests/default.yaml:9:11: unknown field 'toFQDN'"
    tables.print_status(dataclasses.replace(STATUS, problems=(problem,)), out)
    assert problem in out.getvalue().splitlines()


def test_the_json_forms_have_a_version_and_the_verdict() -> None:
    truth = json.loads(tables.truth_json("mine", ROWS))
    assert (truth["version"], truth["agrees"], len(truth["rows"])) == (1, False, 2)
    status = json.loads(tables.status_json(STATUS))
    assert (status["version"], status["pods"][0]["address"]) == (1, "10.244.0.2")


def test_the_tour_offers_commands_that_the_topology_is_sure_of() -> None:
    out = io.StringIO()
    next_steps.print_tour(load_topology(find_topology("quickstart")), "quickstart", out)
    assert "invoke lab.exec frontend -- curl -sS https://api.example.com/" in out.getvalue()
    assert "invoke lab.exec frontend -- dig evil.example.org" in out.getvalue()


@pytest.mark.parametrize(
    ("features", "verdict", "ready"),
    [
        ([Feature("veth", True)], "labs run here, with everything", True),
        ([Feature("ipv6", False, required=False)], "what is missing costs what is said above", True),
        ([Feature("tproxy", False), Feature("veth", True)], "labs cannot run on this machine", False),
    ],
)
def test_the_doctor_says_what_is_missing_and_how_to_mend_it(
    features: list[Feature], verdict: str, ready: bool
) -> None:
    out = io.StringIO()
    doctor.print_doctor(features, out)
    assert verdict in out.getvalue()
    assert ("load the module" in out.getvalue()) == any(not feature.ok for feature in features)
    assert json.loads(doctor.doctor_json(features))["ready"] is ready


def test_each_statement_that_is_not_true_has_the_command_that_says_why() -> None:
    topology = topology_of(
        [
            "frontend connects api.example.com:443",
            "frontend blocked [2001:db8::1]:443",
            "frontend refused evil.example.org over tcp at 203.0.113.53",
            "frontend uses resolver",
            "policy wrong.yaml refused not supported",
        ]
    )
    rows = [
        Row("frontend", "api.example.com", 443, "connects", "connects", True),
        Row("frontend", "2001:db8::1", 443, "blocked", "connects", False),
        Row("frontend", "evil.example.org over tcp at 203.0.113.53", None, "REFUSED", "NOERROR", False),
        Row("frontend", "resolver", None, "uses resolver", "bypasses resolver", False),
        Row("policy", "wrong.yaml", None, "refused", "accepted", False),
    ]
    out = io.StringIO()
    next_steps.print_reasons(topology, rows, "mine", out, program="inv")
    assert out.getvalue().split("\n")[1:] == [
        "Why:",
        "  inv policy.explain --name mine frontend [2001:db8::1]:443",
        "  inv policy.explain --name mine frontend --dns evil.example.org --server 203.0.113.53",
        "",
    ]


def test_of_many_wrong_statements_the_first_few_are_enough() -> None:
    names = [f"n{number}.example.com" for number in range(7)]
    rows = [Row("a", name, None, "resolves", "NXDOMAIN", False) for name in names]
    out = io.StringIO()
    next_steps.print_reasons(topology_of([f"a resolves {name}" for name in names]), rows, "mine", out)
    assert out.getvalue().count("policy.explain") == 5
    assert out.getvalue().endswith("  and 2 more\n")


def test_where_all_is_true_there_is_nothing_to_explain() -> None:
    out = io.StringIO()
    topology = load_topology(find_topology("quickstart"))
    next_steps.print_reasons(topology, ROWS[:1], "mine", out)
    assert out.getvalue() == ""


def topology_of(statements: list[str]) -> Topology:
    return load_topology(find_topology("quickstart")).model_copy(update={"expect": tuple(statements)})
