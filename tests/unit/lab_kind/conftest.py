"""Labs on kind with stand-ins for the programs: a folder with them on PATH, and what they were asked."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.backends.kind import store
from lab.backends.kind.kind_lab import KindLab
from lab.runtime import state
from lab.spec.load import find_topology, load_topology
from lab.spec.plan import Addressing
from lab.spec.topology import Topology
from lab.world import certs
from lab.world.manifests import manifest_files

from ..deploy import kustomize

CONTROL, WORKER = "demo-control-plane", "demo-worker"
STANDIN = Path(__file__).with_name("standin_cli.py")
NODES = (STANDIN.parents[2] / "data" / "kind-cli" / "nodes.json").read_text()
INFO = json.dumps({"MemTotal": 16 << 30, "DockerRootDir": "/nowhere/docker"})
KUSTOMIZED = yaml.safe_dump_all(kustomize.build(kustomize.DEPLOY / "overlays" / "kind"))
INTERNET = json.dumps([{"NetworkSettings": {"Networks": {"kind": {"IPAddress": "172.18.0.9"}}}}])


def pod(
    namespace: str, name: str, node: str, address: str, *, ready: bool = True, container: str = ""
) -> dict[str, Any]:
    """As `kubectl get pods` shows one; `container`: the id of the one that runs."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    state = {"running": {}} if container else {"waiting": {"reason": "CrashLoopBackOff"}}
    one = {"name": "main", "state": state, "containerID": f"containerd://{container or 'c' * 64}"}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": conditions,
            "containerStatuses": [one],
        },
    }


PODS = [
    pod("acns-system", "acns-shim-aaaaa", "demo-control-plane", "172.18.0.3"),
    pod("acns-system", "acns-resolver-bbbbb", "demo-control-plane", "172.18.0.3", ready=False),
    pod("default", "frontend", "demo-control-plane", "10.244.0.7"),
    pod("default", "web", "demo-control-plane", "10.244.0.9"),
]
SHIM_SAYS = {
    "ready": True,
    "endpoints": {
        f"default/{name}": {"identity": 4711, "enforced": "egress" if name == "frontend" else "none"}
        for name in ("frontend", "batch", "legacy", "web")
    },
    "problems": [],
    "errors": 0,
}


@dataclass
class Desk:
    """What the stand-ins are to say, and what they were asked."""

    folder: Path
    answers: list[dict[str, Any]] = field(default_factory=list)

    def say(self, words: str, recorded: str = "", **answer: Any) -> None:
        """Before what was said so far."""
        said = {"words": words.split(), **({"recorded": recorded} if recorded else answer)}
        self.answers.insert(0, said)
        (self.folder / "scenario.json").write_text(json.dumps(self.answers))

    def calls(self, *words: str) -> list[dict[str, Any]]:
        """Those that have all these words, in their order."""
        path = self.folder / "calls.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [one for one in found if _in_order(words, one["argv"])]

    def forget(self) -> None:
        (self.folder / "calls.jsonl").unlink(missing_ok=True)


def _in_order(words: tuple[str, ...], argv: list[str]) -> bool:
    rest = iter(argv)
    return all(any(word == part for part in rest) for word in words)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A machine where all works, and no cluster is there yet."""
    return make_desk(tmp_path, monkeypatch)


def make_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """That machine, in a folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("docker", "kind", "kubectl"):
        path = programs / program
        path.write_text(f"#!{sys.executable} -SEs\n" + STANDIN.read_text().partition("\n")[2])
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("STANDIN_DIR", str(tmp_path))
    monkeypatch.setenv("STANDIN_RECORDINGS", str(STANDIN.parents[2] / "data" / "kind-cli"))
    monkeypatch.setenv(store.ROOT_VARIABLE, str(tmp_path / "labs"))
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, str(tmp_path / "namespaces"))
    made = Desk(tmp_path)
    made.say("kubectl", stdout="")
    made.say("kubectl apply", "kubectl-apply-ok")
    made.say("kubectl rollout status", "kubectl-rollout-ds-ok")
    made.say("kubectl wait node", "kubectl-wait-nodes-ok")
    made.say("kubectl get", stdout='{"items": []}')
    made.say("kubectl get nodes", stdout=NODES)
    made.say("kubectl get deploy coredns", stdout="deployment.apps/coredns\n")
    made.say("kubectl get pods", stdout=json.dumps({"items": PODS}))
    made.say("kubectl get pods acns-lab/lab", stdout='{"items": []}')
    made.say("kubectl exec acns.telemetry.probe", stdout=json.dumps(SHIM_SAYS))
    made.say("kubectl exec lab.world.probe", rows=True)
    made.say("kind get nodes", "kind-get-nodes-absent")
    made.say("kind create cluster", "kind-create-ok")
    made.say("kind delete cluster", "kind-delete-ok")
    made.say("kind export kubeconfig", "kind-export-kubeconfig")
    made.say("kind load docker-image", "kind-load-docker-image-ok")
    made.say("docker", stdout="")
    made.say("docker info", stdout=INFO)
    made.say("docker inspect", stdout=INTERNET)
    made.say("docker exec lab.capture.relay", stdout='{"started": {}, "counts": []}\n')
    return made


KINDS = {
    "Namespace": "namespaces",
    "Node": "nodes",
    "Pod": "pods",
    "Service": "services",
    "EndpointSlice": "endpointslices",
    "CiliumNetworkPolicy": "ciliumnetworkpolicies.cilium.io",
}
CACHE = {
    "version": 1,
    "now": 1.0,
    "addresses": [
        {
            "name": "api.example.com.",
            "address": "198.51.100.77",
            "opens": ["name:api.example.com."],
            "learned_at": 1.0,
            "expires_at": 9e9,
            "asked_by": "default/frontend",
            "stay": "ttl",
            "stays_until": 9e9,
        }
    ],
}


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With a lab that is up, and a cluster of the quickstart's objects."""
    made = make_desk(tmp_path, monkeypatch)
    lab = KindLab(store.of("demo"), load_topology(find_topology("quickstart")))
    lab.store.save(lab.topology, 1)
    items: dict[str, list[object]] = {}
    for text in manifest_files(lab.topology, Addressing.of(lab.topology)).values():
        for one in yaml.safe_load_all(text):
            items.setdefault(KINDS[one["kind"]], []).append(one)
    for plural, listed in items.items():
        made.say(f"kubectl get {plural}", stdout=json.dumps({"items": listed}))
    agents = [pod("acns-system", "acns-shim-aaaaa", "node1", "172.18.0.3")]
    made.say("kubectl get pods -n acns-system", stdout=json.dumps({"items": agents}))
    made.say("kubectl exec acns-shim-aaaaa /cache", stdout=json.dumps(CACHE))
    return made


def topology(name: str = "quickstart") -> Topology:
    return load_topology(find_topology(name))


def lab(wanted: Topology | None = None) -> KindLab:
    return KindLab(store.of("demo"), wanted or topology())


@pytest.fixture
def up(desk: Desk) -> KindLab:
    """A lab that is up."""
    desk.say("kubectl kustomize", stdout=KUSTOMIZED)
    desk.say("kind get nodes", stdout="demo-control-plane\n")
    made = lab()
    made.store.save(made.topology, 1)
    certs.ensure(made.store.path, certs.certified_names(made.topology))
    return made


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
