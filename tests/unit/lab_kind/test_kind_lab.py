"""A lab on kind from beginning to end; stand-ins for docker, kind, kubectl say what was recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from acns.policy import manifests
from acns.policy.profiles import Profile
from lab.backends.kind import bundling, cluster, commands, looking, machine, store
from lab.backends.kind.kind_lab import KindLab
from lab.backends.kind.objects import served_policy
from lab.errors import EnvironmentFault, InputError, LabNotFound, ProcessFailed

from .conftest import KUSTOMIZED, NODES, Desk, lab, make_desk, topology

CONTROL, WORKER = "demo-control-plane", "demo-worker"


@pytest.fixture(scope="module")
def first_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """What is asked of the programs when a lab is brought up; to be looked at only."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = make_desk(tmp_path_factory.mktemp("up"), monkeypatch)
        made.say("kubectl kustomize", stdout=KUSTOMIZED)
        lab().up()
        yield made


def nodes_named(*names: str) -> str:
    """As `kubectl get nodes` shows them: recorded ones under these names."""
    (item, *_) = json.loads(NODES)["items"]
    return json.dumps({"items": [{**item, "metadata": {**item["metadata"], "name": one}} for one in names]})


def config(desk: Desk) -> dict[str, Any]:
    """Of the cluster that was made."""
    (created,) = desk.calls("kind", "create", "cluster")
    return dict(yaml.safe_load(Path(created["argv"][created["argv"].index("--config") + 1]).read_text()))


def applied(desk: Desk) -> list[dict[str, Any]]:
    texts = [call["stdin"] for call in desk.calls("kubectl", "apply", "-f", "-")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


# --- up ----------------------------------------------------------------------------------------------------


def test_a_cluster_is_made_without_a_second_policy_engine_and_of_one_family(first_up: Desk) -> None:
    (created,) = first_up.calls("kind", "create", "cluster", "--name", "demo")
    config = yaml.safe_load(Path(created["argv"][created["argv"].index("--config") + 1]).read_text())
    assert config["networking"] == {
        "ipFamily": "ipv4",
        "disableDefaultCNI": True,
        "podSubnet": "10.244.0.0/16",
        "serviceSubnet": "10.96.0.0/16",
    }
    assert [node["role"] for node in config["nodes"]] == ["control-plane"]
    assert "--image" not in created["argv"]


def test_images_are_built_and_loaded_before_anything_is_applied(first_up: Desk) -> None:
    calls = [" ".join(call["argv"]) for call in first_up.calls()]
    order = [
        next(number for number, call in enumerate(calls) if words in call)
        for words in (
            "kind create",
            "docker build",
            "kind load",
            "docker run",
            "apply -f -",
            "rollout status ds/",
        )
    ]
    assert order == sorted(order)
    targets = [call["argv"][call["argv"].index("--target") + 1] for call in first_up.calls("docker", "build")]
    assert targets == ["agents", "lab"]


def test_images_are_made_of_what_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PIP_INDEX_URL", "ACNS_BASE_IMAGE"):
        monkeypatch.delenv(variable, raising=False)
    assert machine.build_arguments() == []
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("ACNS_BASE_IMAGE", "registry.example/debian:bookworm-slim")
    assert machine.build_arguments() == [
        *("--build-arg", "PIP_INDEX_URL=https://index.example/simple"),
        *("--build-arg", "BASE=registry.example/debian:bookworm-slim"),
    ]


def test_every_node_gets_its_network_and_the_way_to_the_internet(first_up: Desk) -> None:
    for node, own, other in (
        ("demo-worker", "10.244.1.0/24", "10.244.0.0/24 via 172.18.0.3"),
        ("demo-control-plane", "10.244.0.0/24", "10.244.1.0/24 via 172.18.0.2"),
    ):
        script, cni = (call["stdin"] for call in first_up.calls("docker", "exec", "--interactive", node))
        assert f"ip route replace {other}" in script
        assert f"ip route replace {own}" not in script
        assert "ip route replace 198.51.100.10/32 via 172.18.0.9" in script
        ipam = json.loads(cni)["plugins"][0]["ipam"]
        assert ipam["ranges"] == [[{"subnet": own}]]


@pytest.mark.root
def test_the_network_script_runs_and_can_run_again(first_up: Desk) -> None:
    """In a namespace with a node's uplink; by a real shell, ip and nft."""
    script = first_up.calls("docker", "exec", "--interactive", "demo-worker")[0]["stdin"]
    setup = (
        "ip link set lo up; ip link add eth0 type veth peer name x; ip link set eth0 up; ip link set x up; "
    )
    setup += "ip address add 172.18.0.2/16 dev eth0; "
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    for _ in range(2):
        command = [
            "/usr/bin/unshare",
            "--net",
            "sh",
            "-c",
            f"{setup}{script}\n{script}\nip route; nft list ruleset",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=path, check=False)
        assert done.returncode == 0, done.stderr
        assert "10.244.0.0/24 via 172.18.0.3" in done.stdout
        assert "masquerade" in done.stdout


@pytest.mark.root
def test_a_nodes_link_is_cut_and_mended_by_rules_of_its_own() -> None:
    """By a real shell and nft, twice each."""
    down, ok = (cluster.cordon_script(down=which) for which in (True, False))
    for script, cut in ((ok, False), (down + down, True), (down + ok, False)):
        command = ["/usr/bin/unshare", "--net", "sh", "-ec", f"{script}\nnft list ruleset"]
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, env=path, check=False)
        assert done.returncode == 0, done.stderr
        assert ('iifname "eth0" drop' in done.stdout) is cut


