"""A lab on kind that is half-made, or made already, or cannot be made."""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate
import pytest

from lab.backends.kind import looking, machine, store
from lab.backends.kind.kind_lab import KindLab
from lab.errors import EnvironmentFault, InputError, ProcessFailed
from lab.spec.topology import Manifest

from .conftest import (
    CONTROL,
    KUSTOMIZED,
    WORKER,
    Desk,
    applied,
    config,
    lab,
    nodes_named,
    topology,
)


def test_a_cluster_that_cannot_be_made_is_removed_and_the_reason_said(desk: Desk) -> None:
    desk.say("kind create cluster", "kind-create-bad-config")
    with pytest.raises(ProcessFailed, match="field nodez not found"):
        lab().up()
    assert [call["argv"][1] for call in desk.calls("kind")][-2:] == ["create", "delete"]


def test_a_half_made_lab_is_gone_on_with(desk: Desk) -> None:
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    desk.say("kubectl rollout status", "kubectl-rollout-timeout")
    with pytest.raises(ProcessFailed, match="timed out waiting for the condition"):
        lab().up()
    desk.say("kubectl rollout status", "kubectl-rollout-ds-ok")
    desk.say("kind get nodes", stdout="demo-control-plane\n")
    desk.forget()
    lab().up()
    assert not desk.calls("kind", "create")
    assert not desk.calls("kind", "delete")
    assert desk.calls("kind", "export", "kubeconfig")
    assert [one for one in applied(desk) if one["kind"] == "Pod"]


@pytest.mark.parametrize("there", [f"{WORKER}\n", f"{CONTROL}\ndemo-worker2\n"])
def test_a_cluster_that_lacks_a_node_is_made_anew(desk: Desk, up: KindLab, there: str) -> None:
    desk.say("kind get nodes", stdout=there)
    up.up()
    assert [call["argv"][1] for call in desk.calls("kind")][:3] == ["get", "delete", "create"]


def test_a_cluster_with_more_nodes_keeps_them_where_nobody_says_how_many(desk: Desk, up: KindLab) -> None:
    desk.say("kind get nodes", "kind-get-nodes")
    up.store.save(up.topology, 2)
    up.up()
    assert not desk.calls("kind", "delete")
    assert not desk.calls("kind", "create")
    assert up.store.nodes() == 2
    assert desk.calls("docker", "run", "container:demo-worker"), "its recorder"


@pytest.mark.parametrize(
    ("topology_name", "nodes", "roles"),
    [("quickstart", 1, ["control-plane"]), ("two-nodes", None, ["control-plane", "worker"])],
)
def test_a_cluster_is_made_anew_for_another_number_and_for_a_topology_that_needs_more(
    desk: Desk, up: KindLab, topology_name: str, nodes: int | None, roles: list[str]
) -> None:
    there = f"{CONTROL}\n{WORKER}\n" if nodes else f"{CONTROL}\n"
    desk.say("kind get nodes", stdout=there)
    lab(topology(topology_name)).up(nodes=nodes)
    assert [call["argv"][1] for call in desk.calls("kind")][:3] == ["get", "delete", "create"]
    assert [node["role"] for node in config(desk)["nodes"]] == roles


def test_of_a_cluster_that_is_there_in_part_the_number_is_kept(desk: Desk, up: KindLab) -> None:
    """Killed while it made containers; what was asked for is known."""
    desk.say("kind get nodes", "kind-get-nodes")
    desk.say("kubectl get nodes", stdout=nodes_named(CONTROL, WORKER, "demo-worker2"))
    up.store.save(up.topology, 3)
    up.up()
    assert len(config(desk)["nodes"]) == 3


