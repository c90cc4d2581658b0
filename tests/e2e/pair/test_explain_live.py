"""`policy.explain` and `policy.matrix` on running labs: the kernel does what the model says, and where it
does not, that is seen.

The kernel is made to differ by hand, with the shim held so that it mends nothing.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from acns.dns import name as names
from acns.errors import InputError
from acns.policy import destination
from acns.policy.lookups import Answer, Server
from acns.policy.model import Direction
from acns.policy.routes import Outcome
from lab.policy_tools import commands
from lab.policy_tools.commands import About
from lab.policy_tools.live import Live
from lab.policy_tools.live_matrix import live_matrix
from lab.policy_tools.node_state import NodeState
from lab.policy_tools.seen import Answered, Seen
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab

from .wire import until

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[3]
API = names.from_text("api.example.com")

WEB_2_FOR_APPS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web-2, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: app}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: legacy}}]
    icmps: [{fields: [{type: 8}]}]
"""


@contextmanager
def live_on(lab: Lab) -> Iterator[Live]:
    live = Live(lab)
    try:
        yield live
    finally:
        live.close()


@pytest.fixture(scope="module")
def live(quickstart: Lab) -> Iterator[Live]:
    with live_on(quickstart) as opened:
        yield opened


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Lab]:
    """With an ingress policy on the web pods of both nodes."""
    lab = Lab.up("two-nodes", name=f"t{os.getpid()}-explain")
    try:
        lab.write_manifest("web-2.yaml", WEB_2_FOR_APPS)
        lab.wait_settled()
        yield lab
    finally:
        lab.down()


@pytest.fixture
def unmended(own_quickstart: Lab) -> Iterator[NodeHandle]:
    """A node whose shim is held; mended afterwards."""
    node = own_quickstart.nodes[0]
    node.shim.hold()
    try:
        yield node
    finally:
        node.shim.start()
        node.shim.wait_ready()
        own_quickstart.wait_settled()


def look_up(live: Live, pod: str, name: str) -> None:
    """As a program in the pod would."""
    assert live.query(pod, names.from_text(name), live.dns_server(pod)).startswith("NOERROR: A")


def only(found: Answered) -> Seen:
    (seen,) = found.seen
    return seen


def nft(node: NodeHandle, *words: str) -> str:
    done = node.run(["nft", *words])
    assert done.returncode == 0, done.stderr
    return done.stdout


def egress_chain(node: NodeHandle, live: Live, pod: str) -> str:
    """The chain that judges what a pod sends: the one that drops what it may not."""
    return only(live.explain(pod, "192.0.2.99:9")).rules[-1].id


# --- they agree -------------------------------------------------------------------------------------------


def test_model_and_kernel_agree_in_every_cell(live: Live) -> None:
    found = live_matrix(live, [])
    assert found.differences == {}
    texts = {cell.text for row in found.rows for cell in row.cells}
    assert {"all", "-", "443/TCP", "53/TCP dns, 53/UDP dns"} <= texts


def test_model_and_kernel_agree_about_single_ports(live: Live) -> None:
    asked = [destination.traffic(text) for text in ("443", "8080", "53/udp", "9/sctp", "icmp")]
    assert live_matrix(live, asked).differences == {}


def test_across_nodes_both_ends_are_asked(two_nodes: Lab) -> None:
    with live_on(two_nodes) as live:
        assert live_matrix(live, []).differences == {}


# --- what is shown ----------------------------------------------------------------------------------------


def test_an_allow_shows_the_query_it_comes_from_and_the_kernels_rule(live: Live) -> None:
    look_up(live, "default/frontend", "api.example.com")
    found = live.explain("frontend", "api.example.com:443")
    assert (found.model.outcome, found.agrees) == (Outcome.ALLOWED, True)
    for part, seen in zip(found.model.parts, found.seen, strict=True):
        (said,) = part.sides[0].rules
        (learned,) = said.learned
        assert (learned.name, learned.asked_by) == (API, "default/frontend")
        assert learned.learned_at is not None
        assert learned.learned_at < learned.expires_at
        (rule,) = seen.rules
        assert rule.origins == (str(said.origin),) == ("default/frontend egress[1] (frontend.yaml:33:7)",)
        assert rule.packets
        assert seen.answer == "answered"


