"""A lab that is up becomes another in place: what its file says anew is done, what it says as before is not
touched, and `plan` says the same without doing it.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.backends.order import NO_AGENTS, Agents
from lab.capture import commands as capturing
from lab.capture import saving, tapes
from lab.capture.of_namespaces import OfNamespaces
from lab.errors import Bug, InputError, LabNotFound, ProcessFailed
from lab.runtime.lab import Lab, list_labs, take_down

from ...waiting import until
from .small_labs import topology as two_nodes

API = "198.51.100.10"
DOWNLOAD = f"http://{API}/download?bytes=2000000000&rate=20000"
WEB = {"name": "web", "node": "n2", "labels": {"app": "web"}, "program": {"kind": "web"}}
A, B = {"name": "a", "node": "n1"}, {"name": "b", "node": "n1", "namespace": "other"}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    for summary in list_labs():
        take_down(summary.name)


def up(lines: list[str] | None = None, agents: Agents = NO_AGENTS, **more: Any) -> Lab:
    progress = lines.append if lines is not None else print
    return Lab.up(two_nodes("one", **more), progress=progress, agents=agents)


def changed(lab: Lab, **more: Any) -> tuple[Lab, list[str]]:
    """The lab afterwards, and what was done: as the plan said, which changed nothing."""
    before = what_is_there(lab)
    planned = Lab.plan(two_nodes("one", **more), agents=NO_AGENTS)
    assert what_is_there(lab) == before
    lines: list[str] = []
    after = up(lines, **more)
    assert lines == planned
    assert Lab.plan(two_nodes("one", **more), agents=NO_AGENTS) == []
    return after, lines


def what_is_there(lab: Lab) -> dict[str, object]:
    """But for what grows by itself, as logs and journals do."""
    grows = (".log", ".jsonl")
    paths = (path for path in lab.folder.path.rglob("*") if path.is_file() and path.suffix not in grows)
    files = {path: path.stat().st_mtime_ns for path in paths}
    return {"files": files, "processes": pids(lab), "record": lab.folder.record()}


def pids(lab: Lab) -> dict[str, int | None]:
    return {one.name: one.pid for one in lab.processes()}


@contextmanager
def downloading(lab: Lab, url: str = DOWNLOAD) -> Iterator[subprocess.Popen[bytes]]:
    """A TCP connection of pod a's, with bytes coming all the time."""
    with lab.pod("a").popen(["curl", "-sSN", url], stdout=subprocess.PIPE) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.read(1)
            yield client
        finally:
            client.kill()


def goes_on(client: subprocess.Popen[bytes]) -> bool:
    """Whether more comes than may have been under way."""
    assert client.stdout is not None
    return len(client.stdout.read(40_000)) == 40_000 and client.poll() is None


def answers(lab: Lab, pod: str, url: str) -> str:
    done = lab.pod(pod).run(["curl", "-sS", "-m", "3", url])
    return done.stdout or done.stderr


def test_a_connection_of_a_pod_that_stays_lives_through_every_kind_of_change() -> None:
    lab = up()
    before = pids(lab)
    with downloading(lab) as client:
        more = {
            "nodes": [{"name": "n0"}, {"name": "n1"}, {"name": "n2"}],
            "pods": [
                {"name": "new", "node": "n0", "program": {"kind": "web"}},
                {"name": "early", "node": "n1"},
                A,
                WEB,
            ],
            "services": [
                {
                    "name": "new",
                    "cluster_ip": "10.96.0.30",
                    "selector": {},
                    "ports": [{"name": "http", "port": 80}],
                }
            ],
            "internet": {"names": {"api.example.com": {"a": [API]}, "b.example.com": {"a": ["192.0.2.9"]}}},
            "policies": [{"inline": "# nothing\n"}],
        }
        after, lines = changed(lab, **more)
        assert lines == [
            "pod other/b removed",
            "node n0 added",
            "pod default/new added",
            "pod default/early added",
            "the Internet's DNS records changed",
            "node n1: Services translated anew",
            "node n2: Services translated anew",
            "manifest namespaces.yaml written",
            "manifest nodes.yaml written",
            "manifest pods.yaml written",
            "manifest services.yaml written",
            "manifest endpointslices.yaml written",
            "manifest inline-1.yaml written",
            "pod/default/new started",
        ]
        assert after.record.pid == lab.record.pid
        assert after.pod("a").address == lab.pod("a").address
        assert goes_on(client)
    assert pids(after).items() >= before.items()
    assert "client: 10.244.0.2:" in answers(after, "a", f"http://{after.pod('new').address}/")
    assert "server: 192.0.2.9:80" in answers(after, "early", "http://192.0.2.9/")
    back, lines = changed(after)
    assert "node n0 removed" in lines
    assert "pod other/b added" in lines
    assert "server: 10.244.1.2:80" in answers(back, "b", "http://10.96.0.20/")


