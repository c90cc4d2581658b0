"""Nothing of a lab is left: not after `lab.down`, not when what brought it up or what holds it is killed.

All with real agents, and judged by what the kernel has: processes, network namespaces, links, rules, mounts,
files. Meanwhile a second lab, with the same topology and so the same addresses, goes on with a download that
must not be cut, and so does a foreign namespace which looks as much like the lab's as it can: the name of the
lab, the link of one of its pods, a table called `acns`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.capture.tap import Frame, Tap
from lab.runtime import state
from lab.runtime.handles import Inside, PodHandle
from lab.runtime.lab import Lab, list_labs
from lab.spec.load import find_topology, load_topology
from lab.spec.plan import Addressing

from ...waiting import until
from . import traces

REPOSITORY = Path(__file__).parents[3]
NAME = f"t{os.getpid()}"
MARK = "ACNS_TEST_TRACE"
PATIENCE_S = 30.0
POD = "frontend"
API = {"198.51.100.10", "198.51.100.11", "198.51.100.12"}
DOWNLOAD = "https://shared.example.com/download?bytes=2000000000&rate=20000"


# --- those who must not notice ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A second lab, in use."""

    lab: Lab
    download: subprocess.Popen[str]

    def snapshot(self) -> dict[str, object]:
        """What changes when anybody does anything to the lab."""
        processes = {one.name: (one.pid, one.state, one.restarts) for one in self.lab.processes()}
        return {
            "holder": self.lab.folder.record(),
            "processes": processes,
            "namespaces": traces.namespaces_of_lab(self.lab),
            "ruleset": [traces.generation(node) for node in self.lab.nodes],
            "files": {path: _version(path) for path in self.lab.folder.path.rglob("*")},
        }

    def downloads_on(self) -> bool:
        """More of the download arrives at the pod."""
        with tapped(self.lab.pod(POD)) as cable:
            cable.wait_for(lambda frame: not frame.outgoing and len(frame.data) > 500, PATIENCE_S)
        return self.download.poll() is None


def _version(path: Path) -> tuple[int, int] | None:
    """Changes when the file is written; of what grows by itself (logs) only that it is there counts."""
    if path.suffix in (".log", ".jsonl"):
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Foreign:
    """Somebody else's network namespace."""

    name: str
    inhabitant: subprocess.Popen[bytes]

    def snapshot(self) -> dict[str, object]:
        inside = ("ip", "netns", "exec", self.name)
        with open(f"/run/netns/{self.name}") as opened:
            cookie = traces.cookie(opened.fileno())
        return {
            "cookie": cookie,
            "links": traces.output(*inside, "ip", "-o", "link"),
            "rules": traces.output(*inside, "ip", "rule"),
            "nftables": traces.output(*inside, "nft", "list", "ruleset"),
            "inhabitant": self.inhabitant.poll(),
        }


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    lab = Lab.up("quickstart", name=f"{NAME}-other")
    try:
        download = lab.pod(POD).popen(["curl", "-sS", "-o", "/dev/null", DOWNLOAD], text=True)
        yield Neighbour(lab, download)
    finally:
        lab.down()


@pytest.fixture(scope="module")
def foreign() -> Iterator[Foreign]:
    had_folder = Path("/run/netns").exists()
    link = Addressing.of(load_topology(find_topology("quickstart"))).pod(POD).node_interface
    ip = ("ip", "-n", NAME)
    traces.output("ip", "netns", "add", NAME)
    try:
        traces.output(*ip, "link", "add", link, "type", "veth", "peer", "name", "eth0")
        traces.output(*ip, "rule", "add", "pref", "9", "fwmark", "0x200/0xf00", "lookup", "2005")
        table = "table inet acns { chain c { type filter hook input priority 0; tcp dport 1 drop; }; }"
        traces.output("ip", "netns", "exec", NAME, "nft", "-f", "-", stdin=table)
        inhabitant = subprocess.Popen(["ip", "netns", "exec", NAME, "sleep", "1000"])
        yield Foreign(NAME, inhabitant)
        inhabitant.kill()
        inhabitant.wait()
    finally:
        traces.output("ip", "netns", "del", NAME)
        if not had_folder and not any(Path("/run/netns").iterdir()):
            # What `ip netns add` makes on its first use, and keeps.
            traces.output("umount", "/run/netns")
            Path("/run/netns").rmdir()


@pytest.fixture
def untouched(neighbour: Neighbour, foreign: Foreign) -> Iterator[None]:
    """Whatever the test does, it does to its own lab alone, and to the machine's own namespaces nothing."""
    before = neighbour.snapshot(), foreign.snapshot(), traces.root_namespace()
    yield
    assert (neighbour.snapshot(), foreign.snapshot(), traces.root_namespace()) == before
    assert neighbour.downloads_on()