def test_all_that_is_applied_is_what_kubernetes_takes(first_up: Desk) -> None:
    made = applied(first_up)
    assert {one["kind"] for one in made} >= {
        "DaemonSet",
        "Pod",
        "Service",
        "ConfigMap",
        "CustomResourceDefinition",
    }
    for one in made:
        if one["apiVersion"] != "cilium.io/v2":
            kubernetes_validate.validate(one, "1.36", strict=True)


def test_comments_that_silence_warnings_reach_the_cluster_as_annotations(first_up: Desk) -> None:
    """An API server keeps no comments, and the shim would warn of what is meant."""
    policies = {one["metadata"]["name"]: one for one in applied(first_up) if one["kind"].endswith("Policy")}
    found = {name: one["metadata"].get("annotations") for name, one in policies.items()}
    assert found["batch"] == {"acns-lab/ignore": "trailing-wildcard-labels"}
    assert found["frontend"] is None
    assert manifests.parse_served(policies["batch"], Profile.ACNS).problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "metadata:\nspec: {}\n",
        "metadata: [name]\n",
        "metadata: {name: web, annotations: [one]}\n",
        "- a list\n",
        "metadata: {name: web\n",
        "spec: {}\nspec: {}\n",
    ],
)
def test_a_wrong_policy_with_such_a_comment_reaches_the_cluster_as_it_is(text: str) -> None:
    whole = f"# acns:ignore trailing-wildcard-labels\n{text}"
    assert served_policy(whole, "web.yaml") == whole


def test_pods_are_on_their_node_with_their_program_and_without_rights(first_up: Desk) -> None:
    pods = {one["metadata"]["name"]: one for one in applied(first_up) if one["kind"] == "Pod"}
    assert sorted(pods) == ["batch", "frontend", "legacy", "web"]  # and not kube-dns
    for one in pods.values():
        assert one["spec"]["nodeName"] == "demo-control-plane"
        assert one["spec"]["securityContext"]["runAsNonRoot"] is True
        assert one["spec"]["containers"][0]["imagePullPolicy"] == "Never"
    command = pods["web"]["spec"]["containers"][0]["command"]
    assert command[:5] == ["python3", "-m", "lab.world.web", "--http-port", "8080"]
    services = [one["metadata"]["name"] for one in applied(first_up) if one["kind"] == "Service"]
    assert services == ["web"]


def test_the_clusters_dns_has_the_labs_internet_behind_it(first_up: Desk) -> None:
    (config,) = [one for one in applied(first_up) if one["metadata"]["name"] == "coredns"]
    assert "forward . 203.0.113.53" in config["data"]["Corefile"]
    (run,) = first_up.calls("docker", "run", "--name", "demo-internet")
    assert "--listen 203.0.113.53" in run["argv"][-1]
    assert "ip address add 198.51.100.10/32 dev lo" in run["argv"][-1]