def test_a_deny_by_default_shows_the_chain_that_ends_it(live: Live) -> None:
    found = live.explain("frontend", "198.51.100.99:443")
    seen = only(found)
    assert (found.model.outcome, seen.outcome, seen.agrees) == (Outcome.DENIED, Outcome.DENIED, True)
    assert [(rule.node, rule.text) for rule in seen.rules] == [("node1", "no rule allowed it")]


def test_queries_are_seen_to_go_to_the_resolver(live: Live) -> None:
    found = live.explain("frontend", "service kube-system/kube-dns:53/udp")
    assert (only(found).outcome, found.agrees) == (Outcome.REDIRECTED, True)
    assert only(found).rules[0].origins == ("default/frontend egress[0] (frontend.yaml:17:7)",)


@pytest.mark.parametrize(
    ("pod", "to", "outcome"),
    [
        ("legacy", "host:22", Outcome.ALLOWED),
        ("frontend", "host:22", Outcome.DENIED),
        ("legacy", "frontend:icmp", Outcome.ALLOWED),
        ("frontend", "legacy:icmp", Outcome.DENIED),
        ("frontend", "frontend:80", Outcome.ALLOWED),
        ("frontend", "service web:80", Outcome.ALLOWED),
        ("web", "service web:80", Outcome.ALLOWED),
        ("frontend", "service web:443", Outcome.DENIED),
        ("legacy", "world:9/sctp", Outcome.ALLOWED),
    ],
)
def test_every_kind_of_destination_is_tried(live: Live, pod: str, to: str, outcome: Outcome) -> None:
    found = live.explain(pod, to)
    assert (found.model.outcome, [one.outcome for one in found.seen], found.agrees) == (
        outcome,
        [outcome],
        True,
    )


def test_a_name_nobody_has_looked_up_is_not_tried_and_not_open(live: Live) -> None:
    found = live.explain("batch", "logs.storage.example.net:443")
    if found.model.supposed:  # another test may have looked it up meanwhile
        assert (found.model.outcome, only(found).tried, found.agrees) == (Outcome.DENIED, False, True)
    look_up(live, "default/batch", "logs.storage.example.net")
    found = live.explain("batch", "logs.storage.example.net:443")
    assert (found.model.outcome, {one.outcome for one in found.seen}) == (Outcome.ALLOWED, {Outcome.ALLOWED})


def test_a_shared_address_is_open_by_the_other_name(live: Live) -> None:
    look_up(live, "default/frontend", "shared.example.com")
    found = live.explain("frontend", "198.51.100.30:443")
    assert (found.model.outcome, only(found).outcome) == (Outcome.ALLOWED, Outcome.ALLOWED)


@pytest.mark.parametrize(
    ("pod", "name", "server", "answer", "said"),
    [
        ("frontend", "api.example.com", None, Answer.ASKED, "NOERROR: A"),
        ("frontend", "evil.example.org", None, Answer.REFUSED, "REFUSED"),
        ("legacy", "evil.example.org", None, Answer.UNPROXIED, "NOERROR: A"),
        ("frontend", "api.example.com", "203.0.113.53", Answer.BLOCKED, "no answer"),
    ],
)
def test_a_real_query_gets_what_the_model_says(
    live: Live, pod: str, name: str, server: str | None, answer: Answer, said: str
) -> None:
    asked = Server(IPv4Address(server)) if server else None
    found = live.explain_query(pod, names.from_text(name), asked)
    assert found.model.lookup is not None
    assert found.query is not None
    assert (found.model.lookup.answer, found.agrees) == (answer, True)
    assert found.query.answer.startswith(said)


