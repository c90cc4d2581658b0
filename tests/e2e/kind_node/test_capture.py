"""`lab.capture` about a node of a kind cluster: its links, agents and logs are real, and so is the recorder
beside it, which has CAP_NET_RAW alone; docker and kubectl are stand-ins that run things here, or say what the
cluster has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.backends.kind import bundling, seeing, store
from lab.backends.kind.kind_lab import KindLab
from lab.backends.kind.recording import OnKind
from lab.capture import bpf, commands
from lab.errors import EnvironmentFault, InputError
from lab.repro.showing import opening
from lab.runtime import happenings, state
from lab.spec.topology import Topology

from ..resolver.resolver_world import Namespace, until
from .kind_node import ADDRESS, CLIENT, DATA, FREE, KUBE_DNS, KindNode

pytestmark = pytest.mark.root
OTHER = "other.test."
ONLY_NET_RAW = ("setpriv", "--no-new-privs", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw")
NET_RAW = 1 << 13

DOCKER = """#!{python}
import json, os, sys
assert sys.argv[1] == "exec", sys.argv
where, *command = sys.argv[2:]
network, control, has_files = json.load(open({table!r}))[where]
if control:  # the recorder beside it
    command[0], command[-2] = {python!r}, control
elif command[0] in ("sh", "tail") and not has_files:
    sys.exit(44)
os.execvp("nsenter", ["nsenter", "--net=" + network, *command])
"""
KUBECTL = """#!{python}
import json, os, sys
if "exec" in sys.argv:  # a page of the shim's
    os.execv({python!r}, [{python!r}, "-m", "acns.telemetry.probe", {socket!r}, sys.argv[-1]])
