"""The flow log of a running lab: what pods did, what became of it and which policy said so, read by
`lab.observe`.

A flow is looked for by what only it has: a fresh name, a fresh address, or the source port of its packet.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from acns.telemetry.flow_reading import parse_time
from lab.runtime import observe as observing
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from . import wire
from .desk import Desk, policy
from .wire import Stage, until

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[3]
JSON = dict[str, Any]
ALLOWED, ALLOWED_ADDRESSES = "api.example.com", ("198.51.100.10", "198.51.100.11", "198.51.100.12")
WEB_SERVICE, WEB_POD = "10.96.20.20", "10.244.0.20"


@pytest.fixture
def stage(quickstart: Lab) -> Iterator[Stage]:
    with wire.stage(quickstart) as made:
        yield made


Observed = Callable[..., list[JSON]]


@pytest.fixture
def observed(capsys: pytest.CaptureFixture[str]) -> Observed:
    """The flows that `lab.observe --json` shows."""

    def flows(lab: Lab, **typed: Any) -> list[JSON]:
        capsys.readouterr()
        assert observing.run(lab.name, observing.Typed(json=True, **typed)) == 0
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line["flow"] for line in shown if "flow" in line]

    return flows


def the_flow(observed: Observed, lab: Lab, wanted: Callable[[JSON], bool], **typed: Any) -> JSON:
    """The flow that is wanted, as soon as it is there."""
    found = until(lambda: list(filter(wanted, observed(lab, **typed))), "the flow is in the log")
    return found[-1]


def send_syn(cable: wire.Wire, destination: str, port: int, *, source: str = "") -> int:
    """A SYN; the port it comes from."""
    sport = cable.rng.randrange(20_000, 60_000)
    cable.send(IP(src=source or cable.address, dst=destination) / TCP(sport=sport, dport=port, flags="S"))
    return sport


def from_port(sport: int, protocol: str = "TCP") -> Callable[[JSON], bool]:
    return lambda flow: flow.get("l4", {}).get(protocol, {}).get("source_port") == sport


def policies(flow: JSON, field: str) -> list[str]:
    return [f"{one['kind']} {one['namespace']}/{one['name']}" for one in flow.get(field, [])]


def places(flow: JSON, field: str) -> set[str]:
    """`RULE FILE` of the rules that decided."""
    labels = [label for one in flow[field] for label in one["labels"] if label.startswith("acns:")]
    parts = [label.removeprefix("acns:").partition("=") for label in labels]
    return {f"{rule} {Path(place.split(':')[0]).name}" for rule, _, place in parts}


# --- drops --------------------------------------------------------------------------------------------------


def test_a_denied_connection_says_who_to_whom_and_whose_policy_did_not_allow_it(
    stage: Stage, observed: Observed
) -> None:
    address = wire.fresh_address(stage.rng)
    sport = send_syn(stage.frontend, address, 443)
    flow = the_flow(observed, stage.lab, from_port(sport), pod="frontend", verdict="DROPPED")
    assert (flow["drop_reason_desc"], flow["traffic_direction"]) == ("POLICY_DENIED", "EGRESS")
    assert flow["IP"] == {"source": stage.frontend.address, "destination": address, "ipVersion": "IPv4"}
    assert flow["l4"] == {"TCP": {"source_port": sport, "destination_port": 443, "flags": {"SYN": True}}}
    assert (flow["source"]["namespace"], flow["source"]["pod_name"]) == ("default", "frontend")
    assert "k8s:app=frontend" in flow["source"]["labels"]
    assert flow["source"]["identity"] == identity(stage.lab, "default/frontend")
    assert flow["destination"] == {"identity": 2, "labels": ["reserved:world"]}
    assert policies(flow, "egress_denied_by") == ["CiliumNetworkPolicy default/frontend"]
    assert places(flow, "egress_denied_by") == {"default-deny frontend.yaml"}
    assert (flow["node_name"], flow["Summary"]) == ("node1", "TCP Flags: SYN")


def identity(lab: Lab, pod: str) -> int:
    return int(lab.nodes[0].shim.http_get("/readyz").json()["endpoints"][pod]["identity"])


def test_a_closed_port_of_a_known_name_is_found_by_the_name(stage: Stage, observed: Observed) -> None:
    stage.frontend.ask(stage.cluster_ip, wire.query(ALLOWED, ident=stage.id16()))
    sport = send_syn(stage.frontend, ALLOWED_ADDRESSES[0], 80)
    for fqdn in (ALLOWED, "*.example.com"):
        flow = the_flow(observed, stage.lab, from_port(sport), fqdn=fqdn, verdict="DROPPED")
        assert ALLOWED in flow["destination_names"]
    assert not any(map(from_port(sport), observed(stage.lab, fqdn="www.example.com")))


def test_who_sends_under_a_false_address_is_named(stage: Stage, observed: Observed) -> None:
    sport = stage.rng.randrange(20_000, 60_000)
    packet = IP(src="10.244.0.99", dst=wire.fresh_address(stage.rng)) / UDP(sport=sport, dport=53)
    stage.frontend.send(packet)
    flow = the_flow(observed, stage.lab, from_port(sport, "UDP"), pod="default/frontend")
    assert (flow["drop_reason_desc"], flow["IP"]["source"]) == ("INVALID_SOURCE_IP", "10.244.0.99")
    assert flow["policy_log"]


def test_ipv6_of_a_restricted_pod_is_seen_to_be_refused(stage: Stage, observed: Observed) -> None:
    sport = stage.rng.randrange(20_000, 60_000)
    head = IPv6(src=stage.frontend.address_v6, dst="2001:db8::99")
    stage.frontend.send(head / TCP(sport=sport, dport=443, flags="S"))
    flow = the_flow(observed, stage.lab, from_port(sport), pod="frontend")
    assert flow["drop_reason_desc"] == "UNSUPPORTED_L3_PROTOCOL"
    assert flow["IP"]["ipVersion"] == "IPv6"


def test_packets_to_the_resolvers_own_port_are_seen(stage: Stage, observed: Observed) -> None:
    sport = stage.legacy.udp(str(stage.lab.addressing.nodes[0].address), b"?", dport=10053)
    flow = the_flow(observed, stage.lab, from_port(sport, "UDP"), pod="legacy", verdict="dropped")
    assert "resolver" in flow["policy_log"][0]


def test_a_deny_rule_is_named(own_quickstart: Lab, observed: Observed) -> None:
    deny = {"egressDeny": [{"toCIDR": ["198.18.0.0/16"]}]}
    manifest = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "never", "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "legacy"}}, **deny},
    }
    with Desk.of(own_quickstart) as desk, wire.stage(own_quickstart) as stage:
        desk.write("never.yaml", json.dumps(manifest))
        until(lambda: "198.18.0.0/16" in desk.node.ruleset(), "the deny is in the kernel")
        sport = send_syn(stage.legacy, "198.18.7.7", 443)
        flow = the_flow(observed, own_quickstart, from_port(sport))
    assert flow["drop_reason_desc"] == "POLICY_DENY"
    assert policies(flow, "egress_denied_by") == ["CiliumNetworkPolicy default/never"]
    assert places(flow, "egress_denied_by") == {"egressDeny[0] never.yaml"}


# --- connections --------------------------------------------------------------------------------------------


def test_an_allowed_connection_names_the_rule_that_allows_it(stage: Stage, observed: Observed) -> None:
    stage.frontend.ask(stage.cluster_ip, wire.query(ALLOWED, ident=stage.id16()))
    with stage.frontend.connect(ALLOWED_ADDRESSES[1], 443) as connection:
        sport = connection.getsockname()[1]
    flow = the_flow(observed, stage.lab, from_port(sport), verdict="FORWARDED", fqdn=ALLOWED)
    assert policies(flow, "egress_allowed_by") == ["CiliumNetworkPolicy default/frontend"]
    assert places(flow, "egress_allowed_by") == {"egress[1] frontend.yaml"}
    assert flow["is_reply"] is False


def test_a_connection_through_a_service_names_the_service_and_the_pod_behind_it(
    stage: Stage, observed: Observed
) -> None:
    with stage.frontend.connect(WEB_SERVICE, 80) as connection:
        sport = connection.getsockname()[1]
    flow = the_flow(observed, stage.lab, from_port(sport), pod="web")
    assert flow["destination_service"] == {"name": "web", "namespace": "default"}
    assert (flow["destination"]["pod_name"], flow["IP"]["destination"]) == ("web", WEB_POD)
    assert flow["l4"]["TCP"]["destination_port"] == 8080
    assert places(flow, "egress_allowed_by") == {"egress[3] frontend.yaml"}


def test_a_pod_without_policy_is_shown_without_one(stage: Stage, observed: Observed) -> None:
    with stage.legacy.connect(ALLOWED_ADDRESSES[0], 443) as connection:
        sport = connection.getsockname()[1]
    flow = the_flow(observed, stage.lab, from_port(sport), pod="legacy")
    assert (flow["verdict"], "egress_allowed_by" in flow) == ("FORWARDED", False)


# --- names --------------------------------------------------------------------------------------------------


def asks_for(label: str, kind: str = "REQUEST") -> Callable[[JSON], bool]:
    def is_asked(flow: JSON) -> bool:
        layer7 = flow.get("l7", {})
        return label in layer7.get("dns", {}).get("query", "") and layer7["type"] == kind

    return is_asked


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_refused_name_is_a_dropped_query_that_says_which_rule_lacks_it(
    stage: Stage, observed: Observed, transport: str
) -> None:
    label = wire.fresh_label(stage.rng)
    name = f"{label}.example.org"
    stage.frontend.ask_over(transport, stage.cluster_ip, wire.query(name, ident=stage.id16()))
    flow = the_flow(observed, stage.lab, asks_for(label), fqdn=name, verdict="DROPPED")
    assert flow["Type"] == "L7"
    dns = {"query": f"{name}.", "observation_source": "proxy", "rcode": wire.REFUSED, "qtypes": ["A"]}
    assert flow["l7"] == {"type": "REQUEST", "dns": dns}
    assert flow["l4"] == {transport.upper(): {"destination_port": 53}}
    assert (flow["source"]["pod_name"], flow["IP"]["destination"]) == ("frontend", stage.cluster_ip)
    assert flow["source"]["identity"] == identity(stage.lab, "default/frontend")
    assert flow["destination_service"] == {"name": "kube-dns", "namespace": "kube-system"}
    assert places(flow, "egress_denied_by") == {"egress[0] frontend.yaml"}
    assert flow["policy_log"] == ["no name or pattern of its rules.dns matches"]


def test_an_allowed_name_is_a_query_and_the_answer_to_it(stage: Stage, observed: Observed) -> None:
    label, address = wire.fresh_label(stage.rng), wire.fresh_address(stage.rng)
    name = f"{label}.storage.example.net"
    with wire.more_names(stage.lab, {name: InternetName(a=(IPv4Address(address),), ttl_s=33)}):
        stage.batch.ask(stage.cluster_ip, wire.query(name, ident=stage.id16()))
    query = the_flow(observed, stage.lab, asks_for(label))
    answer = the_flow(observed, stage.lab, asks_for(label, "RESPONSE"))
    assert (query["verdict"], query["is_reply"]) == ("FORWARDED", False)
    assert (answer["l7"]["dns"]["ips"], answer["l7"]["dns"]["ttl"]) == ([address], 33)
    assert (answer["destination"]["pod_name"], answer["is_reply"]) == ("batch", True)
    assert parse_time(query["time"]) < parse_time(answer["time"])


def test_hostile_names_stay_within_their_line(stage: Stage, observed: Observed) -> None:
    label = wire.fresh_label(stage.rng)
    labels = [b'"}\n{\x1b[2J\\\0\xff', label.encode(), b"org"]
    stage.frontend.ask(stage.cluster_ip, wire.query(labels, ident=stage.id16()))
    flow = the_flow(observed, stage.lab, asks_for(label))
    assert flow["l7"]["dns"]["query"] == rf"\"}}\010{{\027[2j\\\000\255.{label}.org."


def test_once_the_policy_allows_the_name_nothing_is_said_to_be_missing(
    own_quickstart: Lab, observed: Observed
) -> None:
    with Desk.of(own_quickstart) as desk, wire.stage(own_quickstart) as stage:
        name = f"{wire.fresh_label(stage.rng)}.example.org"
        stage.batch.ask(stage.cluster_ip, wire.query(name, ident=stage.id16()))
        desk.write("more.yaml", policy("more", asks=[name]))
        own_quickstart.wait_settled()
        flow = the_flow(observed, own_quickstart, asks_for(name))
    assert "has changed since" in flow["policy_log"][0]
    assert policies(flow, "egress_denied_by") == ["CiliumNetworkPolicy default/more"]


# --- several nodes ------------------------------------------------------------------------------------------


def test_each_node_tells_its_side_and_the_sides_come_in_the_order_of_their_times(observed: Observed) -> None:
    lab = Lab.up("two-nodes", name=f"t{os.getpid()}-two")
    try:
        with wire.Wire(lab, "legacy-1", wire.seeded()) as legacy, legacy.connect("10.244.1.20", 8080) as made:
            sport = made.getsockname()[1]

            def sides() -> list[JSON]:
                return list(filter(from_port(sport), observed(lab)))

            until(lambda: len(sides()) == 2, "both nodes have told")
        told = {
            side["node_name"]: (side["traffic_direction"], side["destination"]["pod_name"])
            for side in sides()
        }
        assert told == {"node1": ("EGRESS", "web-2"), "node2": ("INGRESS", "web-2")}
        moments = [parse_time(flow["time"]) for flow in observed(lab)]
        assert moments == sorted(moments)
    finally:
        lab.down()


# --- the command --------------------------------------------------------------------------------------------


def invoke(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", "lab.observe", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_followed_flows_come_as_they_happen_until_the_reader_has_enough(stage: Stage) -> None:
    with invoke(
        "--name", stage.lab.name, "--follow", "--json", "--pod", "batch", "--verdict", "DROPPED"
    ) as going:
        assert going.stdout is not None
        assert going.stderr is not None
        os.set_blocking(going.stdout.fileno(), False)
        sports: list[int] = []
        seen: list[JSON] = []

        def is_seen() -> bool:
            """Also a packet that was sent after the command had begun."""
            sports.append(send_syn(stage.batch, wire.fresh_address(stage.rng), 443))
            seen.extend(json.loads(line)["flow"] for line in going.stdout or ())
            ours = [flow for flow in seen if any(from_port(sport)(flow) for sport in sports[1:])]
            return len(ours) > 1

        until(is_seen, "what is dropped is shown", 30)
        assert {flow["source"]["pod_name"] for flow in seen} == {"batch"}
        going.send_signal(signal.SIGINT)
        assert (going.wait(10), going.stderr.read()) == (0, "")


def test_lines_for_people_say_what_json_says(stage: Stage, observed: Observed) -> None:
    sport = send_syn(stage.frontend, "198.51.100.99", 443)
    the_flow(observed, stage.lab, from_port(sport))
    with invoke("--name", stage.lab.name, "--pod", "frontend", "--verdict", "DROPPED") as command:
        output, errors = command.communicate(timeout=60)
    assert (command.returncode, errors) == (0, "")
    (line,) = (line for line in output.splitlines() if f"default/frontend:{sport} " in line)
    assert "-> 198.51.100.99:443 (world" in line
    assert (
        "egress POLICY_DENIED DROPPED (TCP Flags: SYN) [not allowed by default/frontend frontend.yaml:"
        in line
    )


def test_only_the_last_flows_are_shown_where_so_many_are_asked_for(stage: Stage, observed: Observed) -> None:
    sports = [send_syn(stage.batch, wire.fresh_address(stage.rng), 443) for _ in range(5)]
    the_flow(observed, stage.lab, from_port(sports[-1]))
    shown = observed(stage.lab, pod="batch", verdict="DROPPED", last="3")
    assert [flow["l4"]["TCP"]["source_port"] for flow in shown] == sports[-3:]


def test_a_reader_that_has_seen_enough_gets_no_traceback(stage: Stage, observed: Observed) -> None:
    sport = send_syn(stage.batch, wire.fresh_address(stage.rng), 443)
    the_flow(observed, stage.lab, from_port(sport))  # there is something to show
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "lab.observe", "--name", stage.lab.name],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


# --- life ---------------------------------------------------------------------------------------------------


def test_the_log_goes_on_after_the_shim_was_killed(own_quickstart: Lab, observed: Observed) -> None:
    with wire.stage(own_quickstart) as stage:
        before = send_syn(stage.batch, wire.fresh_address(stage.rng), 443)
        the_flow(observed, own_quickstart, from_port(before))
        own_quickstart.nodes[0].shim.kill()
        own_quickstart.wait_settled()
        sent: list[int] = []

        def is_logged() -> bool:
            """One of those sent since: the last may not have been written yet."""
            sent.append(send_syn(stage.batch, wire.fresh_address(stage.rng), 443))
            flows = observed(own_quickstart, pod="batch")
            return any(from_port(sport)(flow) for sport in sent for flow in flows)

        until(is_logged, "drops are logged again")
        assert any(map(from_port(before), observed(own_quickstart)))


def test_a_flood_of_denied_packets_is_not_a_flood_of_lines_and_nobody_elses_drop_is_lost_in_it(
    own_quickstart: Lab, observed: Observed
) -> None:
    """The kernel logs a few of each rule; a pod under other rules is heard all the same."""
    with wire.stage(own_quickstart) as stage:
        frame = bytes(
            stage.frontend.link / IP(src=stage.frontend.address, dst="198.18.9.9") / UDP(sport=1, dport=9)
        )
        for _ in range(20_000):
            stage.frontend._card.send(frame)
        sport = send_syn(stage.batch, wire.fresh_address(stage.rng), 443)
        the_flow(observed, own_quickstart, from_port(sport))
        flooded = [flow for flow in observed(own_quickstart) if flow["IP"]["destination"] == "198.18.9.9"]
        assert 0 < len(flooded) < 500