def test_a_cluster_whose_nodes_never_joined_is_made_anew(
    desk: Desk, up: KindLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between init and join: kubeconfig and API server are there."""
    monkeypatch.setattr("lab.backends.kind.kind_lab._RETRY_S", 0.0)
    monkeypatch.setattr("lab.backends.kind.kind_lab._TRIES", 3)
    desk.say("kind get nodes", "kind-get-nodes")
    desk.say("kubectl get nodes", stdout=nodes_named(CONTROL))
    up.store.save(up.topology, 2)
    told: list[str] = []
    with pytest.raises(EnvironmentFault, match="no range of pod addresses for demo-worker"):
        up.up(told.append)  # for the stand-in's new cluster is as the old one
    assert [call["argv"][1] for call in desk.calls("kind")][:4] == ["get", "export", "delete", "create"]
    assert "cluster demo has never had demo-worker join it: it is made anew" in told


def test_another_version_than_that_of_the_cluster_that_is_there_is_refused(desk: Desk, up: KindLab) -> None:
    with pytest.raises(InputError, match=r"runs Kubernetes v1\.36\.2, and not v1\.33\.1") as raised:
        up.up(version="1.33.1")
    assert "lab.down" in raised.value.hint
    assert not desk.calls("kubectl", "apply")
    machine.refuse_other_version("1.36.2", "v1.36.2")
    machine.refuse_other_version("", "v1.36.2")


def test_a_cluster_without_coredns_gets_a_dns_of_the_labs(desk: Desk, up: KindLab) -> None:
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    desk.say("kubectl get deploy coredns", stdout="")
    up.up()
    made = [one for one in applied(desk) if one["metadata"].get("labels", {}).get("k8s-app") == "kube-dns"]
    assert [one["kind"] for one in made] == ["ConfigMap", "Deployment", "Service"]
    config, deployment, service = made
    for one in made:
        kubernetes_validate.validate(one, "1.29", strict=True)
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert f"server={up.topology.internet.dns}" in config["data"]["dnsmasq.conf"]
    assert desk.calls("kubectl", "rollout", "status", "deploy/acns-lab-dns")
    assert not desk.calls("kubectl", "rollout", "restart")


def test_a_cluster_that_no_lab_has_made_is_left_alone(desk: Desk) -> None:
    desk.say("kind get nodes", "kind-get-nodes")
    with pytest.raises(InputError, match="there is a kind cluster demo that no lab has made"):
        lab().up()
    assert [call["argv"][1] for call in desk.calls("kind")] == ["get"]
    assert store.known() == []


def test_a_policy_that_nobody_has_judged_is_waited_for(desk: Desk, up: KindLab) -> None:
    item: dict[str, Any] = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "frontend", "namespace": "default"},
    }
    desk.say("kubectl get ciliumnetworkpolicies.cilium.io", stdout=json.dumps({"items": [item]}))
    assert not looking.is_settled(up)
    item["status"] = {"conditions": [{"type": "Valid", "status": "True"}]}
    desk.say("kubectl get ciliumnetworkpolicies.cilium.io", stdout=json.dumps({"items": [item]}))
    assert looking.is_settled(up)
    desk.say("kubectl exec acns.telemetry.probe", exit_code=1, stdout="{}")
    assert not looking.is_settled(up)


def test_agents_that_do_not_come_up_say_why(desk: Desk, up: KindLab) -> None:
    desk.say("kubectl rollout status", "kubectl-rollout-timeout")
    desk.say(
        "kubectl -n acns-system logs", stdout="[pod/acns-shim-aaaaa] Cilium enforces policy on this node"
    )
    told: list[str] = []
    with pytest.raises(ProcessFailed):
        up.up(told.append)
    assert "Cilium enforces policy on this node" in told[-1]


def test_what_an_earlier_topology_had_is_removed(desk: Desk, up: KindLab) -> None:
    old = {"metadata": {"name": "old", "namespace": "default"}, "kind": "CiliumNetworkPolicy"}
    desk.say("kubectl get ciliumnetworkpolicies.cilium.io", stdout=json.dumps({"items": [old]}))
    desk.say("kubectl get pods acns-lab/lab", stdout=json.dumps({"items": [{"metadata": old["metadata"]}]}))
    up.up()
    assert desk.calls("kubectl", "-n", "default", "delete", "ciliumnetworkpolicies.cilium.io", "old")
    assert desk.calls("kubectl", "-n", "default", "delete", "pod", "old")
    assert not desk.calls("kubectl", "delete", "ciliumnetworkpolicies.cilium.io", "frontend")


def test_a_policy_that_is_named_like_a_date_is_the_topologys_own(desk: Desk) -> None:
    kind, name = "CiliumNetworkPolicy", "2024-01-01"
    there = {"metadata": {"name": name, "namespace": "default"}, "kind": kind}
    policy = Manifest(inline=f"kind: {kind}\nmetadata:\n  name: {name}\n")
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    desk.say("kubectl get ciliumnetworkpolicies.cilium.io", stdout=json.dumps({"items": [there]}))
    lab(topology().model_copy(update={"policies": (policy,)})).up()
    assert not desk.calls("kubectl", "delete", "ciliumnetworkpolicies.cilium.io", name)


def test_a_policy_that_is_no_yaml_is_told_at_its_place_before_anything_is_removed(desk: Desk) -> None:
    policy = Manifest(inline="kind: CiliumNetworkPolicy\nmetadata: [\n")
    old = {"metadata": {"name": "old", "namespace": "default"}, "kind": "CiliumNetworkPolicy"}
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    desk.say("kubectl get ciliumnetworkpolicies.cilium.io", stdout=json.dumps({"items": [old]}))
    desk.say("kubectl get pods acns-lab/lab", stdout=json.dumps({"items": [{"metadata": old["metadata"]}]}))
    with pytest.raises(InputError, match=re.escape("inline-1.yaml:3:1: not YAML")):
        lab(topology().model_copy(update={"policies": (policy,)})).up()
    assert not desk.calls("kubectl", "delete")


@pytest.mark.parametrize("text", ["metadata: [\n", "metadata: {}\n", "kind: x\nmetadata: 5\n", "[]\n", "5\n"])
def test_a_policy_that_is_to_be_refused_may_be_no_object_and_no_yaml(desk: Desk, text: str) -> None:
    wanted = {"policies": (Manifest(inline=text),), "expect": ("policy inline-1.yaml refused error",)}
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    lab(topology().model_copy(update=wanted)).up()


def test_a_moment_in_the_agents_manifests_is_applied_as_it_is_written(desk: Desk) -> None:
    dated = "kind: ConfigMap\nmetadata:\n  name: dated\n  annotations:\n    made: 2024-01-01T00:00:00Z\n"
    desk.say("kubectl kustomize", stdout=f"{KUSTOMIZED}---\n{dated}")
    lab().up()
    [text] = [call["stdin"] for call in desk.calls("kubectl", "apply", "-f", "-") if "dated" in call["stdin"]]
    assert "2024-01-01T00:00:00Z" in text


def test_pods_whose_parts_have_changed_are_made_anew(desk: Desk, up: KindLab, monkeypatch: Any) -> None:
    monkeypatch.setattr("lab.backends.kind.kind_lab._RETRY_S", 0.0)
    monkeypatch.setattr("lab.backends.kind.kind_lab._TRIES", 2)
    said = 'The Pod "web" is invalid: spec: Forbidden: pod updates may not change fields other than …'
    desk.say("kubectl apply", exit_code=1, stderr=said)
    with pytest.raises(ProcessFailed):
        up._apply_pods("kind: Pod")
    assert desk.calls("kubectl", "delete", "pod", "-A", "-l", "acns-lab/lab")
