"""Every ready topology does what it says of itself: agents and all, its whole truth table; one at a time."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runtime import truth
from lab.runtime.faults import commands
from lab.runtime.faults.model import Options
from lab.runtime.lab import Lab
from lab.spec.load import find_topology, load_topology, shipped_topologies

from ...waiting import until
from .on_kind import Cluster, OnKind

pytestmark = pytest.mark.root

BACK_S = 90.0
"""Longer than a kubelet waits before it starts a container that ended twice."""

_NOT_SELECTED = ("policies/example-com.yaml", "policies/frontend.yaml")
TURNS = [
    ("musl-search-domains", "{denied: nxdomain}", "{}", "told-nxdomain resolves api.example.com by musl"),
    ("musl-search-domains", "ndots: 1", "ndots: 5", "ndots-1 resolves api.example.com by musl"),
    ("cname-cdn", "matchName: edge-7", "matchName: edge-8", "by-cdn connects edge-7.cdn.example.net:443"),
    ("short-ttl", *_NOT_SELECTED, "client refused evil.example.org"),
    ("shared-address", "shop.example.com: {a: [198.51.100.30]}", "shop.example.com: {a: [198.51.100.32]}",
     "shop connects 198.51.100.30:443"),
    ("dns-over-tcp", "protocol: UDP", "protocol: ANY", "udp-only unanswered api.example.com over tcp"),
    ("big-answers", "a: [198.51.100.101, ", "a: [", "client connects 198.51.100.101:443"),
    ("external-dns", "toCIDR: [203.0.113.54/32]", "toCIDR: [203.0.113.9/32]", "partner uses resolver"),
    ("multi-policy", "203.0.113.128/25", "203.0.113.0/28", "shop blocked 203.0.113.200:443"),
    ("default-deny", "egress: [{}]", "egress: []", "shut unanswered api.example.com"),
    ("failover", "{takeover: false}", "{}", "app-2 blocked api.example.com:443"),
    ("dual-stack-internet", *_NOT_SELECTED, "app empty dual.example.com AAAA"),
    ("unsupported", "base: one-node", "base: one-node\nnodes: [{name: node1, shim: {profile: cilium}}]",
     "policy all-names.yaml refused ACNS supports no bare wildcard there"),
]  # fmt: skip
"""Topology, what its question turns on, what it would be otherwise, and a statement that is then not true."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The one that all topologies are brought up on, where the back end is kind."""
    made = Cluster("acns-test")
    yield made
    made.end()


@pytest.fixture(scope="module", params=shipped_topologies(), ids=lambda path: path.stem)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab | OnKind]:
    path: Path = request.param
    if request.config.getoption("lab_backend") == "kind":
        yield request.getfixturevalue("cluster").up(load_topology(path))
        return
    made = Lab.up(path, f"{path.stem}-{os.getpid()}")
    try:
        made.wait_settled()
        yield made
    finally:
        made.down()


@pytest.mark.backends("netns", "kind")
def test_the_truth_table_agrees_and_goes_on_agreeing(lab: Lab | OnKind) -> None:
    """The second time everything is learned already, and what is closed must still be closed."""
    for _ in range(2):
        rows = lab.check()
        assert [row for row in rows if not row.ok] == []
        left_out = lab.left_out if isinstance(lab, OnKind) else []
        assert len(rows) + len(left_out) == len(lab.topology.expect)


@pytest.mark.backends("netns", "kind")
def test_no_policy_is_wrong_or_doubtful_but_those_that_are_to_be(lab: Lab | OnKind) -> None:
    found = lab.status()
    assert truth.unexpected_errors(lab.topology, found) == 0
    assert [problem for problem in found.problems if ": warning: " in problem] == []


@pytest.mark.backends("netns", "kind")
@pytest.mark.parametrize("agent", ["shim", "resolver"])
@pytest.mark.parametrize("lab", [find_topology("quickstart")], ids=["quickstart"], indirect=True)
def test_while_an_agent_is_killed_what_is_closed_stays_closed(lab: Lab | OnKind, agent: str) -> None:
    """Without the shim names go on resolving, too; and all is as before when the agent is back."""
    before = _restarts(lab, agent)
    commands.fault(["kill", agent], lab.name, Options(node="node1"), None, None)
    wrong = [row for row in lab.check() if not row.ok]
    opened = [row for row in wrong if row.actual in ("connects", "resolves")]
    assert (wrong if agent == "shim" else opened) == []
    until(lambda: _restarts(lab, agent) > before, f"the {agent} is started again", BACK_S)
    until(lambda: all(row.ok for row in lab.check()), "all is as before", BACK_S)


def _restarts(lab: Lab | OnKind, agent: str) -> int:
    return lab.restarts(agent) if isinstance(lab, OnKind) else lab.process(f"node1/{agent}").restarts


@pytest.mark.backends("netns", reason="the time of one look-up would be that of kubectl exec")
@pytest.mark.parametrize("lab", [find_topology("quickstart")], ids=["quickstart"], indirect=True)
def test_a_refused_search_list_costs_glibc_queries_and_no_time(lab: Lab) -> None:
    """Under an FQDN policy `NAME.default.svc.cluster.local` is REFUSED; glibc goes on to NAME at once."""
    code = (
        "import socket, time; begun = time.monotonic();"
        "socket.getaddrinfo('api.example.com', 443); print(time.monotonic() - begun)"
    )
    done = lab.pod("frontend").run([sys.executable, "-c", code], timeout_s=30)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2  # one time-out of a stub resolver is 5 s


@pytest.mark.backends("netns", reason="it asks whether the statement can fail, once is enough")
@pytest.mark.parametrize(("name", "cause", "otherwise", "statement"), TURNS)
def test_a_statement_is_false_where_its_cause_is_gone(
    tmp_path: Path, name: str, cause: str, otherwise: str, statement: str
) -> None:
    shipped = find_topology(name)
    text = shipped.read_text()
    assert cause in text
    (tmp_path / "t.yaml").write_text(text.replace(cause, otherwise))
    shutil.copytree(shipped.parent / "policies", tmp_path / "policies")
    topology = load_topology(tmp_path / "t.yaml")
    made = Lab.up(topology, f"turned-{os.getpid()}")
    try:
        made.wait_settled()
        row = made.check()[topology.expect.index(statement)]
    finally:
        made.down()
    assert not row.ok, row


def test_every_ready_topology_has_a_statement_that_was_seen_false() -> None:
    """Those before them have tests of their own; many-pods is the same at another size."""
    turned = {name for name, *_ in TURNS}
    assert {path.stem for path in shipped_topologies()} - turned == {
        "quickstart", "two-nodes", "transparent", "many-pods",
    }  # fmt: skip