def test_the_receivers_node_decides_about_ingress(two_nodes: Lab) -> None:
    with live_on(two_nodes) as live:
        allowed, denied = live.explain("app-1", "web-2:8080"), live.explain("legacy-1", "web-2:8080")
        pinged = live.explain("legacy-1", "web-2:icmp")
    assert (allowed.agrees, denied.agrees, pinged.agrees) == (True, True, True)
    assert [(rule.node, rule.origins) for rule in only(allowed).rules] == [
        ("node1", ("default/app egress[2] (app.yaml:30:7)",)),
        ("node2", ("default/web-2 ingress[0] (web-2.yaml:8:5)",)),
    ]
    assert [(rule.node, rule.text) for rule in only(denied).rules] == [("node2", "no rule allowed it")]
    assert [rule.origins for rule in only(pinged).rules] == [
        ("default/web-2 ingressDeny[0] (web-2.yaml:11:5)",)
    ]
    assert denied.model.parts[0].sides[1].direction is Direction.INGRESS


def test_each_end_is_judged_by_what_its_own_node_goes_by(
    two_nodes: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    (two_nodes.folder.manifests("node1") / "web-2.yaml").unlink()
    asked = {"dns": None, "server": None, "expect": None, "as_json": False}
    try:
        about = About(name=two_nodes.name)
        assert commands.run_explain(["legacy-1", "web-2:8080"], about, **asked) == 0  # type: ignore[arg-type]
        with live_on(two_nodes) as live:
            denied, allowed = live.explain("legacy-1", "web-2:8080"), live.explain("legacy-2", "web-1:8080")
            assert live_matrix(live, []).differences == {}
    finally:
        two_nodes.write_manifest("web-2.yaml", WEB_2_FOR_APPS)
        two_nodes.wait_settled()
    assert (denied.model.outcome, denied.agrees) == (Outcome.DENIED, True)
    assert (allowed.model.outcome, allowed.agrees) == (Outcome.ALLOWED, True)
    assert "node2 goes by other manifests than node1: web-2.yaml" in capsys.readouterr().err


def test_every_backend_of_a_service_is_tried_behind_it(two_nodes: Lab) -> None:
    with live_on(two_nodes) as live:
        found = live.explain("app-2", "service web:80")
    assert [part.to for part in found.model.parts] == [
        "pod default/web-1 (10.244.0.20)",
        "pod default/web-2 (10.244.1.20)",
    ]
    assert [(one.outcome, one.answer) for one in found.seen] == [(Outcome.ALLOWED, "answered")] * 2


# --- they differ ------------------------------------------------------------------------------------------


def test_a_kernel_that_lets_through_what_the_model_denies_is_a_difference(
    own_quickstart: Lab, unmended: NodeHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_on(own_quickstart) as live:
        chain = egress_chain(unmended, live, "frontend")
        nft(unmended, "insert", "rule", "inet", "acns", chain, "udp", "dport", "9999", "accept")
        found = live.explain("frontend", "192.0.2.99:9999/udp")
        assert (found.model.outcome, only(found).outcome, found.agrees) == (
            Outcome.DENIED,
            Outcome.ALLOWED,
            False,
        )
        assert list(live_matrix(live, [destination.traffic("9999/udp")]).differences.values())
    about = About(name=own_quickstart.name)
    asked = {"dns": None, "server": None, "expect": None, "as_json": False}
    assert commands.run_explain(["frontend", "192.0.2.99:9999/udp"], about, **asked) == 1  # type: ignore[arg-type]
    assert commands.run_matrix(about, ["9999/udp"], as_json=False) == 1
    assert "the model and the kernel differ" in capsys.readouterr().out


def test_a_kernel_that_drops_what_the_model_allows_is_a_difference(
    own_quickstart: Lab, unmended: NodeHandle
) -> None:
    with live_on(own_quickstart) as live:
        chain = egress_chain(unmended, live, "frontend")
        nft(unmended, "insert", "rule", "inet", "acns", chain, "tcp", "dport", "8080", "drop")
        found = live.explain("frontend", "web:8080")
    assert (found.model.outcome, only(found).outcome, found.agrees) == (
        Outcome.ALLOWED,
        Outcome.DENIED,
        False,
    )
    assert only(found).rules[-1].id == f"acns {chain}"


def test_what_is_in_the_network_of_services_and_none_of_them_is_no_matter_of_policy(live: Live) -> None:
    found = live.explain("legacy", "10.96.0.99:80")
    assert (found.model.outcome, only(found).outcome, found.agrees) == (
        Outcome.ALLOWED,
        Outcome.DENIED,
        True,
    )
    assert only(found).rules[-1].text == "unallocated ClusterIPs"


def test_a_drop_in_a_table_of_somebody_elses_is_a_difference(
    own_quickstart: Lab, unmended: NodeHandle
) -> None:
    with live_on(own_quickstart) as live:
        nft(unmended, "add table ip others; add chain ip others f { type filter hook forward priority 5; }")
        try:
            nft(unmended, "add rule ip others f tcp dport 8080 drop")
            found = live.explain("frontend", "web:8080")
        finally:
            nft(unmended, "delete table ip others")
    assert (only(found).outcome, found.agrees) == (Outcome.DENIED, False)


def test_a_broadcast_of_the_pods_network_is_refused(live: Live) -> None:
    with pytest.raises(InputError, match=r"10.244.0.255 is all of 10.244.0.0/24"):
        live.explain("legacy", "10.244.0.255:9/udp")


def test_a_right_verdict_by_somebody_elses_rule_is_a_difference(
    own_quickstart: Lab, unmended: NodeHandle
) -> None:
    meanings = NodeState(own_quickstart, unmended).meanings().items()
    batchs = next(id_ for id_, one in meanings if one.origins and "batch" in one.origins[0] and "re_" in id_)
    with live_on(own_quickstart) as live:
        chain = egress_chain(unmended, live, "frontend")
        rule = f'insert rule inet acns {chain} tcp dport 8080 accept comment "{batchs} 1 not yours"'
        nft(unmended, rule)
        found = live.explain("frontend", "web:8080")
    assert (found.model.outcome, only(found).outcome, found.agrees) == (
        Outcome.ALLOWED,
        Outcome.ALLOWED,
        False,
    )
    assert only(found).rules[0].is_nobodys


def test_an_answer_that_does_not_come_back_is_a_difference(own_quickstart: Lab, unmended: NodeHandle) -> None:
    """The pod's packet gets there, as it should, and what is sent back is dropped."""
    for chain in set(re.findall(r"chain (er_\w+)", unmended.ruleset())):
        nft(unmended, "insert", "rule", "inet", "acns", chain, "tcp", "sport", "8080", "drop")
    with live_on(own_quickstart) as live:
        found = live.explain("frontend", "web:8080")
    assert (found.model.outcome, only(found).outcome, found.agrees) == (
        Outcome.ALLOWED,
        Outcome.ALLOWED,
        False,
    )
    assert only(found).answer.startswith("its answer is dropped on node1 by acns er_")


def test_a_dead_resolver_is_a_difference(own_quickstart: Lab) -> None:
    node = own_quickstart.nodes[0]
    node.resolver.hold()
    try:
        with live_on(own_quickstart) as live:
            found = live.explain_query("frontend", API, None)
            packet = live.explain("frontend", "service kube-system/kube-dns:53/udp")
    finally:
        node.resolver.start()
        node.resolver.wait_ready()
        own_quickstart.wait_settled()
    assert found.query is not None
    assert (found.query.answer.partition(":")[0], found.agrees) == ("no answer", False)
    assert (only(packet).outcome, only(packet).rules[-1].id) == (Outcome.DENIED, "unproxied")


def test_without_the_shim_the_kernels_own_addresses_are_what_is_known_and_nothing_is_compared(
    own_quickstart: Lab, unmended: NodeHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_on(own_quickstart) as live:
        look_up(live, "default/legacy", "api.example.com")
        found = live.explain("frontend", "198.51.100.10:443")
        denied = live.explain("frontend", "198.51.100.99:443")
    assert (found.agrees, only(found).compared, only(denied).compared) == (True, False, True)
    asked = {"dns": None, "server": None, "expect": None, "as_json": False}
    words = ["frontend", "198.51.100.10:443"]
    assert commands.run_explain(words, About(name=own_quickstart.name), **asked) == 0  # type: ignore[arg-type]
    assert "the shim of node1 is stopped" in capsys.readouterr().err


def test_without_the_shim_a_name_whose_addresses_the_resolver_has_committed_is_open(
    own_quickstart: Lab, unmended: NodeHandle
) -> None:
    with live_on(own_quickstart) as live:
        look_up(live, "default/frontend", "api.example.com")
        found = live.explain("frontend", "api.example.com:443")
        assert live_matrix(live, []).differences == {}
    assert (found.model.outcome, found.model.supposed, found.agrees) == (Outcome.ALLOWED, False, True)
    assert {(one.outcome, one.compared) for one in found.seen} == {(Outcome.ALLOWED, False)}


def test_an_edit_that_the_shims_refuse_is_remarked(
    own_quickstart: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"dns": None, "server": None, "expect": None, "as_json": False}
    about = About(name=own_quickstart.name)
    own_quickstart.write_manifest("mine.yaml", WEB_2_FOR_APPS.replace("toPorts", "toPort"))
    try:
        assert commands.run_explain(["frontend", "web:8080"], about, **asked) == 0  # type: ignore[arg-type]
        assert commands.run_matrix(about, ["8080"], as_json=False) == 0
    finally:
        own_quickstart.remove_manifest("mine.yaml")
        own_quickstart.wait_settled()
    assert capsys.readouterr().err.count("mine.yaml:9:5: unknown field 'toPort'") == 2


# --- nothing is left --------------------------------------------------------------------------------------


def tables(node: NodeHandle) -> list[str]:
    return [line for line in nft(node, "list", "tables").splitlines() if "trace" in line]


def test_the_trace_is_gone_with_its_witness(own_quickstart: Lab) -> None:
    node = own_quickstart.nodes[0]
    with live_on(own_quickstart):
        assert len(tables(node)) == 1
    until(lambda: not tables(node), "the trace's table is gone")


def test_the_trace_is_gone_when_its_witness_is_killed(own_quickstart: Lab) -> None:
    node = own_quickstart.nodes[0]
    script = (
        "import sys, time\nfrom lab.policy_tools.witness import Witness\nfrom lab.runtime.lab import Lab\n"
        "witness = Witness(Lab.attach(sys.argv[1]))\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, own_quickstart.name],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
    ) as witness:
        assert witness.stdout is not None
        assert witness.stdout.readline() == "up\n"
        assert len(tables(node)) == 1
        witness.send_signal(signal.SIGKILL)
    until(lambda: not tables(node), "the trace's table is gone")


def test_two_may_ask_at_once(own_quickstart: Lab) -> None:
    with live_on(own_quickstart) as one:
        found = one.explain("frontend", "web:8080")
        assert found.agrees
        done = invoke("policy.explain", "frontend", "web:8080", "--name", own_quickstart.name)
        assert done.returncode == 0, done.stderr
        assert one.explain("frontend", "web:8080").agrees


# --- as typed ---------------------------------------------------------------------------------------------


def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "invoke", *arguments]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(argv, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=60)


def test_the_command_shows_both_and_exits_0_where_they_agree(quickstart: Lab) -> None:
    done = invoke("policy.explain", "frontend", "web:8080", "--name", quickstart.name)
    assert done.returncode == 0, done.stderr
    assert "kernel: ALLOWED, answered (as the model says)" in done.stdout
    done = invoke("policy.explain", "frontend", "--dns", "evil.example.org", "--name", quickstart.name)
    assert "a real query got REFUSED: no records (as the model says)" in done.stdout


def test_a_pod_that_is_not_there_exits_2_with_one_that_is(quickstart: Lab) -> None:
    done = invoke("policy.explain", "fronted", "web:8080", "--name", quickstart.name)
    assert (done.returncode, "did you mean 'frontend'?" in done.stderr) == (2, True)