kind = sys.argv[sys.argv.index("get") + 1].partition(".")[0]
items = json.load(open({objects!r})).get(kind, [])
wanted = sys.argv[sys.argv.index("-n") + 1] if "-n" in sys.argv else None
print(json.dumps({{"items": [one for one in items if wanted in (None, one["metadata"].get("namespace"))]}}))
"""


SHIM_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "acns-shim-aaaaa", "namespace": "acns-system"},
    "spec": {"nodeName": "demo-worker", "hostNetwork": True},
    "status": {"phase": "Running", "podIP": "172.18.0.2", "hostIP": "172.18.0.2"},
}


@dataclass
class World:
    """The lab, and what stands in for docker: container → its network, its recorder's socket, whether the
    agents' files are there."""

    lab: KindLab
    node: KindNode
    folder: Path
    recorders: list[subprocess.Popen[bytes]]

    def capture(self, *words: str, **typed: str) -> int:
        return commands.run(words, "demo", commands.Typed(**typed))  # type: ignore[arg-type]

    def table(self, **changed: str) -> dict[str, list[object]]:
        worker, rest = (self.network(one) for one in (self.node.node, self.node.rest))
        found: dict[str, list[object]] = {
            "demo-worker": [worker, "", True],
            "demo-control-plane": [rest, "", False],
            "demo-internet": [rest, "", False],
        }
        for name in list(found):
            control = changed.get(name.replace("-", "_"), str(self.folder / f"{name}.sock"))
            found[f"{name}-recorder"] = [found[name][0], control, False]
        (self.folder / "table.json").write_text(json.dumps(found))
        return found

    @staticmethod
    def network(namespace: Namespace) -> str:
        return f"/proc/{namespace.process.pid}/ns/net"

    def record(self, place: str, name: str, namespace: Namespace) -> None:
        """As `recorders.start` has it done in a container."""
        places = self.folder / f"{name}.places"
        places.write_text(json.dumps({"places": {place: "/proc/self/ns/net"}}))
        control = self.folder / f"{name}.sock"
        recorder = (sys.executable, "-m", "lab.capture.recorder", "--control", str(control))
        command = [*namespace.command, *ONLY_NET_RAW, *recorder, "--places", str(places)]
        self.recorders.append(subprocess.Popen(command))
        until(control.exists, "recorder", 60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("node")
    node = KindNode("nftables", folder)
    files = {
        "flow_log_file": str(folder / "flows.jsonl"),
        "flow_log": "all",
        "journal_file": str(folder / "shim-journal.jsonl"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.ROOT_VARIABLE, str(folder / "labs"))
        patch.setenv(state.STATE_ROOT_VARIABLE, str(folder / "namespaces"))
        resolver = {"journal_file": str(folder / "resolver-journal.jsonl")}
        shim = {**files, "state_dir": str(folder / "shim")}
        nodes = [{"name": name, "shim": shim, "resolver": resolver} for name in ("one", "two")]
        topology = Topology.model_validate({"name": "demo", "nodes": nodes})
        made = World(KindLab(store.of("demo"), topology), node, folder, [])
        made.lab.store.save(topology, 2)
        _programs(folder, patch)
        made.table()
        try:
            for place, name, where in (
                ("internet", "demo-internet", node.rest),
                ("node/demo-control-plane", "demo-control-plane", node.rest),
                ("node/demo-worker", "demo-worker", node.node),
            ):
                made.record(place, name, where)
            node.start(**files)
            yield made
        finally:
            for recorder in made.recorders:
                recorder.kill()
                recorder.wait()
            node.end()


def _programs(folder: Path, patch: pytest.MonkeyPatch) -> None:
    objects: dict[str, list[Any]] = {}
    for one in yaml.safe_load_all((DATA / "cluster.yaml").read_text()):
        kind = str(one["kind"]).lower()
        objects.setdefault(f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s", []).append(one)
    objects["pods"].append(SHIM_POD)
    for number, node in enumerate(objects["nodes"]):
        node["spec"] = {"podCIDR": f"10.244.{number}.0/24"}
    (folder / "objects.json").write_text(json.dumps(objects))
    (folder / "bin").mkdir()
    said = {"python": sys.executable, "table": str(folder / "table.json")}
    said["socket"] = str(folder / "shim-http.sock")
    said["objects"] = str(folder / "objects.json")
    for name, text in (("docker", DOCKER), ("kubectl", KUBECTL)):
        path = folder / "bin" / name
        path.write_text(text.format(**said))
        path.chmod(0o755)
    patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def find(path: Path, wanted: str, *fields: str) -> list[list[str]]:
    options = [option for field in fields for option in ("-e", field)]
    argv = ["tshark", "-r", str(path), "-Y", wanted, "-T", "fields", *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def links(path: Path) -> set[str]:
    done = subprocess.run(["capinfos", str(path)], capture_output=True, text=True, check=True)
    lines = (line.strip() for line in done.stdout.splitlines())
    return {line.removeprefix("Name = ") for line in lines if line.startswith("Name = ")}


def test_what_is_always_recorded_has_each_pods_packets_with_what_the_agents_decided(
    world: World, tmp_path: Path
) -> None:
    world.node.ask(CLIENT, KUBE_DNS)
    world.node.ask(CLIENT, KUBE_DNS, OTHER)
    journal = world.folder / "resolver-journal.jsonl"
    until(lambda: journal.exists() and "other.test" in journal.read_text(), "journal")
    path = tmp_path / "x.pcapng"
    assert world.capture("save", output=str(path)) == 0
    (asked, *_) = find(
        path, 'frame.comment contains "query ext.test A"', "frame.interface_name", "frame.comment"
    )
    assert asked[0] == "shop/client/eth0"
    assert "→ allowed by shop/client" in asked[1]
    assert f"set +{ADDRESS}" in asked[1]
    (refused, *_) = find(path, 'frame.comment contains "query other.test A"', "ip.src", "frame.comment")
    assert refused[0] == CLIENT
    assert "→ refused: not allowed by shop/client" in refused[1]
    nodes = {"demo-worker/eth0", "demo-control-plane/eth0", "internet/eth0"}
    assert {"shop/client/eth0", "shop/free/eth0", "demo-worker/resolver", *nodes} <= links(path)


def test_a_capture_at_one_pod_with_a_filter_has_that(world: World, tmp_path: Path) -> None:
    assert world.capture("start", "shop/client", filter="tcp port 53") == 0
    with pytest.raises(InputError, match="a capture runs already"):
        world.capture("start", "shop/client")
    for pod in (CLIENT, FREE):
        world.node.ask(pod, KUBE_DNS, tcp=True)
    world.node.ask(CLIENT, KUBE_DNS)
    assert world.capture("stop") == 0
    assert world.lab.store.path.joinpath("stopped-capture").stat().st_mode & 0o777 == 0o600
    path = tmp_path / "x.pcapng"
    assert world.capture("save", output=str(path)) == 0
    assert {tuple(one) for one in find(path, "ip", "frame.interface_name", "ip.proto")} == {
        ("shop/client/eth0", "6")
    }
    with pytest.raises(InputError, match="no capture was started"):
        world.capture("stop")


def test_a_capture_that_cannot_start_at_one_place_runs_at_none(world: World) -> None:
    recorded = OnKind(world.lab)
    wanted = [("node/demo-control-plane", "eth0"), ("node/demo-worker", "absent0")]
    request = {"op": "start", "program": bpf.compiled("").hex(), "filter": "", "size_bytes": 8 << 20}
    listed = [{"place": place, "interface": interface} for place, interface in wanted]
    said = json.loads(recorded.asked({**request, "links": listed}).readline())
    assert "cannot record absent0" in said["error"]["message"]
    assert not json.loads(recorded.asked({"op": "status"}).readline())["started"]


def test_the_recorders_have_one_capability(world: World) -> None:
    for one in world.recorders:
        lines = Path(f"/proc/{one.pid}/status").read_text().splitlines()
        assert [int(line.split()[1], 16) for line in lines if line.startswith("CapEff")] == [NET_RAW]


def test_the_rules_that_one_pod_meets_have_their_policy(world: World) -> None:
    (part,) = seeing.rules(world.lab, "shop/client")
    assert (part.node, part.pod) == ("demo-worker", "shop/client")
    policies = {origin for chain in part.chains for rule in chain.rules for origin in rule.policies}
    assert any("client" in one for one in policies), part
    about = {chain.about for chain in part.chains}
    assert {"what it asks of DNS servers", "what it sends"} <= about


def test_the_cache_is_what_shim_and_kernel_both_say(world: World) -> None:
    world.node.ask(CLIENT, KUBE_DNS)
    (found,) = [one for one in seeing.caches(world.lab, None) if one.node == "demo-worker"]
    assert found.answered
    assert found.agrees, (found.missing, found.foreign)
    assert [(one.name, str(one.address), one.asked_by) for one in found.entries] == [
        ("ext.test.", ADDRESS, "shop/client")
    ]


def test_events_are_those_of_the_agents_of_all_nodes(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeing.events(world.lab, happenings.Typed(json=True)) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(one["node"], one["agent"]) for one in shown} == {
        ("demo-worker", "shim"),
        ("demo-worker", "resolver"),
    }
    assert "policy.committed" in {one["event"] for one in shown}


def test_the_picture_has_the_pods_and_what_they_asked(world: World, tmp_path: Path) -> None:
    world.node.ask(CLIENT, KUBE_DNS)
    graph = seeing.drawing(world.lab).now()
    (asked,) = [one for one in graph.edges if one.pod == "shop/client" and "ext.test" in one.target]
    assert asked.asked
    assert "demo-worker" in {box.name for box in graph.nodes}


def test_a_bundle_is_read_by_what_reads_bundles(world: World, tmp_path: Path) -> None:
    world.node.ask(CLIENT, KUBE_DNS)
    bundling.write(world.lab, path := tmp_path / "b.zip")
    evidence, said = opening.evidence_of(path)
    assert any(
        (message.tap, str(message.source.address)) == ("shop/client/eth0", CLIENT)
        for message in evidence.messages
    )
    assert {one.tap for one in said} == {"demo-worker/resolver", "demo-worker/shim"}


def test_a_recorder_that_does_not_answer_is_named(world: World) -> None:
    world.table(demo_worker=str(world.folder / "absent.sock"))
    try:
        with pytest.raises(EnvironmentFault, match="the recorder of demo-worker does not answer") as raised:
            world.capture("status")
    finally:
        world.table()
    assert "docker logs demo-worker-recorder" in raised.value.hint