# --- the lab that goes --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Upcoming:
    """`invoke lab.up` of a lab, in a process of its own, with a folder of its own for whatever it leaves."""

    process: subprocess.Popen[str]
    mark: str
    scratch: Path
    said: list[str] = field(default_factory=list)

    def processes(self) -> set[traces.Process]:
        return traces.processes_with(self.mark)

    def starts(self, module: str, after: str = "") -> None:
        """Wait for a process that runs this module, which is not there before that line of progress."""
        if after:
            self.says(after)
        until(
            lambda: any(f" -m {module}" in process.command for process in self.processes()),
            f"{module} runs",
            PATIENCE_S,
        )

    def says(self, line: str) -> None:
        """Wait for a line of progress."""
        assert self.process.stderr is not None
        while not self.said or not self.said[-1].startswith(line):
            text = self.process.stderr.readline()
            assert text, f"lab.up ended without '{line}': {self.said}"
            self.said.append(text)


@contextmanager
def coming_up(scratch: Path) -> Iterator[Upcoming]:
    mark = f"{MARK}={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    environment = {**os.environ, name: value, "TMPDIR": str(scratch), "HOME": str(scratch)}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), environment.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "invoke", "lab.up", "--name", NAME],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Upcoming(process, mark, scratch)
        finally:
            process.kill()


def down() -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "invoke", "lab.down", "--name", NAME]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


def assert_nothing_left(mark: str, namespaces: set[int], scratch: Path) -> None:
    assert traces.processes_with(mark) == set()
    assert namespaces & traces.namespaces_of_the_machine() == set()
    assert not state.folder_of(NAME).path.exists()
    assert list(scratch.rglob("*")) == []


