"""Which flow a packet becomes: who, what, why. Policies stand in the world below, packets in the tests."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from acns.api.ledger_file import Terms
from acns.datapath import base, nflog
from acns.datapath.ctevents import Opened
from acns.datapath.headers import Headers
from acns.datapath.model import Description, Ruleset
from acns.datapath.nflog import Logged
from acns.policy.cluster import Cluster
from acns.policy.model import (
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    Everything,
    Match,
    NodePolicy,
    Origin,
    identity_key,
)
from acns.policy.objects import Namespace, Place, Pod, Policy, Service, Spec
from acns.policy.selectors import Key, Operator, Requirement, Selector
from acns.shim.flow_names import FlowNames
from acns.shim.flow_scene import Scene
from acns.shim.flow_teller import MAX_POLICIES, Teller
from acns.shim.ledger import Ledger
from acns.shim.planner import Plan
from acns.telemetry import flows
from acns.telemetry.flows import DropReason, Event, Flow, L4Protocol, Layer4, PolicyRef, Verdict

NOW_NS = 5_000_000_000
POD_A, POD_B, REMOTE = IPv4Address("10.244.0.2"), IPv4Address("10.244.0.3"), IPv4Address("10.244.1.2")
NODE, OTHER_NODE = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")
SERVICE, WORLD = IPv4Address("10.96.20.20"), IPv4Address("198.51.100.7")
LOOPBACK_INDEX = 1  # `lo`: an interface that there is wherever the tests run


def labelled(app: str) -> frozenset[str]:
    return frozenset({f"k8s:app={app}", "k8s:io.kubernetes.pod.namespace=default"})


def origin(policy: str, section: str, rule: int, line: int) -> Origin:
    return Origin(f"default/{policy}", section, rule, "/m/policies.yaml", line, 5)


ALLOWS, ALSO_ALLOWS = origin("a-may", "egress", 0, 10), origin("b-may", "egress", 0, 40)
DENIES = origin("a-may-not", "egressDeny", 1, 20)
LETS_IN = origin("b-lets-in", "ingress", 0, 30)


def match(of: Origin) -> Match:
    return Match(Everything(), None, of)


def selecting(app: str) -> Selector:
    return Selector((Requirement(Key("any", "app"), Operator.IN, (app,)),))


def policy(name: str, app: str, *default_deny: Direction, line: int = 1) -> Policy:
    spec = Spec(selecting(app), (), frozenset(default_deny))
    place = Place("/m/policies.yaml", line)
    return Policy("CiliumNetworkPolicy", "default", name, (spec,), place=place)


CLUSTER = Cluster.of(
    [
        Namespace("default", {"team": "web"}),
        Pod("default", "a", {"app": "a"}, "node1", POD_A),
        Pod("default", "b", {"app": "b"}, "node1", POD_B),
        Pod("default", "far", {"app": "far"}, "node2", REMOTE),
        Service("default", "web", (SERVICE,)),
        policy("a-may", "a", Direction.EGRESS, line=8),
        policy("a-may-not", "a", line=18),
        policy("b-lets-in", "b", Direction.INGRESS, line=28),
    ]
)
NODE_POLICY = NodePolicy(
    node="node1",
    endpoints=(
        EndpointPolicy(
            Endpoint("default", "a", POD_A, labelled("a")),
            egress=DirectionPolicy(True, (match(ALLOWS),), (match(DENIES),)),
        ),
        EndpointPolicy(
            Endpoint("default", "b", POD_B, labelled("b")),
            egress=DirectionPolicy(True, (match(ALSO_ALLOWS),)),
            ingress=DirectionPolicy(True, (match(LETS_IN),)),
        ),
    ),
    cluster_addresses=frozenset({POD_A, POD_B, REMOTE, NODE, OTHER_NODE}),
    service_addresses=frozenset({SERVICE}),
    node_addresses=frozenset({NODE}),
)
SCENE = Scene(
    cluster=CLUSTER,
    policy=NODE_POLICY,
    interfaces={POD_A: "lo", POD_B: "veth-b", IPv4Address("10.9.9.9"): "veth-c"},
    descriptions={
        # Two pods whose policies say the same have one rule.
        "re_1": Description("rule", "everything", (ALLOWS, ALSO_ALLOWS), direction=Direction.EGRESS),
        "ri_1": Description("rule", "everything", (LETS_IN,), direction=Direction.INGRESS),
        "de_1": Description("rule", "x", (DENIES,), direction=Direction.EGRESS, deny=True),
    },
    grants={Direction.EGRESS: lambda: {"re_1": 7}, Direction.INGRESS: lambda: {"ri_1": 9}},
    identities=lambda: {identity_key(labelled("a")): 257},
    endpoints=lambda: {"default/a": 3},
)


@pytest.fixture
def names() -> FlowNames:
    return FlowNames()


@pytest.fixture
def teller(names: FlowNames) -> Teller:
    return Teller("node1", SCENE, names)


def syn(source: Any = POD_A, destination: Any = WORLD) -> Headers:
    return Headers(source, destination, 6, 40000, 443, 0x02)


def drop(teller: Teller, rule_id: str, headers: Headers, hook: int = nflog.PREROUTING, **more: Any) -> Flow:
    interface = {"in_interface": LOOPBACK_INDEX} if hook == nflog.PREROUTING else {}
    flow = teller.dropped(Logged(f"acns:{rule_id} ", hook, 0, headers, **{**interface, **more}), NOW_NS)
    assert flow is not None
    return flow


def keys(policies: tuple[PolicyRef, ...]) -> list[str]:
    return [f"{policy.namespace}/{policy.name}" for policy in policies]


# --- drops ------------------------------------------------------------------------------------------------


def test_what_no_rule_allows_names_the_pod_and_the_policies_that_make_it_deny(
    teller: Teller, names: FlowNames
) -> None:
    names.learned((b"api", b"example", b"com"), [WORLD.packed], 60)
    flow = drop(teller, "eg_0123456789", syn(), time_ns=4_500_000_000)
    assert flow == Flow(
        time_ns=4_500_000_000,
        node="node1",
        verdict=Verdict.DROPPED,
        source=flows.Peer("10.244.0.2", 257, "default", "a", tuple(sorted(labelled("a"))), endpoint_id=3),
        destination=flows.Peer("198.51.100.7", 2, labels=("reserved:world",), names=("api.example.com",)),
        direction=flows.Direction.EGRESS,
        event=Event.DROP,
        reason=DropReason.POLICY_DENIED,
        is_reply=False,
        l4=Layer4(L4Protocol.TCP, 40000, 443, ("SYN",)),
        policies=(
            PolicyRef(
                "CiliumNetworkPolicy",
                "a-may",
                "default",
                (
                    "k8s:io.cilium.k8s.policy.derived-from=CiliumNetworkPolicy",
                    "k8s:io.cilium.k8s.policy.name=a-may",
                    "k8s:io.cilium.k8s.policy.namespace=default",
                    "acns:default-deny=/m/policies.yaml:8:1",
                ),
            ),
        ),
        interface="lo",
        summary="TCP Flags: SYN",
    )


def test_a_packet_without_a_time_of_its_own_has_the_time_of_its_reading(teller: Teller) -> None:
    assert drop(teller, "in_0", syn(WORLD, POD_B), nflog.FORWARD).time_ns == NOW_NS


@pytest.mark.parametrize(
    ("rule_id", "headers", "hook", "direction", "is_reply", "denying"),
    [
        ("eg_0", syn(), nflog.PREROUTING, flows.Direction.EGRESS, False, ["default/a-may"]),
        ("er_0", syn(WORLD, POD_A), nflog.FORWARD, flows.Direction.EGRESS, True, ["default/a-may"]),
        ("in_0", syn(WORLD, POD_B), nflog.FORWARD, flows.Direction.INGRESS, False, ["default/b-lets-in"]),
        ("ir_0", syn(POD_B), nflog.PREROUTING, flows.Direction.INGRESS, True, ["default/b-lets-in"]),
    ],
)
def test_a_closing_chain_tells_whose_connection_it_is(
    teller: Teller,
    rule_id: str,
    headers: Headers,
    hook: int,
    direction: Any,
    is_reply: bool,
    denying: list[str],
) -> None:
    more = {"in_interface": 0} if rule_id == "ir_0" else {}
    flow = drop(teller, rule_id, headers, hook, **more)
    assert (flow.direction, flow.is_reply, keys(flow.policies)) == (direction, is_reply, denying)


def test_a_deny_names_the_rule_that_says_so_and_where_it_stands(teller: Teller) -> None:
    flow = drop(teller, "de_1", syn())
    assert (flow.reason, keys(flow.policies)) == (DropReason.POLICY_DENY, ["default/a-may-not"])
    assert flow.policies[0].labels[-1] == "acns:egressDeny[1]=/m/policies.yaml:20:5"


def test_a_deny_that_catches_an_answer_is_of_the_direction_its_policy_is_of(teller: Teller) -> None:
    flow = drop(teller, "de_1", syn(WORLD, POD_A), nflog.FORWARD)
    assert (flow.direction, keys(flow.policies)) == (flows.Direction.EGRESS, ["default/a-may-not"])


def test_a_rule_that_is_gone_is_said_to_be_gone(teller: Teller) -> None:
    flow = drop(teller, "de_2", syn())
    assert (flow.reason, flow.policies, flow.notes) == (
        DropReason.POLICY_DENY,
        (),
        ("rule de_2 is gone since",),
    )


def test_where_every_pod_is_enforced_no_policy_is_blamed(teller: Teller) -> None:
    flow = drop(teller, "in_0", syn(WORLD, POD_A), nflog.FORWARD)
    assert flow.policies == ()
    assert flow.notes


@pytest.mark.parametrize("counter", sorted(base.COUNTERS))
def test_every_counter_of_the_ruleset_has_a_reason_of_its_own_and_says_what_it_counts(
    teller: Teller, counter: str
) -> None:
    flow = drop(teller, counter, syn())
    assert flow.reason not in (DropReason.DROP_REASON_UNKNOWN, DropReason.POLICY_DENIED)
    assert flow.notes == (base.COUNTERS[counter],)


def test_who_sends_under_a_false_address_is_known_by_the_interface(teller: Teller) -> None:
    for false in (POD_B, IPv4Address("10.244.0.99"), IPv6Address("2001:db8::1")):
        flow = drop(teller, "spoofed", dataclasses.replace(syn(), source=false))
        assert (flow.source.address, flow.source.key) == (str(false), "default/a")


def test_other_programs_logs_are_none_of_ours(teller: Teller) -> None:
    assert teller.dropped(Logged("kube-router: ", nflog.FORWARD, 0, syn()), NOW_NS) is None


def test_a_line_stays_a_line_however_many_policies_select_a_pod(names: FlowNames) -> None:
    many = [policy(f"p{number}", "a", Direction.EGRESS) for number in range(500)]
    scene = dataclasses.replace(SCENE, cluster=Cluster.of(many), denying={})
    assert len(drop(Teller("node1", scene, names), "eg_0", syn()).policies) == MAX_POLICIES


def test_what_was_found_in_hundreds_of_policies_is_kept_until_one_of_them_changes(tmp_path: Path) -> None:
    ledger, pod_a = Ledger(tmp_path / "ledger", Terms(min_ttl_s=0, margin_s=60)), NODE_POLICY.endpoints[0]

    def after(cluster: Cluster, before: Scene | None) -> Scene:
        plan = Plan(cluster, NODE_POLICY, Ruleset(frozenset(), {}, {}, {}, {}), frozenset())
        return Scene.of(plan, {}, ledger, before)

    first = after(CLUSTER, None)
    found = first.default_denying(pod_a, Direction.EGRESS)
    with_another_pod = dataclasses.replace(CLUSTER, pods=CLUSTER.pods[:2])
    assert after(with_another_pod, first).default_denying(pod_a, Direction.EGRESS) is found
    moved = tuple(dataclasses.replace(one, place=Place("/m/policies.yaml", 80)) for one in CLUSTER.policies)
    edited = after(dataclasses.replace(CLUSTER, policies=moved), first)
    (other,) = edited.default_denying(pod_a, Direction.EGRESS)
    assert other.labels[-1] == "acns:default-deny=/m/policies.yaml:80:1"


def test_a_flood_of_false_addresses_is_not_remembered(teller: Teller) -> None:
    for number in range(1000):
        drop(teller, "spoofed", syn(IPv4Address(number), IPv4Address(number)))
    assert len(SCENE._residents) <= 3


# --- who --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "key", "identity", "labels"),
    [
        (NODE, "", 1, ("reserved:host",)),
        (OTHER_NODE, "", 6, ("reserved:remote-node",)),
        (WORLD, "", 2, ("reserved:world",)),
        (IPv6Address("2001:db8::1"), "", 2, ("reserved:world",)),
    ],
)
def test_who_is_no_pod_is_known_by_its_reserved_identity(
    address: Any, key: str, identity: int, labels: tuple[str, ...]
) -> None:
    peer = SCENE.peer(address)
    assert (peer.key, peer.identity, peer.labels) == (key, identity, labels)


def test_a_pod_of_another_node_has_its_name_and_labels() -> None:
    peer = SCENE.peer(REMOTE)
    assert peer.key == "default/far"
    assert {"k8s:app=far", "k8s:io.cilium.k8s.namespace.labels.team=web"} <= set(peer.labels)


def test_an_endpoints_labels_are_selected_by_whatever_stands_in_them() -> None:
    name = "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name"
    selector = Selector((Requirement(Key("k8s", name), Operator.IN, ("a=b",)),))
    spec = Spec(selector, (), frozenset({Direction.EGRESS}))
    cluster = Cluster.of([Policy("NetworkPolicy", "x", "odd", (spec,))])
    scene = dataclasses.replace(SCENE, cluster=cluster, denying={})
    endpoint = EndpointPolicy(Endpoint("x", "a", POD_A, frozenset({f"k8s:{name}=a=b"})))
    assert keys(scene.default_denying(endpoint, Direction.EGRESS)) == ["x/odd"]
    assert keys(scene.default_denying(endpoint, Direction.INGRESS)) == []


# --- connections ------------------------------------------------------------------------------------------


def opened(source: Any, destination: Any, egress: int = 0, ingress: int = 0, asked: Any = None) -> Opened:
    headers = Headers(source, destination, 6, 40000, 8080)
    return Opened(headers, asked or destination, 80, egress, ingress)


def test_a_grant_names_the_rule_that_let_the_connection_out_and_only_this_pods_policies(
    teller: Teller,
) -> None:
    (flow,) = teller.opened(opened(POD_A, WORLD, egress=7), NOW_NS)
    assert (flow.verdict, flow.direction, flow.event) == (
        Verdict.FORWARDED,
        flows.Direction.EGRESS,
        Event.POLICY_VERDICT,
    )
    assert keys(flow.policies) == ["default/a-may"]
    assert flow.policies[0].labels[-1] == "acns:egress[0]=/m/policies.yaml:10:5"


def test_a_connection_between_two_pods_of_the_node_shows_both_policies_at_work(teller: Teller) -> None:
    out, into = teller.opened(opened(POD_A, POD_B, egress=7, ingress=9), NOW_NS)
    assert (out.direction, keys(out.policies)) == (flows.Direction.EGRESS, ["default/a-may"])
    assert (into.direction, keys(into.policies)) == (flows.Direction.INGRESS, ["default/b-lets-in"])


def test_a_connection_that_no_ingress_policy_judged_is_shown_once(teller: Teller) -> None:
    assert len(teller.opened(opened(POD_A, POD_B, egress=7), NOW_NS)) == 1


def test_a_connection_to_a_pod_from_elsewhere_is_shown(teller: Teller) -> None:
    (flow,) = teller.opened(opened(REMOTE, POD_A), NOW_NS)
    assert (flow.direction, flow.event, flow.policies) == (flows.Direction.INGRESS, Event.TRACE, ())


def test_a_pod_that_reaches_itself_is_shown_once(teller: Teller) -> None:
    assert len(teller.opened(opened(POD_B, POD_B, egress=7, ingress=9), NOW_NS)) == 1


def test_connections_of_nobodys_pods_are_left_out(teller: Teller) -> None:
    assert teller.opened(opened(NODE, WORLD), NOW_NS) == []


def test_a_connection_to_a_service_says_which(teller: Teller) -> None:
    (flow,) = teller.opened(opened(POD_A, REMOTE, egress=7, asked=SERVICE), NOW_NS)
    assert (flow.destination.key, flow.destination.service) == ("default/far", "default/web")


def test_a_grant_that_nobody_gives_any_more_is_let_through_without_a_name(teller: Teller) -> None:
    (flow,) = teller.opened(opened(POD_A, WORLD, egress=1234), NOW_NS)
    assert (flow.verdict, flow.policies) == (Verdict.FORWARDED, ())


# --- the words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "summary"),
    [
        (Headers(POD_A, WORLD, 6, 1, 2, 0x12), "TCP Flags: SYN, ACK"),
        (Headers(POD_A, WORLD, 6, 1, 2), "TCP"),
        (Headers(POD_A, WORLD, 17, 1, 2), "UDP"),
        (Headers(POD_A, WORLD, 1, icmp_type=8, icmp_code=0), "ICMPv4 type 8 code 0"),
        (Headers(POD_A, WORLD, 47), "IP protocol 47"),
    ],
)
def test_what_kind_of_packet_it_is(teller: Teller, headers: Headers, summary: str) -> None:
    assert drop(teller, "eg_0", headers).summary == summary
