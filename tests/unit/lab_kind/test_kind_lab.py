"""A lab on kind: looked at, used, ended. Stand-ins for docker, kind, kubectl say what was recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lab.backends.kind import bundling, commands, store
from lab.backends.kind.kind_lab import KindLab
from lab.errors import InputError, LabNotFound

from .conftest import (
    KUSTOMIZED,
    Desk,
    lab,
    topology,
)


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
