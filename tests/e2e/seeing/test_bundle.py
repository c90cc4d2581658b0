"""`lab.bundle`: enough to know later what was, and to bring the same lab up again."""

from __future__ import annotations

import json
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from lab.backends.order import Order
from lab.report import bundle
from lab.runtime.lab import Lab
from lab.spec.load import load_topology
from lab.world import manifests

from ...waiting import until
from .commands import invoke

pytestmark = pytest.mark.root

ADDED = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: added, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress: [{toCIDR: [198.51.100.0/24]}]
"""


def unpacked(path: Path, into: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(into)
    return into


@pytest.fixture(scope="module")
def folder(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("bundle")
    lab.pod("frontend").run(["dig", "evil.example.org"])
    # A connection that its pod keeps open: the kernel has it, and the shim writes it down.
    client = lab.pod("legacy").popen(["bash", "-c", "exec 3<>/dev/tcp/198.51.100.10/80; exec sleep 60"])
    for file, text in (("resolver-journal.jsonl", b"evil"), ("flows.jsonl", b"198.51.100.10")):
        until(lambda file=file, text=text: text in (lab.folder.node("node1") / file).read_bytes())
    done = invoke(lab, "lab.bundle", "--output", str(home / "b.zip"), "--json")
    client.kill()
    client.wait()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"version": 1, "lab": lab.name, "path": str(home / "b.zip")}
    return unpacked(home / "b.zip", home / "unpacked")


def test_it_has_a_version_and_nothing_is_missing(folder: Path) -> None:
    about = json.loads((folder / "bundle.json").read_text())
    assert (about["format"], about["version"]) == (bundle.FORMAT, bundle.VERSION)
    assert (folder / "missing.txt").read_text() == ""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("nodes/node1/ruleset.nft", "table inet acns"),
        ("nodes/node1/conntrack.txt", "dst=198.51.100.10"),
        ("nodes/node1/flows.jsonl", '"verdict"'),
        ("nodes/node1/resolver-journal.jsonl", "evil.example.org"),
        ("nodes/node1/shim-journal.jsonl", "policy.committed"),
        ("nodes/node1/shim-readyz", "manifests"),
        ("nodes/node1/shim-metrics", "acns_"),
        ("nodes/node1/shim.log", "{"),
        ("nodes/node1/shim-state/ledger.log", "numbers"),
        ("nodes/node1/manifests/frontend.yaml", "toFQDNs"),
        ("pods/default_frontend/network.txt", "10.244.0.2"),
        ("internet/records.json", "api.example.com"),
        ("events.jsonl", "lab.built"),
        ("status.json", "frontend"),
        ("doctor.json", "features"),
        ("versions.json", "nftables v"),
        ("README.md", "acns-lab lab.up --topology topology.yaml\n"),
    ],
)
def test_what_the_layout_promises_is_there(folder: Path, file: str, text: str) -> None:
    assert text in (folder / file).read_text()


def test_the_capture_in_it_can_be_searched(folder: Path) -> None:
    wanted = 'frame.comment contains "query evil.example.org"'
    argv = ["tshark", "-r", str(folder / "capture.pcapng"), "-Y", wanted]
    assert "evil.example.org" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_where_all_is_in_force_nothing_else_is_said(folder: Path) -> None:
    assert "not in force" not in (folder / "README.md").read_text().partition("What is where")[0]


def test_its_topology_is_the_labs_and_brings_the_same_manifests(lab: Lab, folder: Path) -> None:
    read = load_topology(folder / "topology.yaml")
    again = manifests.manifest_files(read, Order(read, {}).addressing)
    assert again == dict(lab.order.manifests)
    assert read.expect == lab.topology.expect


def test_a_policy_that_was_added_to_the_running_lab_is_in_its_topology(lab: Lab, tmp_path: Path) -> None:
    lab.write_manifest("added.yaml", ADDED)
    try:
        lab.wait_settled()
        folder = unpacked(bundle.write(lab, tmp_path / "b.zip"), tmp_path / "unpacked")
    finally:
        lab.remove_manifest("added.yaml")
        lab.wait_settled()
    read = load_topology(folder / "topology.yaml")
    assert manifests.policy_files(read)["added.yaml"] == ADDED


def test_a_refused_edit_is_told_and_what_is_in_force_is_in_its_topology(lab: Lab, tmp_path: Path) -> None:
    lab.write_manifest("added.yaml", ADDED)
    lab.wait_settled()
    lab.write_manifest("added.yaml", refused := ADDED.replace("toCIDR", "toCIDRs"))
    try:
        lab.wait_settled()
        folder = unpacked(bundle.write(lab, tmp_path / "b.zip"), tmp_path / "unpacked")
    finally:
        lab.remove_manifest("added.yaml")
        lab.wait_settled()
    assert manifests.policy_files(load_topology(folder / "topology.yaml"))["added.yaml"] == ADDED
    assert (folder / "nodes/node1/manifests/added.yaml").read_text() == refused
    told = (folder / "README.md").read_text()
    assert "not in force as they are written" in told
    assert [line for line in told.splitlines() if line.startswith("- ")] == [
        "- nodes/node1/manifests/added.yaml"
    ]


def test_a_lab_in_trouble_gives_what_it_can_and_says_what_it_cannot(lab: Lab, tmp_path: Path) -> None:
    shim, recorder = lab.process("node1/shim"), lab.process("lab/recorder")
    shim.hold()
    recorder.hold()
    try:
        folder = unpacked(bundle.write(lab, tmp_path / "b.zip"), tmp_path / "unpacked")
    finally:
        for process in (recorder, shim):
            process.start()
        lab.wait_settled()
    missing = (folder / "missing.txt").read_text()
    for wanted in ("capture.pcapng: HolderGone", "nodes/node1/shim-readyz: ", "nodes/node1/shim-metrics: "):
        assert wanted in missing
    assert "table inet acns" in (folder / "nodes/node1/ruleset.nft").read_text()
    assert '"held"' in (folder / "bundle.json").read_text()


def test_it_is_for_its_owner_alone_and_holds_no_private_key(lab: Lab, tmp_path: Path) -> None:
    path = bundle.write(lab, tmp_path / "b.zip")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if b"PRIVATE KEY" in archive.read(name)]


def test_where_it_cannot_be_written_it_is_said_what_to_do(lab: Lab, tmp_path: Path) -> None:
    done = invoke(lab, "lab.bundle", "--output", str(tmp_path / "no" / "b.zip"))
    assert (done.returncode, "--output" in done.stderr) == (2, True)
