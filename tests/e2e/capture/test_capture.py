"""Captures of a lab, read with Debian's tshark: what a pod did, and beside each packet what was decided."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.capture import saving, tapes
from lab.capture.of_namespaces import OfNamespaces
from lab.runtime.lab import Lab

from ...waiting import until
from ..seeing.commands import invoke

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[3]
ALLOWED, DENIED, DENIED_ADDRESS = "api.example.com", "evil.example.org", "198.51.100.99"


@dataclass(frozen=True, slots=True)
class File:
    """A saved capture."""

    path: Path
    saved: saving.Saved

    def find(self, wanted: str, *fields: str) -> list[list[str]]:
        """The fields of all packets that a display filter finds; tshark must have nothing to say."""
        options = [option for field in fields for option in ("-e", field)]
        argv = ["tshark", "-r", str(self.path), "-Y", wanted, "-T", "fields", *options]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        said = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
        assert (done.returncode, said) == (0, [])
        return [line.split("\t") for line in done.stdout.splitlines()]

    def interfaces(self) -> list[str]:
        done = subprocess.run(["capinfos", str(self.path)], capture_output=True, text=True, check=True)
        lines = (line.strip() for line in done.stdout.splitlines())
        return [line.removeprefix("Name = ") for line in lines if line.startswith("Name = ")]


def written(lab: Lab, file: str, *wanted: str) -> bool:
    """Whether an agent has written down such a line."""
    path = lab.folder.node("node1") / file
    lines = path.read_text().splitlines() if path.exists() else []
    return any(all(word in line for word in wanted) for line in lines)


@pytest.fixture(scope="module")
def file(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> File:
    """What is always recorded, after one allowed and one denied name, a connection and a dropped one."""
    frontend = lab.pod("frontend")
    assert frontend.run(["dig", "+short", ALLOWED]).returncode == 0
    assert "REFUSED" in frontend.run(["dig", DENIED]).stdout
    assert frontend.run(["curl", "-sS", f"https://{ALLOWED}/"]).returncode == 0
    assert frontend.run(["curl", "-s", "-m", "1", f"http://{DENIED_ADDRESS}/"]).returncode == 28
    until(lambda: written(lab, "flows.jsonl", "DROPPED", DENIED_ADDRESS))
    until(lambda: written(lab, "flows.jsonl", "FORWARDED", '"destination_port":443'))
    until(lambda: written(lab, "resolver-journal.jsonl", "dns.answer", ALLOWED))
    # The recorder's last packet is later than all of it.
    frontend.run(["dig", "+short", DENIED])
    path = tmp_path_factory.mktemp("capture") / "saved.pcapng"
    return File(path, saving.save(OfNamespaces(lab), tapes.always(OfNamespaces(lab)), path))


def test_a_query_stands_with_policy_rule_and_place_and_what_it_has_opened(file: File) -> None:
    (first, *_) = file.find(
        f'frame.comment contains "query {ALLOWED} A"', "frame.interface_name", "frame.comment"
    )
    assert first[0] == "frontend/eth0"
    assert first[1].startswith(f"query {ALLOWED} A → allowed by default/frontend egress[0] frontend.yaml:")
    assert "→ set +198.51.100.10 +198.51.100.11 +198.51.100.12 60 s" in first[1]


def test_a_refused_query_says_by_whom_and_is_the_query_itself(file: File) -> None:
    found = file.find(
        f'frame.comment contains "query {DENIED}"', "dns.qry.name", "dns.flags.response", "frame.comment"
    )
    assert {tuple(one[:2]) for one in found} == {(DENIED, "0")}
    assert all("refused: not allowed by default/frontend" in one[2] for one in found)
    asked = file.find(f'dns.qry.name == "{DENIED}" && frame.interface_name == "frontend/eth0"', "dns.id")
    assert len(asked) == 2 * len(found)  # each with its reply


def test_a_dropped_packet_says_why(file: File) -> None:
    fields = ("frame.interface_name", "ip.dst", "tcp.flags.syn", "frame.comment")
    (first, *_) = file.find('frame.comment contains "dropped, POLICY_DENIED"', *fields)
    assert first[:3] == ["frontend/eth0", DENIED_ADDRESS, "1"]
    assert "not allowed by default/frontend frontend.yaml:" in first[3]


def test_a_connection_says_which_rule_let_it_through_at_its_first_packet(file: File) -> None:
    wanted = (
        f'frame.comment contains "egress {ALLOWED}" && frame.comment contains "allowed by default/frontend"'
    )
    (first, *_) = file.find(wanted, "tcp.flags.syn", "tcp.flags.ack", "tcp.dstport")
    assert first == ["1", "0", "443"]


def test_every_link_is_an_interface_and_so_is_each_agent(file: File) -> None:
    wanted = {"frontend/eth0", "kube-system/kube-dns/eth0", "node1/eth0", "node1/lo", "internet/eth0"}
    assert wanted | {"node1/resolver", "node1/shim"} <= set(file.interfaces())


def test_a_packet_leaves_the_pod_whose_link_it_is_on(file: File) -> None:
    field = "frame.packet_flags_direction"
    left = file.find(f'frame.comment contains "query {DENIED}"', field)
    assert {int(one[0], 0) for one in left} == {2}
    came = file.find(f'frame.comment contains "answer {ALLOWED}"', field)
    assert {int(one[0], 0) for one in came} == {1}


def test_what_is_about_no_packet_stands_by_itself_as_json(file: File) -> None:
    found = file.find(
        'json && frame.comment contains "mapping.committed"', "frame.interface_name", "frame.comment"
    )
    assert sorted({one[0] for one in found}) == ["node1/shim"]
    assert any(ALLOWED in one[1] for one in found)


def test_addresses_have_the_names_of_pods_and_domains(file: File) -> None:
    argv = ["tshark", "-N", "n", "-r", str(file.path), "-Y", "tcp.flags.syn == 1 && tcp.dstport == 80"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert f"frontend → {DENIED}" in said


def test_nothing_was_lost_and_the_file_is_for_its_owner_alone(file: File) -> None:
    assert (file.saved.lost, file.saved.not_written) == (0, 0)
    assert file.saved.comments >= 4
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


# --- a capture of one's own ---------------------------------------------------------------------------------


@pytest.fixture
def started(lab: Lab) -> Iterator[Callable[..., None]]:
    def start(*arguments: str) -> None:
        done = invoke(lab, "lab.capture", "start", *arguments)
        assert done.returncode == 0, done.stderr

    yield start
    invoke(lab, "lab.capture", "stop")
    OfNamespaces(lab).kept_file.unlink(missing_ok=True)


def saved(lab: Lab, path: Path) -> File:
    done = invoke(lab, "lab.capture", "save", "--output", str(path), "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["version"] == 1
    return File(path, saving.Saved(**value["saved"]))


def test_a_capture_at_one_link_with_a_filter_has_that_and_whole_packets(
    lab: Lab, started: Callable[..., None], tmp_path: Path
) -> None:
    started("legacy", "--filter", "tcp port 80")
    for pod in ("legacy", "web"):
        assert lab.pod(pod).run(["curl", "-sS", f"http://{ALLOWED}/"]).returncode == 0
    found = saved(lab, tmp_path / "own.pcapng")
    links = {tuple(one) for one in found.find("tcp", "frame.interface_name", "tcp.port")}
    assert {link for link, _ in links} == {"legacy/eth0"}
    assert all("80" in ports.split(",") for _, ports in links)
    assert found.find("tcp && frame.cap_len < frame.len", "frame.number") == []


def test_the_status_of_a_capture_counts_what_it_has_heard_and_lost(
    lab: Lab, started: Callable[..., None]
) -> None:
    started("legacy", "--filter", "tcp port 80")
    assert lab.pod("legacy").run(["curl", "-sS", f"http://{ALLOWED}/"]).returncode == 0
    said = invoke(lab, "lab.capture", "status").stdout.splitlines()[-1]
    counted = re.fullmatch(
        r"a capture runs, filter: tcp port 80: (\d+) packets heard, 0 lost, 0 given up for newer ones", said
    )
    assert counted, said
    assert int(counted[1]) >= 6, "a connection has so many packets"
    (of_link,) = json.loads(invoke(lab, "lab.capture", "status", "--json").stdout)["status"]["started_counts"]
    assert (of_link["pod"], of_link["dropped"]) == ("default/legacy", 0)


def test_what_was_decided_while_no_packet_came_is_in_a_capture_too(
    lab: Lab, started: Callable[..., None], tmp_path: Path
) -> None:
    name = "while-nothing-came.example.org"
    started("internet", "--filter", "udp port 9")
    lab.pod("frontend").run(["dig", name])
    until(lambda: written(lab, "resolver-journal.jsonl", "dns.query", name))
    found = saved(lab, tmp_path / "silent.pcapng")
    assert (found.saved.packets, found.saved.comments) == (0, 0)
    said = found.find(f'frame.comment contains "query {name}"', "frame.interface_name", "frame.comment")
    assert said[0][0] == "node1/resolver"
    assert "refused" in said[0][1]


def test_what_was_stopped_is_kept_for_root_alone_until_it_is_saved(
    lab: Lab, started: Callable[..., None], tmp_path: Path
) -> None:
    started("internet")
    assert lab.pod("legacy").run(["curl", "-sS", f"http://{ALLOWED}/"]).returncode == 0
    assert invoke(lab, "lab.capture", "stop").returncode == 0
    kept = OfNamespaces(lab).kept_file
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    again = invoke(lab, "lab.capture", "start")
    assert (again.returncode, "not saved yet" in again.stderr) == (2, True)
    assert saved(lab, tmp_path / "kept.pcapng").find("tcp.port == 80", "frame.number")
    assert not kept.exists()
    assert "frontend/eth0" in saved(lab, tmp_path / "always.pcapng").interfaces()


def test_what_cannot_be_meant_is_said_and_does_nothing(lab: Lab, tmp_path: Path) -> None:
    for words, exit_code, text in (
        (("strat",), 2, "did you mean 'start'?"),
        (("start", "--filter", "prt 80"), 2, "is no capture filter"),
        (("start", "nobody"), 2, "no pod nobody"),
        (("stop",), 2, "no capture was started"),
        (("save", "--output", str(tmp_path / "no" / "x.pcapng")), 2, "--output"),
    ):
        done = invoke(lab, "lab.capture", *words)
        assert (done.returncode, text in done.stderr) == (exit_code, True), done.stderr


def test_a_recorder_that_dies_is_started_again_and_records(lab: Lab) -> None:
    recorder = lab.process("lab/recorder")
    before = recorder.pid
    recorder.kill()
    until(lambda: recorder.pid not in (None, before))
    recorder.wait_ready()
    lab.pod("legacy").run(["dig", "+short", ALLOWED])
    assert tapes.always(OfNamespaces(lab)).packets()