def test_what_is_gone_is_gone_from_the_kernel_and_from_the_disk() -> None:
    lab = up()
    gone = lab.pod("b")
    after, lines = changed(lab, pods=[A, WEB])
    assert lines[0] == "pod other/b removed"
    assert gone.node_iface not in after.node("n1").run(["ip", "link"]).stdout
    assert str(gone.address) not in after.node("n1").run(["ip", "route"]).stdout
    assert not lab.folder.pod("other/b").exists()
    with pytest.raises(LabNotFound, match="no pod b"):
        after.pod("b")


def test_a_handle_from_before_finds_no_pod_and_never_another() -> None:
    lab = up()
    old = lab.pod("b")
    after, _ = changed(lab, pods=[A, WEB, {"name": "new", "node": "n1"}])
    with pytest.raises(LabNotFound, match="other/b is not in the lab"):
        old.run(["true"])
    assert after.pod("new").run(["hostname"]).stdout == "new\n"


def test_a_pod_that_moves_is_rebuilt_and_said() -> None:
    lab = up()
    after, lines = changed(lab, pods=[A, B, {**WEB, "node": "n1"}])
    assert lines[:1] == ["pod default/web rebuilt: it moves from node n2 to n1"]
    assert "server: 10.244.0.4:80" in answers(after, "a", "http://10.96.0.20/")


def recorded(lab: Lab, payload: bytes) -> set[str]:
    """The places in whose record this is, and the names of the links there."""
    found = [(tape, one) for tape, one in tapes.always(OfNamespaces(lab)).packets() if payload in one.data]
    return {f"{tape.place} {tape.links[one.interface]}" for tape, one in found}


def say(lab: Lab, pod: str, payload: bytes) -> None:
    with lab.pod(pod).open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(payload, (API, 9))


def test_what_was_recorded_stays_where_nodes_come_and_go() -> None:
    lab = up()
    say(lab, "web", b"before")
    heard = recorded(lab, b"before")
    web = lab.pod("web").node_iface
    assert {"node/n2 eth0", f"node/n2 {web}", "internet eth0"} <= heard
    nodes = [{"name": name} for name in ("n1", "n2", "n9")]
    more, lines = changed(lab, nodes=nodes, pods=[A, B, WEB, {"name": "c", "node": "n9"}])
    assert lines[0] == "node n9 added"
    say(more, "c", b"of the new one")
    assert recorded(more, b"before") == heard
    assert f"node/n9 {more.pod('c').node_iface}" in recorded(more, b"of the new one")
    without = {"nodes": [{"name": "n1"}, {"name": "n9"}], "pods": [A, B, {"name": "c", "node": "n9"}]}
    fewer, lines = changed(more, **without, services=[])
    assert "node n2 removed" in lines
    assert recorded(fewer, b"before") == heard
    say(fewer, "c", b"rebuilt")
    assert "node/n9 eth0" in recorded(fewer, b"rebuilt")


def captured(lab: Lab) -> set[bytes]:
    """The payloads of all UDP packets, and of nothing else, in the capture that runs."""
    running = tapes.running(OfNamespaces(lab))
    assert running is not None
    return {one.data[42:] for _, one in running.packets()}


