"""Who asked the DNS, and which rule would have let him: read from the manifests beside the shim."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from acns.shim.settings import ShimSettings
from acns.shim.sources.memory import FILE, Memory
from acns.telemetry.flows import Direction, DNSMessage, DropReason, Flow, L4Protocol, Layer4, Peer, Verdict
from lab.runtime.dns_view import DNSView

CLUSTER = """\
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: default, labels: {app: app}}
spec: {nodeName: node1, containers: []}
status: {phase: Running, podIP: 10.244.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {nodeName: node1, containers: []}
status: {phase: Running, podIP: 10.244.0.53}
"""
POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: app, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: app}}
  egress:
    - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
      toPorts:
        - ports: [{port: "53", protocol: ANY}]
          rules: {dns: [{matchName: NAME}]}
"""


@dataclass
class Shim:
    """Says who its endpoints are, or is down."""

    endpoints: dict[str, Any] | None = field(
        default_factory=lambda: {"default/app": {"id": 3, "identity": 257}}
    )

    def http_get(self, path: str) -> Shim:
        if self.endpoints is None:
            raise ConnectionRefusedError
        return self

    def json(self) -> dict[str, Any]:
        return {"endpoints": self.endpoints}


@dataclass
class Node:
    manifests: Path
    name: str = "node1"
    shim: Shim = field(default_factory=Shim)

    @property
    def state(self) -> Path:
        return self.manifests / "shim-state"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "policy.yaml").write_text(POLICY.replace("NAME", "api.example.com"))
    return Node(tmp_path)


@pytest.fixture
def view(node: Node) -> Callable[[], DNSView]:
    def made() -> DNSView:
        settings = ShimSettings(node=node.name, manifests=str(node.manifests), state_dir=str(node.state))
        found = DNSView(node, settings)  # type: ignore[arg-type]
        found.refresh()
        return found

    return made


def refused(view: DNSView, name: str = "evil.example.org.", server: str = "10.244.0.53", **more: Any) -> Flow:
    flow = Flow(
        time_ns=1,
        node="node1",
        verdict=Verdict.DROPPED,
        source=view.who("10.244.0.2"),
        destination=view.who(server),
        direction=Direction.EGRESS,
        reason=DropReason.POLICY_DENIED,
        l4=Layer4(L4Protocol.UDP, destination_port=53),
        dns=DNSMessage(name),
    )
    return view.explained(Flow(**{**{slot: getattr(flow, slot) for slot in Flow.__slots__}, **more}))


def test_a_pod_is_known_by_name_labels_and_the_identity_that_its_shim_gave_it(view: Any) -> None:
    app = view().who("10.244.0.2")
    assert (app.key, app.identity, app.endpoint_id) == ("default/app", 257, 3)
    assert "k8s:app=app" in app.labels
    assert view().who("192.0.2.1").labels == ("reserved:world",)
    assert view().who("nowhere") == Peer("nowhere")


def test_while_the_shim_is_down_pods_have_no_identity(view: Any, node: Node) -> None:
    node.shim.endpoints = None
    assert view().who("10.244.0.2").identity == 0


def test_a_refused_name_leads_to_the_rules_that_lack_it(view: Any) -> None:
    flow = refused(view())
    assert [policy.name for policy in flow.policies] == ["app"]
    assert flow.policies[0].labels[-1].startswith("acns:egress[0]=")
    assert flow.policies[0].labels[-1].endswith("policy.yaml:7:7")
    assert flow.notes == ("no name or pattern of its rules.dns matches",)


def test_a_query_that_went_on_has_the_policy_that_let_it(view: Any, node: Node) -> None:
    went_on = {"verdict": Verdict.FORWARDED, "reason": DropReason.DROP_REASON_UNKNOWN}
    flow = refused(view(), dns=DNSMessage("api.example.com."), **went_on)
    assert [policy.name for policy in flow.policies] == ["app"]
    assert flow.policies[0].labels[-1].endswith("policy.yaml:7:7")
    assert refused(view(), **went_on).policies == ()  # the policy has changed since


def test_a_policy_that_was_changed_since_is_read_again(view: Any, node: Node) -> None:
    known = view()
    path = node.manifests / "policy.yaml"
    path.write_text(POLICY.replace("NAME", "evil.example.org"))
    os.utime(path, ns=(1, 1))
    assert refused(known).notes == ("no name or pattern of its rules.dns matches",)
    known.refresh()
    assert refused(known).notes == ("the policy has changed since: it allows the name now",)
    path.unlink()
    known.refresh()
    assert refused(known).notes == (
        "the policy has changed since: it does not look at this server's names now",
    )


def test_what_cannot_be_read_is_left_out_and_a_folder_that_is_away_is_gone_by_as_it_was(
    view: Any, node: Node
) -> None:
    (node.manifests / "itself.yaml").symlink_to("itself.yaml")
    (node.manifests / "nowhere.yaml").symlink_to("nowhere")
    known = view()
    node.manifests /= "away"
    known.refresh()
    assert refused(known).notes == ("no name or pattern of its rules.dns matches",)


def test_what_counts_is_what_the_shim_goes_by_and_not_what_is_being_written(view: Any, node: Node) -> None:
    node.state.mkdir()
    remembered = Memory(node.state / FILE)
    remembered.set("cluster.yaml", CLUSTER)
    remembered.set("policy.yaml", POLICY.replace("NAME", "api.example.com"))
    remembered.save()
    (node.manifests / "policy.yaml").write_text(POLICY.replace("endpointSelector", "endpointSelectors"))
    (node.manifests / "cluster.yaml").write_text("kind: [")
    known = view()
    assert known.who("10.244.0.2").key == "default/app"
    assert refused(known).notes == ("no name or pattern of its rules.dns matches",)
    remembered.set("policy.yaml", POLICY.replace("NAME", "evil.example.org"))
    remembered.save()
    known.refresh()
    assert refused(known).notes == ("the policy has changed since: it allows the name now",)


@pytest.mark.parametrize("kept", [b"", b"damaged\n"])
def test_without_a_memory_of_the_shims_the_files_count(view: Any, node: Node, kept: bytes) -> None:
    node.state.mkdir()
    (node.state / FILE).write_bytes(kept)
    assert refused(view()).notes == ("no name or pattern of its rules.dns matches",)


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"source": Peer("10.244.0.99")}, "no pod of this node has that address now"),
        ({"dns": DNSMessage("a..b")}, "the name cannot be read"),
        ({"destination": Peer("dns")}, "the name cannot be read"),
    ],
)
def test_what_cannot_be_explained_is_said(view: Any, more: dict[str, Any], note: str) -> None:
    assert refused(view(), **more).notes == (note,)


@pytest.mark.parametrize(
    "more",
    [{"reason": DropReason.INVALID_PACKET_DROPPED}, {"dns": DNSMessage("a.", is_answer=True)}, {"dns": None}],
)
def test_other_flows_need_no_explanation(view: Any, more: dict[str, Any]) -> None:
    assert refused(view(), **more).notes == ()


def test_a_manifest_that_cannot_be_read_costs_nothing_but_itself(view: Any, node: Node) -> None:
    (node.manifests / "broken.yaml").write_bytes(b"\xff\xfe: [")
    (node.manifests / "wrong.yaml").write_text("kind: Pod\nspec: [")
    (node.manifests / "gone.yaml").symlink_to("/nonexistent/file")
    (node.manifests / "folder.yaml").mkdir()
    assert view().who("10.244.0.2").key == "default/app"
