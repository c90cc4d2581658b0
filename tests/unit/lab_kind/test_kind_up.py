"""What is made of a cluster when a lab on kind is brought up, as stand-ins for its programs see it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from acns.policy import manifests
from acns.policy.profiles import Profile
from lab.backends.kind import cluster, machine
from lab.backends.kind.kind_lab import KindLab
from lab.backends.kind.objects import served_policy

from .conftest import (
    CONTROL,
    KUSTOMIZED,
    WORKER,
    Desk,
    applied,
    config,
    lab,
    make_desk,
    nodes_named,
    topology,
)


@pytest.fixture(scope="module")
def first_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """What is asked of the programs when a lab is brought up; to be looked at only."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = make_desk(tmp_path_factory.mktemp("up"), monkeypatch)
        made.say("kubectl kustomize", stdout=KUSTOMIZED)
        lab().up()
        yield made


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