def test_a_capture_of_a_pod_goes_with_it_wherever_it_is_made_anew(tmp_path: Path) -> None:
    lab = up()
    assert capturing.run(["start", "other/b"], lab.name, capturing.Typed(filter="udp port 9")) == 0
    said: set[bytes] = set()
    elsewhere, nowhere = {**B, "address": "10.244.0.77"}, [A, WEB]
    for pods in ([A, B, WEB], [A, elsewhere, WEB], [A, {**B, "node": "n2"}, WEB], nowhere, [A, B, WEB]):
        lab = up(pods=pods)
        say(lab, "a", b"of another")
        if pods is not nowhere:
            said.add(f"number {len(said)}".encode())
            say(lab, "b", f"number {len(said) - 1}".encode())
        assert captured(lab) == said
    path = tmp_path / "b.pcapng"
    saving.save(OfNamespaces(lab), tapes.running(OfNamespaces(lab)) or pytest.fail("it was stopped"), path)
    argv = ["tshark", "-r", str(path), "-Y", "udp.port == 9", "-T", "fields", "-e", "frame.interface_name"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert shown == ["other/b/eth0"] * len(said)


def test_where_a_node_in_the_middle_goes_the_last_is_rebuilt_and_said() -> None:
    lab = up(nodes=[{"name": "n1"}, {"name": "n9"}, {"name": "n2"}])
    with downloading(lab) as client:
        after, lines = changed(lab)
        assert goes_on(client)
    assert lines[:3] == [
        "node n9 removed",
        "node n2 rebuilt: its addresses change",
        "pod default/web rebuilt: its address becomes 10.244.1.2",
    ]
    assert "server: 10.244.1.2:80" in answers(after, "a", "http://10.96.0.20/")


def test_another_program_of_a_pod_takes_the_place_of_the_old_one() -> None:
    lab = up()
    changed_web = {**WEB, "program": {"kind": "web", "http_port": 8080}}
    after, lines = changed(lab, pods=[A, B, changed_web])
    assert "pod/default/web restarted: its settings change" in lines
    assert "server: 10.244.1.2:8080" in answers(after, "a", "http://10.244.1.2:8080/")
    assert "connect" in answers(after, "a", "http://10.244.1.2:80/")
    idle, lines = changed(after, pods=[A, B, {"name": "web", "node": "n2"}])
    assert lines[0] == "pod/default/web ended"
    assert "pod/default/web" not in pids(idle)


def test_labels_alone_touch_no_process() -> None:
    lab = up()
    before = pids(lab)
    after, lines = changed(lab, pods=[{**A, "labels": {"app": "a"}}, B, WEB])
    assert lines == ["manifest pods.yaml written"]
    assert pids(after) == before


def latin_1(path: Path) -> None:
    path.write_bytes(b"# caf\xe9\n")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def link_to_a_folder(path: Path) -> None:
    path.unlink()
    path.symlink_to("old")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_a_manifest_is_restored_whatever_stands_in_its_place() -> None:
    lab = up()
    folder = lab.node("n1").manifests
    there = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "old").mkdir()
    for spoil in (latin_1, link_to_itself, link_to_a_folder, pipe, Path.unlink):
        spoil(folder / "pods.yaml")
        _, lines = changed(lab)
        assert lines == ["manifest pods.yaml restored"]
    (folder / "more.yaml").symlink_to("old")
    assert changed(lab)[1] == ["manifest more.yaml removed"]
    assert {path.name: path.read_text() for path in folder.iterdir() if path.is_file()} == there
    folder.rename(folder.with_name("away"))
    assert sorted(changed(lab)[1]) == [f"manifest {name} restored" for name in sorted(there)]


def test_a_folder_in_a_manifest_s_place_is_named_and_nothing_is_changed() -> None:
    lab = up()
    path = lab.node("n1").manifests / "pods.yaml"
    path.unlink()
    path.mkdir()
    for act in (lambda: Lab.plan(two_nodes("one"), agents=NO_AGENTS), up):
        with pytest.raises(InputError, match=f"{path} is a folder"):
            act()
    path.rmdir()
    assert changed(lab)[1] == ["manifest pods.yaml restored"]


def test_a_change_that_fails_is_said_and_the_next_up_goes_on_from_there() -> None:
    lab = up(agents=Agents("fake_agent", "fake_agent"))
    agents = Agents("fake_agent", "fake_agent")
    bad = [{"name": "n1"}, {"name": "n2"}, {"name": "n3", "shim": {"fail": True}}]
    with pytest.raises(ProcessFailed, match="n3/shim ended with exit code 3"):
        up([], agents, nodes=bad)
    failed = Lab.attach("one")
    assert failed.record.pid == lab.record.pid
    assert failed.existing_log("n3/shim").exists()
    lines: list[str] = []
    after = up(lines, agents)
    assert "node n3 removed" in lines
    assert after.record.pid == lab.record.pid
    assert {status.state for status in after.processes()} == {"ready"}


@pytest.mark.parametrize(
    ("in_the_way", "more"),
    [
        ("10.244.0.4/32", {"pods": [A, B, WEB, {"name": "new", "node": "n1"}]}),
        ("10.244.2.0/24", {"nodes": [{"name": "n1"}, {"name": "n2"}, {"name": "n3"}]}),
    ],
)
def test_nothing_half_made_stays_of_a_change_that_fails(in_the_way: str, more: dict[str, Any]) -> None:
    lab = up()
    before, n1 = places_and_links(lab), lab.node("n1")
    assert n1.run(["ip", "route", "add", in_the_way, "dev", "lo"]).returncode == 0
    with pytest.raises(Bug, match="File exists"):
        up([], **more)
    assert n1.run(["ip", "route", "del", in_the_way, "dev", "lo"]).returncode == 0
    assert places_and_links(Lab.attach("one")) == before
    _, lines = changed(Lab.attach("one"), **more)
    assert lines[0].endswith(" added")


def places_and_links(lab: Lab) -> tuple[set[str], str, str]:
    """Which places there are; links and routes of a node that stays."""
    links, routes = (lab.node("n1").run(["ip", "-o", what]).stdout for what in ("link", "route"))
    return set(lab.record.namespaces), links, routes