MOMENTS: dict[str, Callable[[Upcoming], object]] = {
    "the lab has a folder": lambda up: until(
        lambda: state.folder_of(NAME).path.exists(), "the folder", PATIENCE_S
    ),
    "the holder runs": lambda up: up.starts("lab.runtime.holder"),
    "the network is made": lambda up: up.says("network: "),
    "the agents start": lambda up: up.starts("acns.shim", after="certificates"),
    "the agents are ready": lambda up: up.says("the Internet"),
    "the truth table is tried": lambda up: up.starts("lab.world.probe", after=f"lab {NAME} is up ("),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_killing_what_brings_a_lab_up_and_then_down_leaves_nothing(
    moment: Callable[[Upcoming], object], tmp_path: Path
) -> None:
    with coming_up(tmp_path) as up:
        moment(up)
        namespaces = traces.namespaces_of(up.processes())
        up.process.send_signal(signal.SIGKILL)
    done = down()
    assert done.returncode == 0, done.stderr
    assert_nothing_left(up.mark, namespaces, tmp_path)


@pytest.mark.usefixtures("untouched")
def test_a_lab_whose_maker_is_killed_when_it_is_up_stays_up_until_down(tmp_path: Path) -> None:
    with coming_up(tmp_path) as up:
        up.says(f"lab {NAME} is up (")
        up.process.send_signal(signal.SIGKILL)
    lab = Lab.attach(NAME)
    lab.wait_settled()
    answer = curl(lab.pod(POD), "https://api.example.com/")
    assert "host: api.example.com" in answer.stdout, answer.stderr
    namespaces = traces.namespaces_of_lab(lab)
    assert len(namespaces) == len(lab.record.namespaces)
    assert namespaces <= traces.namespaces_of_the_machine()
    assert down().returncode == 0
    assert_nothing_left(up.mark, namespaces, tmp_path)


@pytest.mark.usefixtures("untouched")
def test_killing_the_holder_leaves_a_folder_and_down_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, mark = marked_lab(monkeypatch)
    namespaces = traces.namespaces_of_lab(lab)
    os.kill(lab.record.pid, signal.SIGKILL)
    until(lambda: not lab.record.alive(), "the holder has ended", PATIENCE_S)
    assert traces.processes_with(mark) == set()
    until(lambda: not namespaces & traces.namespaces_of_the_machine(), "its namespaces are gone", PATIENCE_S)
    assert [lab.state for lab in list_labs() if lab.name == NAME] == ["broken"]
    assert down().returncode == 0
    assert_nothing_left(mark, namespaces, tmp_path)


@pytest.mark.usefixtures("untouched")
def test_down_of_a_lab_in_use_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command runs in a pod, an agent is held, a manifest has been added, names have been changed."""
    lab, mark = marked_lab(monkeypatch)
    namespaces = traces.namespaces_of_lab(lab)
    command = lab.pod(POD).popen(["sleep", "1000"], env={MARK: mark.partition("=")[2]})
    # A lab is not gone before the parents of its commands have collected them: wait for this one meanwhile.
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(command.wait, PATIENCE_S)
        lab.nodes[0].resolver.hold()
        lab.write_manifest("more.yaml", "kind: Nonsense\n")
        lab.set_names({})
        assert down().returncode == 0
        assert ended.result() == -signal.SIGKILL
    assert_nothing_left(mark, namespaces, tmp_path)


@pytest.mark.usefixtures("untouched")
def test_up_over_a_lab_that_was_half_made_makes_it_whole(tmp_path: Path) -> None:
    with coming_up(tmp_path) as half:
        half.says("network: ")
        half.process.send_signal(signal.SIGKILL)
    said: list[str] = []
    lab = Lab.up("quickstart", NAME, said.append)
    try:
        assert f"removing what an unfinished or dead lab {NAME} left" in said
        assert traces.processes_with(half.mark) == set()
        assert {one.state for one in lab.processes()} == {"ready"}
        answer = curl(lab.pod(POD), "https://api.example.com/")
        assert "host: api.example.com" in answer.stdout, answer.stderr
    finally:
        lab.down()


def marked_lab(monkeypatch: pytest.MonkeyPatch) -> tuple[Lab, str]:
    """A whole lab, whose processes bear the mark."""
    value = str(uuid.uuid4())
    with monkeypatch.context() as patch:
        patch.setenv(MARK, value)
        return Lab.up("quickstart", NAME), f"{MARK}={value}"


# --- labs that stay -----------------------------------------------------------------------------------------


def test_a_second_up_changes_no_process_no_rule_and_no_file_and_says_so(neighbour: Neighbour) -> None:
    said: list[str] = []
    before = neighbour.snapshot()
    Lab.up("quickstart", neighbour.lab.name, said.append)
    assert said == [f"lab {neighbour.lab.name} is up already and as it should be: nothing changed"]
    assert neighbour.snapshot() == before
    assert neighbour.downloads_on()


@pytest.fixture(scope="module")
def twin(neighbour: Neighbour) -> Iterator[Lab]:
    """The same topology a second time."""
    lab = Lab.up("quickstart", NAME)
    try:
        yield lab
    finally:
        lab.down()


def test_labs_with_equal_addresses_do_not_see_each_others_packets(neighbour: Neighbour, twin: Lab) -> None:
    assert twin.pod(POD).address == neighbour.lab.pod(POD).address
    with tapped(twin.pod(POD)) as cable, tapped(twin.internet) as internet, tapped(twin.nodes[0]) as uplink:
        taps = (cable, internet, uplink)
        answer = curl(neighbour.lab.pod(POD), "https://www.example.com/")
        assert "host: www.example.com" in answer.stdout, answer.stderr
        assert [ipv4(tap) for tap in taps] == [[], [], []]
        # The taps do see what is their own lab's.
        curl(twin.pod(POD), "https://www.example.com/")
        assert all(ipv4(tap) for tap in taps)


def test_what_one_lab_learns_opens_nothing_in_the_other(neighbour: Neighbour, twin: Lab) -> None:
    curl(twin.pod(POD), "https://api.example.com/")
    assert API & set(twin.nodes[0].ruleset().split()) == API
    assert API & set(neighbour.lab.nodes[0].ruleset().split()) == set()


def test_a_policy_taken_from_one_lab_stays_in_force_in_the_other(neighbour: Neighbour, twin: Lab) -> None:
    twin.remove_manifest("frontend.yaml")
    until(lambda: asks_freely(twin.pod(POD)), "the one is free", PATIENCE_S)
    assert not asks_freely(neighbour.lab.pod(POD))


def ipv4(tap: Tap) -> list[Frame]:
    """The IPv4 packets on a tap; a fresh IPv6 interface speaks by itself, and a bridge over IGMP."""
    packets = (frame for frame in tap.frames() if frame.data[12:14] == b"\x08\x00")
    return [frame for frame in packets if frame.data[23] != socket.IPPROTO_IGMP]


def curl(pod: PodHandle, url: str) -> subprocess.CompletedProcess[str]:
    return pod.run(["curl", "-sS", url])


def asks_freely(pod: PodHandle) -> bool:
    return "status: NOERROR" in pod.run(["dig", "+tries=1", "+time=2", "evil.example.org"]).stdout


@contextmanager
def tapped(place: Inside) -> Iterator[Tap]:
    namespace = place.netns_fd()
    try:
        tap = Tap(namespace, "eth0")
    finally:
        os.close(namespace)
    with tap:
        yield tap