def test_settings_of_agents_reach_their_command_line(desk: Desk) -> None:
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    wanted = topology()
    node = wanted.nodes[0].model_copy(update={"shim": {"profile": "cilium", "idle_grace_s": 1.5}})
    lab(wanted.model_copy(update={"nodes": (node,)})).up()
    (shim,) = [
        one for one in applied(desk) if one["metadata"]["name"] == "acns-shim" and one["kind"] == "DaemonSet"
    ]
    command = shim["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[-4:] == ["--set", "profile=cilium", "--set", "idle_grace_s=1.5"]


def test_nodes_and_version_are_as_asked_for(desk: Desk) -> None:
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    desk.say("kubectl get nodes", stdout=nodes_named(CONTROL, WORKER, "demo-worker2"))
    lab().up(nodes=3, version="1.33.1")
    (created,) = desk.calls("kind", "create", "cluster", "--image", "kindest/node:v1.33.1")
    assert "kindest/node:v1.33.1" in created["argv"]
    assert [node["role"] for node in config(desk)["nodes"]] == ["control-plane", "worker", "worker"]


def test_an_image_is_built_without_a_time_in_it(desk: Desk, up: KindLab) -> None:
    """By default buildx says when it was built, and nothing that is built again would be the same."""
    up.up()
    builds = desk.calls("docker", "build")
    assert builds
    assert {call["environment"].get("BUILDX_NO_DEFAULT_ATTESTATIONS") for call in builds} == {"1"}


def test_with_another_image_there_are_other_pods(desk: Desk, up: KindLab) -> None:
    """What stands in a container's environment cannot be changed in place."""
    texts = set()
    for image in ("sha256:1", "sha256:1", "sha256:2"):
        desk.say("docker image inspect", stdout=f"{image}\n")
        desk.forget()
        up.up()
        texts.add("".join(call["stdin"] for call in desk.calls("kubectl", "apply") if "Pod" in call["stdin"]))
    assert len(texts) == 2
    assert sum("value: sha256:1" in text for text in texts) == 1


# --- half-made, and made already ---------------------------------------------------------------------------


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


def test_pods_whose_parts_have_changed_are_made_anew(desk: Desk, up: KindLab, monkeypatch: Any) -> None:
    monkeypatch.setattr("lab.backends.kind.kind_lab._RETRY_S", 0.0)
    monkeypatch.setattr("lab.backends.kind.kind_lab._TRIES", 2)
    said = 'The Pod "web" is invalid: spec: Forbidden: pod updates may not change fields other than …'
    desk.say("kubectl apply", exit_code=1, stderr=said)
    with pytest.raises(ProcessFailed):
        up._apply_pods("kind: Pod")
    assert desk.calls("kubectl", "delete", "pod", "-A", "-l", "acns-lab/lab")


# --- looking, using, ending --------------------------------------------------------------------------------


def test_status_has_agents_and_what_the_shim_says_of_pods(up: KindLab) -> None:
    found = up.status()
    node = next(one for one in found.nodes if one.name == "demo-control-plane")
    assert [(agent.name, agent.health) for agent in node.agents] == [
        ("shim", "ready"),
        ("resolver", "not ready"),
    ]
    pods = {one.name: one for one in found.pods}
    assert (pods["frontend"].identity, pods["frontend"].enforced) == (4711, "egress")
    assert str(pods["web"].address) == "10.244.0.9"
    assert pods["batch"].program == "not there"


def test_the_truth_table_is_tried_in_the_pods_and_names_what_is_left_out(desk: Desk, up: KindLab) -> None:
    rows, left_out = up.check()
    assert all(row.ok for row in rows)
    assert len(rows) + len(left_out) == len(up.topology.expect)
    reasons = {line.rpartition(": ")[2] for line in left_out}
    assert reasons == {
        "the cluster has IPv4 only",
        "the cluster's DNS is CoreDNS here, and not the topology's pod",
    }
    asked = [json.loads(call["stdin"]) for call in desk.calls("kubectl", "exec", "--stdin", "frontend")]
    statements = [text for one in asked for text in one["statements"]]
    assert "frontend connects 10.244.0.9:8080" in statements, "the address that the cluster gave"
    assert {one["ca"] for one in asked} == {"/etc/acns-lab/ca.pem"}


def test_a_statement_that_is_not_true_is_exit_code_1(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    wanted = topology()
    expect = (*wanted.expect, "legacy resolves wrong.example.com")
    lab(wanted.model_copy(update={"expect": expect})).up()
    assert commands.KindCommands(lab(wanted.model_copy(update={"expect": expect}))).check(as_json=False) == 1
    assert "1 of" in capsys.readouterr().out


def test_a_policy_that_is_refused_is_known_by_its_status(desk: Desk, up: KindLab) -> None:
    condition = {"type": "Valid", "status": "False", "message": "toFQDNs: a bare wildcard is not supported"}
    item = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "frontend", "namespace": "default"},
        "status": {"conditions": [condition]},
    }
    anothers = {**item, "metadata": {"name": "batch", "namespace": "other"}}
    desk.say("kubectl get ciliumnetworkpolicies.cilium.io", stdout=json.dumps({"items": [item, anothers]}))
    expect = ("policy frontend.yaml refused not supported", "policy batch.yaml refused not supported")
    rows, _ = lab(up.topology.model_copy(update={"expect": expect})).check()
    assert [(row.ok, row.actual) for row in rows] == [(True, "refused"), (False, "taken")]
    assert all("--dry-run=server" in call["argv"] for call in desk.calls("kubectl", "apply")), (
        "only looked at"
    )