def test_faults_at_the_start_end_in_a_lab_whose_last_change_failed() -> None:
    agents = Agents("fake_agent", "fake_agent")
    faults = {"faults": ["link lossy web"]}
    up(agents=agents, **faults)
    bad = [{"name": "n1"}, {"name": "n3", "shim": {"fail": True}}]
    with pytest.raises(ProcessFailed, match="n3/shim ended with exit code 3"):
        up([], agents, nodes=bad, pods=[A, B], services=[])
    lines: list[str] = []
    after = up(lines, agents, **faults)
    assert "node n2 added" in lines
    assert {status.state for status in after.processes()} == {"ready"}


def test_what_faults_at_the_start_hold_down_is_nothing_to_repair_in_plan_as_in_deed() -> None:
    agents, faults = Agents("fake_agent", "fake_agent"), {"faults": ["stop shim --node n1"]}
    lab = up(agents=agents, **faults)
    assert lab.process("n1/shim").status().state == "held"
    assert Lab.plan(two_nodes("one", **faults), agents=agents) == []
    lines: list[str] = []
    after = up(lines, agents, **faults)
    assert lines == [
        "lab one is up already and as it should be: nothing changed",
        "stop shim --node n1: until `invoke lab.fault clear`",
    ]
    assert after.process("n1/shim").status().state == "held"


def test_settings_of_one_agent_restart_that_agent_alone() -> None:
    agents = Agents("fake_agent", "fake_agent")
    lab = up(agents=agents)
    before = pids(lab)
    lines: list[str] = []
    nodes = [{"name": "n1", "shim": {"fqdn_gc_interval_s": 7}}, {"name": "n2"}]
    after = up(lines, agents, nodes=nodes)
    assert lines == ["n1/shim restarted: its settings change"]
    now = pids(after)
    assert {name for name in now if now[name] != before[name]} == {"n1/shim"}
    assert "fqdn_gc_interval_s = 7" in (after.folder.node("n1") / "shim.toml").read_text()


def test_a_policy_that_comes_with_a_pod_binds_it_from_the_start_and_cuts_nobody_else() -> None:
    """With the real agents: the new pod's policy is in force, and the old pod's connection goes on."""
    policy = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: closed, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: closed}}
  egress: [{}]
"""
    lab = up(agents=Agents())
    with downloading(lab) as client:
        closed = {"name": "closed", "node": "n1", "labels": {"app": "closed"}}
        after = up([], Agents(), pods=[closed, A, B, WEB], policies=[{"inline": policy}])
        assert "timed out" in answers(after, "closed", f"http://{API}/").lower()
        assert "server: " in answers(after, "b", f"http://{API}/")
        assert goes_on(client)
    again: list[str] = []
    open_again = up(again, Agents(), pods=[closed, A, B, WEB])
    assert again == ["manifest inline-1.yaml removed"]
    until(lambda: "server: " in answers(open_again, "closed", f"http://{API}/"), "it is open again", 10)


def link_tables(lab: Lab) -> list[str]:
    """Of all nodes: what loses packets of links."""
    rulesets = (lab.node(name).run(["nft", "list", "tables"]).stdout for name in ("n1", "n2"))
    return [line for text in rulesets for line in text.splitlines() if "lab_link_" in line]


def test_links_get_worse_and_good_again_in_place() -> None:
    lab = up()
    worse, lines = changed(lab, links=[{"of": "a", "loss": 0.5}])
    assert lines == ["link of a gets worse"]
    assert len(link_tables(worse)) == 1
    slow, lines = changed(worse, links=[{"of": "a", "rate_kbit": 64}])
    assert lines == ["link of a changes"]
    assert link_tables(slow) == []
    assert "tbf" in slow.pod("a").run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    good, lines = changed(slow)
    assert lines == ["link of a is as good as any again"]
    assert "tbf" not in good.pod("a").run(["tc", "qdisc", "show", "dev", "eth0"]).stdout


def test_a_pod_that_moves_leaves_no_bad_link_behind() -> None:
    lab = up(links=[{"of": "a", "loss": 0.5}])
    moved = {"pods": [{"name": "a", "node": "n2"}, B, WEB], "links": [{"of": "a", "loss": 0.5}]}
    there, _ = changed(lab, **moved)
    assert len(link_tables(there)) == 1
    back, _ = changed(there)
    assert link_tables(back) == []


def test_the_plan_of_a_lab_that_is_not_there_names_all_that_will_be() -> None:
    agents = Agents("fake_agent", "fake_agent")
    planned = Lab.plan(two_nodes("one", pods=[WEB, A]), agents=agents)
    assert list_labs() == []
    lab = up(pods=[WEB, A], agents=agents)
    assert {line.removesuffix(" started") for line in planned if line.endswith(" started")} == {
        one.name for one in lab.processes()
    }
    for line in ("node n1 added", "pod default/web added", "manifest pods.yaml written"):
        assert line in planned
