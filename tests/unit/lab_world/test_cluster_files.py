"""What the cluster's objects become on disk: manifests, DNS configuration, the pods' own files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from acns.policy.manifests import parse
from acns.policy.profiles import Profile
from lab.spec.load import find_topology, load_topology, shipped_topologies
from lab.spec.plan import Addressing
from lab.spec.topology import Manifest, Topology
from lab.world import cluster_dns, manifests, pod_files


@pytest.fixture(scope="module")
def quickstart() -> Topology:
    return load_topology(find_topology("quickstart"))


def objects(topology: Topology, filename: str) -> dict[str, dict[str, object]]:
    text = manifests.manifest_files(topology, Addressing.of(topology))[filename]
    return {item["metadata"]["name"]: item for item in yaml.safe_load_all(text)}


@pytest.mark.parametrize(
    "path", [path for path in shipped_topologies() if path.stem != "unsupported"], ids=lambda path: path.stem
)
def test_the_shim_takes_every_shipped_topologys_manifests_without_a_word(path: Path) -> None:
    topology = load_topology(path)
    for name, text in manifests.manifest_files(topology, Addressing.of(topology)).items():
        parsed = parse(text, name, Profile.ACNS)
        assert not parsed.problems, name
        assert parsed.objects, name


def test_manifests_say_nothing_of_ipv6(quickstart: Topology) -> None:
    """A dual-stack pod is refused by the profile; the pods' IPv6 addresses are the lab's own business."""
    ours = set(manifests.manifest_files(quickstart, Addressing.of(quickstart))) - {
        "frontend.yaml",
        "batch.yaml",
    }
    assert all(
        "fd00" not in manifests.manifest_files(quickstart, Addressing.of(quickstart))[name] for name in ours
    )


def test_an_endpoint_slice_has_the_pods_that_the_selector_matches_in_its_namespace() -> None:
    topology = load_topology(find_topology("two-nodes"))
    stray = topology.pods[-1].model_copy(update={"name": "stray", "labels": {"app": "web"}, "address": None})
    topology = topology.model_copy(update={"pods": (*topology.pods, stray)})
    slices = objects(topology, "endpointslices.yaml")
    (web,) = [item for name, item in slices.items() if name.startswith("web-")]
    assert [(e["addresses"], e["nodeName"], e["targetRef"]["name"]) for e in web["endpoints"]] == [
        (["10.244.0.20"], "node1", "web-1"),
        (["10.244.1.20"], "node2", "web-2"),
    ]
    assert [(port["name"], port["port"]) for port in web["ports"]] == [("http", 8080), ("https", 8443)]


def test_policies_are_copied_byte_for_byte_under_their_own_names(quickstart: Topology) -> None:
    inline = quickstart.model_copy(update={"policies": (*quickstart.policies, Manifest(inline="kind: x\n"))})
    files = manifests.policy_files(inline)
    folder = find_topology("quickstart").parent / "policies"
    assert files["frontend.yaml"] == (folder / "frontend.yaml").read_text()
    assert files["inline-3.yaml"] == "kind: x\n"


def test_an_object_is_named_as_kubernetes_reads_its_name() -> None:
    text = "kind: NetworkPolicy\nmetadata: {name: 2024-01-01, namespace: 1:40}\n"
    assert manifests.places(text) == {("NetworkPolicy", "1:40", "2024-01-01")}


def test_a_pods_resolv_conf_is_the_kubelets(quickstart: Topology) -> None:
    frontend = next(pod for pod in quickstart.pods if pod.name == "frontend")
    assert pod_files.resolv_conf(quickstart, frontend).splitlines() == [
        "search default.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]


def test_the_dns_pod_and_a_cluster_without_dns_use_the_internets(quickstart: Topology) -> None:
    dns_pod = next(pod for pod in quickstart.pods if pod.name == "kube-dns")
    frontend = next(pod for pod in quickstart.pods if pod.name == "frontend")
    without = quickstart.model_copy(update={"services": ()})
    for text in (pod_files.resolv_conf(quickstart, dns_pod), pod_files.resolv_conf(without, frontend)):
        assert text == "nameserver 203.0.113.53\noptions ndots:0\n"


def test_dnsmasq_takes_its_configuration(quickstart: Topology, tmp_path: Path) -> None:
    if not shutil.which("dnsmasq"):
        pytest.skip("dnsmasq is not installed")
    config = tmp_path / "dnsmasq.conf"
    config.write_text(cluster_dns.config_text(quickstart))
    checked = subprocess.run(
        [*cluster_dns.command(config), "--test"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