def test_exec_gives_the_commands_own_exit_code_and_output(desk: Desk, up: KindLab, capfd: Any) -> None:
    desk.say("kubectl exec frontend sh", "kubectl-exec-exit-code")
    found = commands.lab("demo")
    assert found is not None
    assert found.execute("frontend", ["sh", "-c", "echo out; echo err >&2; exit 7"]) == 7
    assert capfd.readouterr().out == "out\n"
    found.execute("node1", ["ip", "route"])
    assert desk.calls("docker", "exec", "demo-control-plane", "ip", "route")
    found.execute("internet", ["ip", "address"])
    assert desk.calls("docker", "exec", "demo-internet", "ip", "address")
    with pytest.raises(LabNotFound, match="no pod nobody"):
        found.execute("nobody", ["true"])


def test_logs_are_those_of_the_agent_on_that_node(desk: Desk, up: KindLab) -> None:
    assert up.logs_argv("node1/shim", follow=True)[-2:] == ["--follow", "acns-shim-aaaaa"]
    assert up.logs_argv("web", follow=False)[-2:] == ["logs", "web"]
    assert up.logs_argv("internet", follow=False)[:2] == ["docker", "logs"]
    with pytest.raises(LabNotFound):
        up.logs_argv("node9/shim", follow=False)


def test_logs_as_json_have_an_object_for_each_line(desk: Desk, up: KindLab, capsys: Any) -> None:
    desk.say("kubectl logs acns-shim-aaaaa", stdout='one\n{"two": 2}\n', exit_code=3)
    found = commands.lab("demo")
    assert found is not None
    assert found.logs("node1/shim", follow=False, as_json=True) == 3
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["version"], one["process"], one["line"]) for one in said] == [
        (1, "node1/shim", "one"),
        (1, "node1/shim", '{"two": 2}'),
    ]


def test_a_bundle_has_the_cluster_the_nodes_and_the_logs(up: KindLab, tmp_path: Path) -> None:
    bundling.write(up, tmp_path / "b.zip")
    names = set(zipfile.ZipFile(tmp_path / "b.zip").namelist())
    assert {
        "README.md",
        "topology.json",
        "cluster/objects.yaml",
        "cluster/policies.yaml",
        "nodes/demo-control-plane/rules.txt",
        "nodes/demo-control-plane/flows.jsonl",
        "nodes/demo-control-plane/resolver-journal.jsonl",
        "nodes/demo-control-plane/shim-journal.jsonl",
        "nodes/demo-control-plane/shim-cache",
        "logs/shim.txt",
        "logs/resolver.txt",
        "logs/internet.txt",
        "logs/demo-internet-recorder.txt",
        "capture.missing.txt",  # these stand-ins have no packets
    } <= names


def test_down_leaves_nothing_whatever_state_the_lab_is_in(desk: Desk, up: KindLab) -> None:
    assert up.down() is True
    assert desk.calls("kind", "delete", "cluster", "--name", "demo")
    assert desk.calls("docker", "rm", "--force", "demo-internet")
    assert store.known() == []
    assert commands.lab("demo") is None
    desk.say("kind delete cluster", "kind-delete-absent")
    assert lab().down() is False


def test_a_command_that_is_not_there_on_kind_says_so(up: KindLab) -> None:
    from lab.runtime.lab import Lab

    with pytest.raises(InputError, match="demo is a lab on kind, which has no such command"):
        Lab.attach("demo")


# --- the stand-ins themselves ------------------------------------------------------------------------------

RECORDINGS = sorted(Path(__file__).parents[2].joinpath("data", "kind-cli").glob("k*.json"))


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.stem)
def test_a_stand_in_says_what_was_recorded(desk: Desk, file: Path) -> None:
    recorded = json.loads(file.read_text())
    desk.say(" ".join(recorded["argv"][:2]), file.stem)
    program = str(desk.folder / "bin" / recorded["argv"][0])
    done = subprocess.run([program, *recorded["argv"][1:]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == tuple(
        recorded[key] for key in ("exit_code", "stdout", "stderr")
    )
    assert sys.executable in (desk.folder / "bin" / "kind").read_text()
